"""Sales in bare `orders.place`, with the audit trail, without capture and without all of it.

`python -m benchmarks.sales ROUNDS SALES` in the service's environment, on the bench's own database. Nothing
of HTTP is in it. The three alternate, in one process and one backend each; printed as JSON: processor
milliseconds of this process and of its backend for each sale, and sales per second of one client.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import django

from benchmarks import processes, unaudited
from benchmarks.unaudited import State

if TYPE_CHECKING:
    from finance.order_form import OrderForm
    from mestore.lib.actor import Actor

WARM = 30
ADDRESS = "203.0.113.7"


def main() -> None:
    """Measure and print."""
    django.setup()
    rounds, sales = int(sys.argv[1]), int(sys.argv[2])
    vendors = vendors_known()
    found: dict[State, list[dict[str, float]]] = {state: [] for state in unaudited.STATES}
    try:
        for number in range(rounds):
            turn = number % len(unaudited.STATES)
            for state in unaudited.STATES[turn:] + unaudited.STATES[:turn]:
                unaudited.switch(state)
                sell(vendors, WARM)
                found[state].append(sell(vendors, sales))
    finally:
        unaudited.switch("audit")
    sys.stdout.write(json.dumps(found) + "\n")


def sell(vendors: list[str], sales: int) -> dict[str, float]:
    """Place so many orders as the storefront's machine account would over HTTP."""
    from finance import orders
    from monitoring import context

    by, forms = storefront(), [form(vendors[n % len(vendors)]) for n in range(sales)]
    backend = _backend()
    cpu, server, began = time.process_time(), processes.exact_seconds(backend), time.perf_counter()
    with context.acting(by):
        for one in forms:
            orders.place(one, key=uuid4().hex, by=by)
    return {
        "per_second": sales / (time.perf_counter() - began),
        "process_ms": (time.process_time() - cpu) * 1_000 / sales,
        "postgresql_ms": (processes.exact_seconds(backend) - server) * 1_000 / sales,
    }


def storefront() -> Actor:
    """Return who places orders over HTTP: a machine account."""
    from mestore.lib.actor import Actor

    return Actor(
        kind="machine", id=str(uuid4()), role="SYSTEM", address=ADDRESS, session_id=str(uuid4()),
        request_id=f"req_{uuid4().hex}",
    )  # fmt: skip


def form(vendor: str) -> OrderForm:
    """Return a paid order of one item."""
    from finance import order_form
    from mestore.lib.http import dumps, parse_json

    reference = uuid4().hex
    body = {
        "currency": "BRL", "external_reference": reference, "buyer_reference": "buyer",
        "items": [
            {
                "product_id": "bench", "vendor_id": vendor, "name": "A thing", "unit_price": "100.00",
                "quantity": 1,
            }
        ],
        "shipping_name": "A buyer", "shipping_phone": "+573001234567", "shipping_address": "Calle 1 2-3",
        "shipping_city": "Bogota", "shipping_state": "DC",
        "payment": {"provider": "bench", "reference": reference, "status": "approved"},
    }  # fmt: skip
    return order_form.read(parse_json(dumps(body)))


def vendors_known() -> list[str]:
    """Return vendors that have sold something."""
    from finance.models import Commission

    return [str(found) for found in Commission.objects.values_list("vendor_id", flat=True).distinct()[:100]]


def _backend() -> int:
    """The process that serves this one: the pool has one connection for one thread."""
    from mestore.lib import sql

    return int((sql.fetch_one("SELECT pg_backend_pid()") or (0,))[0])


if __name__ == "__main__":
    main()
