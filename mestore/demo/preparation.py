"""Fill the demo's database: `python -m mestore.demo.preparation --result FILE`, run by running.py.

Migrate, create people, load orders. It may be killed at any moment and run again: people are created in one
transaction whose outcome is written before it commits, an import of the same files changes nothing, made-up
orders are counted.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any


def main(arguments: list[str]) -> int:
    """Prepare; the exit code."""
    parser = ArgumentParser("mestore.demo.preparation")
    parser.add_argument("--result", type=Path, required=True, help="file for the people's credentials")
    parser.add_argument("--orders", type=int, default=None)
    options = parser.parse_args(arguments)

    import django

    django.setup()
    from django.core.management import call_command

    from mestore.demo import people, sample_orders

    with _Step("Creating the schema"):
        call_command("migrate", verbosity=0)
    with _Step("Creating people and the storefront's machine account"):
        created = people.create(options.result)
    with _Step("Loading orders") as step:
        step.outcome = sample_orders.load(created, options.orders, rejects=options.result.parent)
    return 0


class _Step:
    """Says what begins, and how long it took."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.outcome = ""

    def __enter__(self) -> _Step:
        self.began = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None:
            seconds = time.monotonic() - self.began
            extra = f": {self.outcome}" if self.outcome else ""
            sys.stderr.write(f"{self.title}{extra} ({seconds:.1f} s)\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
