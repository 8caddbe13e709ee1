"""What happened to money, kind by kind: pages go on, and a rare kind is found without reading the others."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction

from accounts.models import User
from finance import history, ledger
from finance.history import Wanted
from finance.postings import ROUNDING, SUSPENSE, VENDOR_PENDING
from mestore.lib import sql
from tests.factories.accounts import AdminFactory, VendorFactory
from tests.factories.finance import sale
from tests.finance.selling import BY, fund, move

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
COMMON, RARE, LIMIT = 1_500, 3, 5
_ORDERS = itertools.count(1)


@pytest.fixture
def vendor(transactional_db: None) -> User:
    return VendorFactory.create()


def adjust(book: UUID, amount: int = 1) -> UUID:
    return move(book, SUSPENSE, ROUNDING, amount, kind="adjustment").entry_id


def sell(book: UUID, *, many: int) -> list[UUID]:
    """So many sales, posted together; their ids are in the order of time."""
    postings = [sale(book, next(_ORDERS)) for _ in range(many)]
    with transaction.atomic():
        ledger.post_many(postings, by=BY)
    return [posting.entry_id for posting in postings]


def pages(wanted: Wanted, reader: User) -> Iterator[list[UUID]]:
    before = wanted.before
    while True:
        page = history.page(replace(wanted, before=before), reader=reader)
        yield [row.id for row in page.rows]
        if page.next is None:
            return
        before = page.next


def scanned(plan: dict[str, Any]) -> int:
    """How many entries were looked at, kept or not, by the parts of a plan that read the ledger's entries."""
    own = 0
    if plan.get("Relation Name") == "ledger_entry":
        own = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return int(own) + sum(scanned(below) for below in plan.get("Plans", []))


def looked_at(query: str, wanted: Wanted, reader: User) -> int:
    """Run the very query of a page, explained."""
    with connection.cursor() as cursor:
        cursor.execute(
            "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + query, history._parameters(wanted, reader)
        )
        told = cursor.fetchone()[0]
    return scanned((json.loads(told) if isinstance(told, str) else told)[0]["Plan"])


def test_kinds_are_told_in_one_order_over_all_pages(vendor: User) -> None:
    made = [*sell(vendor.pk, many=3), adjust(vendor.pk), *sell(vendor.pk, many=2), adjust(vendor.pk)]
    move(vendor.pk, VENDOR_PENDING, SUSPENSE, 1, kind="payout_sent")
    adjust(VendorFactory.create().pk)
    seen = list(pages(Wanted(limit=2), vendor))

    assert [entry for page in seen for entry in page] == sorted(made, reverse=True)
    assert [len(page) for page in seen] == [2, 2, 2, 1]


@pytest.mark.parametrize(("limit", "offset"), [(2, 0), (2, 2), (3, 5), (50, 6), (1, 7)])
def test_offset_and_limit_cut_the_same_list(vendor: User, limit: int, offset: int) -> None:
    made = [*sell(vendor.pk, many=3), adjust(vendor.pk), *sell(vendor.pk, many=2), adjust(vendor.pk)]
    page = history.page(Wanted(limit=limit, offset=offset), reader=vendor)

    assert [row.id for row in page.rows] == sorted(made, reverse=True)[offset : offset + limit]
    assert page.counts == {"VENTA": 5, "AJUSTE": 2}


@pytest.mark.parametrize("kind", ["VENTA", "AJUSTE", "DEVOLUCION", "COMISION"])
def test_one_kind_is_told_alone(vendor: User, kind: str) -> None:
    sell(vendor.pk, many=2)
    adjust(vendor.pk)
    fund(vendor.pk, 5)
    found = history.page(Wanted(types=(kind,)), reader=vendor)

    assert {row.type for row in found.rows} <= {kind}
    assert found.total == len(found.rows) == {"VENTA": 2, "AJUSTE": 1}.get(kind, 0)


@pytest.mark.parametrize("of_one_vendor", [True, False])
def test_rare_kind_is_found_without_walking_the_ledger(vendor: User, of_one_vendor: bool) -> None:
    """The rare ones are the oldest, where a walk from the newest on would come last."""
    rare = [adjust(vendor.pk) for _ in range(RARE)]
    sell(vendor.pk, many=COMMON)
    sql.execute("ANALYZE ledger_entry, ledger_transfer, ledger_account", using="owner")
    reader = vendor if of_one_vendor else AdminFactory.create()
    wanted = Wanted(types=("AJUSTE",), limit=LIMIT)

    assert [row.id for row in history.page(wanted, reader=reader).rows] == rare[::-1]
    # The page reads them, and once more the transfers of each; the sums of kinds read them once.
    assert looked_at(history._PAGE, wanted, reader) <= RARE + LIMIT
    assert looked_at(history._COUNTS, wanted, reader) <= RARE + LIMIT
    every = Wanted(limit=LIMIT)
    assert looked_at(history._PAGE, every, reader) <= 2 * (LIMIT + 1) + RARE
    deep = Wanted(limit=LIMIT, before=rare[-1])
    assert looked_at(history._PAGE, deep, reader) <= 2 * (LIMIT + 1) + RARE
