"""Writers for the soak: `python -m benchmarks.writers THREADS SECONDS` in the service's environment.

Each places orders one after the other, until the time is over, on a connection of its own. Prints as JSON how
many, and what went wrong.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from uuid import uuid4

import django


def main() -> None:
    """Write and print."""
    django.setup()
    threads, seconds = int(sys.argv[1]), float(sys.argv[2])
    sold: Counter[str] = Counter()
    end = time.monotonic() + seconds
    running = [threading.Thread(target=_write, args=(sold, end, number)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    sys.stdout.write(json.dumps({"sold": sold.pop("sold", 0), "errors": sold}) + "\n")


def _write(sold: Counter[str], end: float, number: int) -> None:
    from django.db import connections

    from benchmarks import sales
    from finance import orders
    from monitoring import context

    vendors, by = sales.vendors_known(), sales.storefront()
    with context.acting(by):
        while time.monotonic() < end:
            try:
                orders.place(sales.form(vendors[number % len(vendors)]), key=uuid4().hex, by=by)
                sold["sold"] += 1
            except Exception as error:  # noqa: BLE001 - whatever goes wrong is what is counted
                sold[type(error).__name__] += 1
            number += 1
    connections.close_all()


if __name__ == "__main__":
    main()
