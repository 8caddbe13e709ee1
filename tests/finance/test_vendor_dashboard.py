"""The vendor's dashboard: the own sales only, exact, bounded; nothing that only a catalogue could tell."""

from __future__ import annotations

import csv
import datetime as dt
import io
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from finance import vendor_dashboard
from mestore.lib.console import display
from tests.factories.accounts import AdminFactory, BuyerFactory, VendorFactory
from tests.factories.administration import Caller
from tests.factories.finance import OrderItemFactory
from tests.finance.selling import sold

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit"])
REPORTS = ("resumen", "ventas", "productos-top", "comisiones", "comparativa", "ordenes", "exportar")


@pytest.fixture
def vendor(transactional_db: None) -> User:
    return VendorFactory.create()


def this_month() -> dt.datetime:
    return vendor_dashboard.month_of(timezone.now().astimezone(display.BOGOTA).date())[0]


def sell(vendor: User, product: str = "mug", *, at: dt.datetime | None = None, **values: Any) -> None:
    commission = sold(vendor, at=at or this_month(), **values)
    OrderItemFactory.create(
        order=commission.order, vendor=vendor, product_id=product, name=product.title(),
        unit_price_minor=5_000_000, quantity=2,
    )  # fmt: skip


def report(vendor: User, name: str, **query: Any) -> Any:
    return Caller(vendor).get(f"vendedores/dashboard/{name}", **query)


@pytest.mark.parametrize("name", REPORTS)
def test_only_vendors_have_a_dashboard(transactional_db: None, name: str) -> None:
    for other in (BuyerFactory.create(), AdminFactory.create()):
        assert Caller(other).get(f"vendedores/dashboard/{name}").status_code == 403


@pytest.mark.parametrize("name", REPORTS)
def test_another_vendors_sales_are_in_no_report(vendor: User, name: str) -> None:
    sell(VendorFactory.create(), "secret-product")

    answer = report(vendor, name)

    body = b"".join(answer.streaming_content) if answer.streaming else answer.content
    assert answer.status_code == 200
    assert b"secret-product" not in body.lower()
    assert b"100000.00" not in body


def test_stock_is_not_made_up(vendor: User) -> None:
    assert report(vendor, "inventario").status_code == 404


def test_the_month_at_a_glance(vendor: User) -> None:
    sell(vendor, "mug")
    sell(vendor, "mug")
    sell(vendor, "cup", at=this_month() - dt.timedelta(days=40))
    sell(vendor, "pot", status="CANCELLED")

    told = report(vendor, "resumen").json()

    assert set(told) == {
        "total_productos", "productos_aprobados", "productos_pendientes", "productos_rechazados",
        "productos_activos", "ventas_mes", "ingresos_mes", "comision_total", "estadisticas_mes",
    }  # fmt: skip
    assert (told["total_productos"], told["productos_activos"]) == (2, 1)
    assert (told["productos_pendientes"], told["productos_rechazados"]) == (None, None)
    assert (told["ventas_mes"], told["ingresos_mes"], told["comision_total"]) == (2, 200000.0, 10000.0)
    statistics = told["estadisticas_mes"]
    assert (statistics["unidades"], statistics["ganancia_neta"], statistics["ticket_promedio"]) == (
        4, 190000.0, 100000.0,
    )  # fmt: skip
    assert sum(day["pedidos"] for day in statistics["por_dia"]) == 2


def test_a_vendor_without_sales_has_zeros_and_no_average(vendor: User) -> None:
    told = report(vendor, "resumen").json()

    assert (told["total_productos"], told["ventas_mes"], told["ingresos_mes"]) == (0, 0, 0.0)
    assert told["estadisticas_mes"]["ticket_promedio"] is None


def test_money_is_written_exactly(vendor: User) -> None:
    sell(vendor)

    assert b'"ingresos_mes":100000.00' in report(vendor, "resumen").content


