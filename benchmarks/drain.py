"""`python -m benchmarks.drain` in the service's environment: everything that waits gets its place."""

from __future__ import annotations

import django


def main() -> None:
    """Do it."""
    django.setup()
    from monitoring import sequencer

    sequencer.drain()


if __name__ == "__main__":
    main()
