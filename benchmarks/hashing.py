"""The password hash alone, with the service's parameters, in as many processes as the service has workers.

Prints the processor seconds and the seconds of one verification: the least that a sign-in can cost.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time

import django

PROCESSES = 2


def _verify(seconds: float, results: multiprocessing.SimpleQueue[tuple[int, float, float]]) -> None:
    from django.contrib.auth.hashers import check_password, make_password

    stored = make_password("bench")
    check_password("bench", stored)
    count, processor, began = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - began < seconds:
        check_password("bench", stored)
        count += 1
    results.put((count, time.process_time() - processor, time.perf_counter() - began))


def main() -> None:
    """Measure for the number of seconds given as argument."""
    django.setup()
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    workers = [context.Process(target=_verify, args=(float(sys.argv[1]), results)) for _ in range(PROCESSES)]
    for worker in workers:
        worker.start()
    found = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    count = sum(part[0] for part in found)
    said = {
        "cpu_seconds": sum(part[1] for part in found) / count,
        "seconds": sum(part[2] for part in found) / count,
    }
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