def test_sales_by_day_add_up(vendor: User) -> None:
    now = timezone.now()
    sell(vendor, at=now - dt.timedelta(days=2))
    sell(vendor, at=now - dt.timedelta(days=1))
    sell(vendor, at=now - dt.timedelta(days=45))

    told = report(vendor, "ventas").json()

    assert len(told["ventas"]) == 2
    assert told["total"] == {"pedidos": 2, "ventas": 200000.0, "comision": 10000.0, "ganancia": 190000.0}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"fecha_inicio": "soon"}, "fecha_inicio"),
        ({"fecha_inicio": "2024-01-01", "fecha_fin": "2026-01-01"}, "hasta"),
        ({"fecha_inicio": "2026-02-01", "fecha_fin": "2026-01-01"}, "hasta"),
        ({"moneda": "XXX"}, "moneda"),
    ],
)
def test_wrong_periods_are_named(vendor: User, query: dict[str, str], field: str) -> None:
    answer = report(vendor, "ventas", **query)

    assert answer.status_code == 422
    assert answer.json()["details"][0]["field"] == f"query -> {'fecha_fin' if field == 'hasta' else field}"


def test_best_products_come_first_and_are_bounded(vendor: User) -> None:
    now = timezone.now()
    for product in ("mug", "mug", "cup"):
        sell(vendor, product, at=now - dt.timedelta(hours=1))

    told = report(vendor, "productos-top", limite=1).json()

    assert told["productos"] == [
        {"producto_id": "mug", "nombre": "Mug", "unidades": 4, "pedidos": 2, "ventas": 200000.0}
    ]
    assert report(vendor, "productos-top", limite=51).status_code == 422


def test_commissions_by_state(vendor: User) -> None:
    now = timezone.now() - dt.timedelta(hours=1)
    sell(vendor, at=now)
    sell(vendor, at=now, status="DISPUTED")

    told = report(vendor, "comisiones").json()

    assert {name: row["pedidos"] for name, row in told["por_estado"].items()} == {
        "APPROVED": 1,
        "DISPUTED": 1,
    }
    assert told["total"]["comision"] == 10000.0


@pytest.mark.parametrize("path", ["vendedores/dashboard/comparativa", "vendors/dashboard/comparativa"])
def test_two_months_are_compared(vendor: User, path: str) -> None:
    sell(vendor)
    for _ in range(2):
        sell(vendor, at=this_month() - dt.timedelta(days=1))

    told = Caller(vendor).get(path).json()

    assert (told["periodo_actual"]["pedidos"], told["periodo_anterior"]["pedidos"]) == (1, 2)
    assert told["variacion"]["ventas"] == -50.0


def test_nothing_is_compared_with_nothing(vendor: User) -> None:
    sell(vendor)

    assert set(report(vendor, "comparativa").json()["variacion"].values()) == {None}


@pytest.mark.parametrize("path", ["vendedores/dashboard/ordenes", "vendors/dashboard/ordenes"])
def test_orders_are_paged(vendor: User, path: str) -> None:
    for _ in range(3):
        sell(vendor)
    caller = Caller(vendor)

    first = caller.get(path, limit=2).json()
    second = caller.get(path, limit=2, cursor=first["next_cursor"]).json()

    numbers = {row["commission_number"] for row in [*first["ordenes"], *second["ordenes"]]}
    assert (first["total"], len(numbers), second["next_cursor"]) == (3, 3, None)


def test_export_is_the_days_as_csv(vendor: User) -> None:
    sell(vendor, at=timezone.now() - dt.timedelta(hours=1))

    answer = report(vendor, "exportar")

    (row,) = csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode()))
    assert (row["pedidos"], row["ventas"], row["moneda"]) == ("1", "100000.00", "COP")


def test_no_report_asks_more_for_more_sales(vendor: User) -> None:
    counts = []
    for _ in range(2):
        sell(vendor)
        sell(vendor, "cup")
        caller = Caller(vendor)
        caller.get("vendedores/dashboard/resumen")
        with CaptureQueriesContext(connection) as caught:
            caller.get("vendedores/dashboard/resumen")
        counts.append(len(caught))

    assert counts[0] == counts[1]
    assert counts[0] <= 12
