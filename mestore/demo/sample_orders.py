"""The demo's orders: the marketplace's files when there are any, and in any case some of its own vendors."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command

from finance import order_form, orders
from mestore.lib.actor import Actor
from mestore.lib.http import parse_json
from sessions_security.models import MachineClient

FILES = {
    "orders": "olist_orders.csv",
    "items": "olist_order_items.csv",
    "payments": "olist_order_payments.csv",
    "sellers": "olist_sellers.csv",
}
CURRENCY_OF_FILES = "BRL"
WITH_FILES, WITHOUT_FILES = 60, 300
# Product, category, price in pesos.
PRODUCTS = (
    ("Ruana de lana", "ropa", 189_000),
    ("Mochila tejida", "accesorios", 145_000),
    ("Café de altura, 500 g", "alimentos", 42_500),
    ("Taza de cerámica", "hogar", 28_900),
    ("Hamaca de algodón", "hogar", 219_900),
    ("Sombrero vueltiao", "accesorios", 98_000),
)
CITIES = (
    ("Bogotá", "Cundinamarca"),
    ("Medellín", "Antioquia"),
    ("Cali", "Valle del Cauca"),
    ("Pasto", "Nariño"),
)
UNPAID_SHARE = 0.15


def load(people: dict[str, Any], count: int | None, *, rejects: Path) -> str:
    """Load orders and say what was loaded. A `count` asks for made-up ones only.

    Repeating it changes nothing: the import knows its orders, and made-up ones have their number as
    idempotency key.
    """
    folder = Path(settings.SAMPLE_DATA or "-")
    outcome = []
    if count is None:
        has_files = all((folder / name).is_file() for name in FILES.values())
        count = WITH_FILES if has_files else WITHOUT_FILES
        if has_files:
            outcome.append(_import(folder, rejects / "import-rejects.csv"))
    _make_up(people, count)
    outcome.append(f"{count} made up, in COP")
    return ", ".join(outcome)


def _import(folder: Path, rejects: Path) -> str:
    files = [f"--{option}={folder / name}" for option, name in FILES.items()]
    output = io.StringIO()
    try:
        call_command(
            "import_orders",
            *files,
            f"--currency={CURRENCY_OF_FILES}",
            f"--rejects={rejects}",
            "--json",
            stdout=output,
        )
    except SystemExit as end:
        # Rejected lines are no failure of the demo: they are in the file that the command names.
        if not output.getvalue():
            raise RuntimeError(f"import_orders ended with {end.code}") from end
    result = json.loads(output.getvalue().splitlines()[-1])
    return f"{result['orders']} imported, worth {result['gross']} {result['currency']}"


def _make_up(people: dict[str, Any], count: int) -> None:
    client = MachineClient.objects.select_related("user").get(client_id=people["storefront"]["client_id"])
    by = Actor(
        kind="machine", id=str(client.user.pk), label=client.client_id, role="SYSTEM", address="127.0.0.1"
    )
    chance = random.Random("mestore demo")  # noqa: S311 - the same orders each time; nothing here is secret
    for number in range(1, count + 1):
        body = _order(number, people, chance)
        orders.place(order_form.read(parse_json(json.dumps(body).encode())), key=f"demo-{number}", by=by)


def _order(number: int, people: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """What the storefront would send: one to three lines, often of several vendors, mostly paid."""
    city, state = chance.choice(CITIES)
    lines = [_line(people, chance) for _ in range(chance.randint(1, 3))]
    status = "pending" if chance.random() < UNPAID_SHARE else "approved"
    return {
        "buyer_id": chance.choice(people["buyers"])["id"],
        "currency": "COP",
        "external_reference": f"demo-{number}",
        "items": lines,
        "shipping_name": "Camila Rojas",
        "shipping_phone": "+573001234567",
        "shipping_address": f"Calle {chance.randint(1, 180)} # 7-{chance.randint(1, 99)}",
        "shipping_city": city,
        "shipping_state": state,
        "payment": {"provider": "demo", "reference": f"demo-{number}", "status": status},
    }


def _line(people: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    which = chance.randrange(len(PRODUCTS))
    name, category, price = PRODUCTS[which]
    return {
        "product_id": f"P-{which + 1}",
        "vendor_id": chance.choice(people["vendors"])["id"],
        "name": name,
        "category": category,
        "unit_price": price,
        "quantity": chance.randint(1, 4),
    }
