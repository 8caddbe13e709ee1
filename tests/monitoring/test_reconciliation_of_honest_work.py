"""Whatever the service and its owner do with capture on is told: no reconciliation finds anything."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
import simplejson
from django.db import transaction
from django.test import Client

from accounts import deletion
from accounts.models import User
from finance import orders
from finance.imports import run as importing
from finance.models import Commission, Order
from mestore.lib import sql
from mestore.lib.http import dumps
from monitoring import row_records
from monitoring.models import AuditEvent, Signal
from tests.factories.accounts import UserFactory, VendorFactory
from tests.factories.sessions_security import machine, machine_bearer
from tests.finance import refunding
from tests.finance.conftest import ADDRESS, item, payment
from tests.finance.imports import marketplace
from tests.monitoring import reconciling
from tests.monitoring.reconciling import BY, CUTOFF, RULE, reconcile, rows, said, untold

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

FREEZE_ALL = """
INSERT INTO accounts_factorfreeze (user_id, why, placed_at, until)
SELECT id, 'w', now(), now() + interval '1 day' FROM accounts_user
"""
FREEZE_ONE = """
INSERT INTO accounts_factorfreeze (user_id, why, placed_at, until)
SELECT id, 'w', now(), now() + interval '1 day' FROM accounts_user WHERE id = %s
"""


@pytest.fixture
def people() -> list[User]:
    """Some people, counted already."""
    made = reconciling.people()
    assert reconcile().is_good
    return made


def save(people: Sequence[User]) -> None:
    people[0].language = "en"
    people[0].save()
    people[1].delete()


def write_many(people: Sequence[User]) -> None:
    User.objects.bulk_create([UserFactory.build(email=f"many{n}@example.com") for n in range(50)])
    written = list(User.objects.all())
    for row in written:
        row.security_clearance_level = 3
    User.objects.bulk_update(written, ["security_clearance_level"])
    User.objects.filter(email__startswith="many1").delete()


def write_by_sql(people: Sequence[User]) -> None:
    sql.execute(CUTOFF, [200])
    sql.execute(FREEZE_ALL)
    sql.execute("UPDATE accounts_factorfreeze SET why = 'other'")
    sql.execute("DELETE FROM accounts_factorfreeze WHERE user_id = ANY(%s)", [[people[0].pk, people[1].pk]])
    sql.execute("UPDATE accounts_user SET last_login = now(), password = password")
    sql.execute("UPDATE accounts_permission SET requires_mfa = requires_mfa")


def roll_back(people: Sequence[User]) -> None:
    with transaction.atomic():
        UserFactory.create(email="kept@example.com")
        with pytest.raises(ZeroDivisionError):
            _fail()
        User.objects.filter(pk=people[0].pk).update(language="en")
    with pytest.raises(ZeroDivisionError):
        _fail()


def _fail() -> None:
    with transaction.atomic():
        UserFactory.create(email="nobody@example.com")
        User.objects.filter(email__startswith="person").delete()
        raise ZeroDivisionError


def come_and_go(people: Sequence[User]) -> None:
    """A row with a key of its own goes and comes again, in one transaction and in several."""
    key = [people[0].pk]
    with transaction.atomic():
        for _ in range(3):
            sql.execute(FREEZE_ONE, key)
            sql.execute("DELETE FROM accounts_factorfreeze")
    for _ in range(2):
        sql.execute(FREEZE_ONE, key)
        sql.execute("DELETE FROM accounts_factorfreeze")
    sql.execute(FREEZE_ONE, key)


def be_forgotten(people: Sequence[User]) -> None:
    User.objects.filter(pk=people[1].pk).update(nombre="Ana", email="other@example.com")
    for one in people[:2]:
        deletion.erase(one.pk, reason="asked for it", confirmed=True, by=BY, may_be_open=True)


def sell(people: Sequence[User]) -> None:
    """Over HTTP, as the storefront does; then the order and its commissions are changed."""
    vendors = [VendorFactory.create() for _ in range(2)]
    body = {
        "currency": "COP", "items": [item(vendor.pk, "100000.00") for vendor in vendors],
        "payment": payment(), **ADDRESS,
    }  # fmt: skip
    answer = Client().post(
        "/api/v1/orders/", dumps(body), content_type="application/json",
        headers={**machine_bearer(machine()[0]), "Idempotency-Key": "sale-1"},
    )  # fmt: skip
    assert answer.status_code == 201, answer.content
    made = Order.objects.filter(pk=simplejson.loads(answer.content)["data"]["id"])
    assert made.update(courier="somebody") == 1
    assert Commission.objects.update(status="DISPUTED") == 2


@pytest.mark.parametrize(
    "traffic",
    [save, write_many, write_by_sql, roll_back, come_and_go, be_forgotten, sell],
    ids=lambda traffic: traffic.__name__,
)
def test_whatever_the_service_does_is_told(
    people: list[User], traffic: Callable[[Sequence[User]], None]
) -> None:
    traffic(people)

    assert said(reconcile()) == []
    assert said(reconcile()) == []
    assert not Signal.objects.filter(rule=RULE).exists()


def test_an_import_is_told(people: list[User], tmp_path: Path) -> None:
    files = marketplace.good().write(tmp_path / "files")
    importing.import_orders(files=files, currency="BRL", rejects_file=None, by=BY)

    assert Order.objects.exists()
    assert Commission.objects.exists()
    assert said(reconcile()) == []


def test_the_owner_is_told_who_copies_and_truncates(people: list[User], owner_dsn: str) -> None:
    sql.execute(FREEZE_ALL)
    assert reconcile().is_good
    statement = "COPY accounts_factorfreeze (user_id, why, placed_at, until) FROM STDIN"
    with psycopg.connect(owner_dsn, autocommit=True) as owner:
        owner.execute("DELETE FROM accounts_factorfreeze WHERE user_id = %s", [people[0].pk])
        owner.execute(FREEZE_ONE, [people[0].pk])
        owner.execute("TRUNCATE accounts_factorfreeze")
        with owner.cursor().copy(statement) as copy:
            copy.write_row([people[1].pk, "w", "2026-01-01", "2026-01-02"])
        owner.execute("UPDATE accounts_factorfreeze SET why = 'x'")
    sql.execute(FREEZE_ONE, [people[2].pk])

    assert said(reconcile()) == []
    assert sql.fetch_one("SELECT count(*) FROM accounts_factorfreeze") == (2,)


def test_rewriting_and_freezing_a_table_changes_nothing(people: list[User], superuser_dsn: str) -> None:
    with psycopg.connect(superuser_dsn, autocommit=True) as superuser:
        superuser.execute("VACUUM FULL accounts_user")
        superuser.execute("VACUUM (FREEZE) accounts_permission")

    assert said(reconcile()) == []


def test_a_transaction_that_stays_open_across_reconciliations_counts_once(
    people: list[User], owner_dsn: str
) -> None:
    with psycopg.connect(owner_dsn) as owner:
        owner.execute(CUTOFF, [3])
        owner.execute("SAVEPOINT s")
        owner.execute("UPDATE accounts_user SET language = 'en' WHERE id = %s", [people[0].pk])
        owner.execute("DELETE FROM accounts_user WHERE id = %s", [people[1].pk])
        owner.execute("RELEASE SAVEPOINT s")
        assert said(reconcile()) == []
        User.objects.filter(pk=people[2].pk).update(language="en")
        assert said(reconcile()) == []

    assert said(reconcile()) == []
    assert said(reconcile()) == []


def test_its_events_are_found_however_long_it_was_open(
    people: list[User], owner_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record from before it began says how far back to look, not the length of a night."""
    monkeypatch.setattr(row_records, "CLOCKS", dt.timedelta(0))
    monkeypatch.setattr(row_records, "LONGEST_OPEN", dt.timedelta(0))
    with psycopg.connect(owner_dsn) as owner:
        owner.execute(CUTOFF, [3])
        assert [said(reconcile()) for _ in range(3)] == [[], [], []]

    assert said(reconcile()) == []


def test_while_people_write_and_two_reconcile_at_once(
    people: list[User], race: Callable[[Sequence[Callable[[], Any]]], list[Any]]
) -> None:
    def write(number: int) -> None:
        for turn in range(15):
            with transaction.atomic():
                user = UserFactory.create(email=f"w{number}.{turn}@example.com")
                with transaction.atomic():
                    User.objects.filter(pk=user.pk).update(language="en")
            if turn % 3 == 0:
                user.delete()

    def look() -> list[tuple[str, str]]:
        return [one for _ in range(4) for one in said(reconcile())]

    outcomes = race([*(lambda number=number: write(number) for number in range(3)), look, look])

    assert outcomes == [None, None, None, [], []]
    assert said(reconcile()) == []


def test_whoever_truncates_waits_for_the_comparison(people: list[User], owner_dsn: str) -> None:
    """TRUNCATE empties a table for older snapshots too: the tables are held before the snapshot is taken."""
    sql.execute(CUTOFF, [3])
    found: list[str] = []

    def truncate(*_given: Any, **_more: Any) -> row_records.Moment:
        with psycopg.connect(owner_dsn, options="-c lock_timeout=100ms") as owner:
            try:
                owner.execute("TRUNCATE accounts_factorfreeze")
            except psycopg.errors.LockNotAvailable:
                found.append("waits")
        return now()

    now = row_records.now
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_records, "now", truncate)
        assert said(reconcile()) == []

    assert found == ["waits"]


def test_a_new_column_begins_anew_and_the_others_are_compared(
    people: list[User], owner_dsn: str, superuser_dsn: str
) -> None:
    with psycopg.connect(owner_dsn, autocommit=True) as owner:
        owner.execute("ALTER TABLE accounts_permission ADD COLUMN hint text DEFAULT 'x'")
        try:
            quiet = reconcile()
            with untold(superuser_dsn, "accounts_permission") as superuser:
                superuser.execute("UPDATE accounts_permission SET hint = 'y' WHERE id = 2")
            found = reconcile()
        finally:
            owner.execute("ALTER TABLE accounts_permission DROP COLUMN hint")
    after = reconcile()

    assert said(quiet) == []
    assert rows(found) == {"2"}
    assert said(after) == []
    assert after.notes == ["accounts_permission: columns went; values are digested anew from here"]


def test_a_change_in_the_night_of_a_new_column_is_found(
    people: list[User], owner_dsn: str, superuser_dsn: str
) -> None:
    with psycopg.connect(owner_dsn, autocommit=True) as owner:
        owner.execute("ALTER TABLE accounts_permission ADD COLUMN hint text DEFAULT 'x'")
        try:
            with untold(superuser_dsn, "accounts_permission") as superuser:
                superuser.execute(
                    "UPDATE accounts_permission SET requires_mfa = NOT requires_mfa WHERE id = 1"
                )
            found = reconcile()
        finally:
            owner.execute("ALTER TABLE accounts_permission DROP COLUMN hint")

    assert rows(found) == {"1"}


class TestTold:
    """Of new orders and commissions the service's own events tell; capture adds nothing."""

    def test_an_insert_that_the_service_alone_told_counts(self, people: list[User], tmp_path: Path) -> None:
        sell(people)
        files = marketplace.good().write(tmp_path / "files")
        importing.import_orders(files=files, currency="BRL", rejects_file=None, by=BY)
        inserts = AuditEvent.objects.filter(type="capture.insert")
        assert not inserts.filter(target_type__in=["finance_order", "finance_commission"]).exists()

        assert said(reconcile()) == []

    def test_an_insert_told_twice_counts_once(
        self, people: list[User], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As when the event says less of the row than there is: then capture tells of it as well."""
        monkeypatch.setitem(orders.AS_MADE, "discount_minor", 1)
        refunding.place(VendorFactory.create().pk)
        assert AuditEvent.objects.filter(type="capture.insert", target_type="finance_order").count() == 1
        assert AuditEvent.objects.filter(type="order.recorded").count() == 1

        assert said(reconcile()) == []

    def test_a_row_is_compared_with_what_the_service_told(
        self, people: list[User], superuser_dsn: str
    ) -> None:
        order = refunding.place(VendorFactory.create().pk)
        assert reconcile().is_good
        with untold(superuser_dsn, "finance_order") as superuser:
            superuser.execute("UPDATE finance_order SET source = 'elsewhere'")
        Order.objects.update(courier="somebody")

        (one,) = reconcile().differences

        assert (one.what, one.rows) == ("source: not what the trail last told", (str(order.pk),))

    def test_an_order_that_nobody_told_is_found(self, people: list[User], superuser_dsn: str) -> None:
        order = refunding.place(VendorFactory.create().pk)
        assert reconcile().is_good
        with untold(superuser_dsn, "finance_order") as superuser:
            superuser.execute("CREATE TEMPORARY TABLE copied AS SELECT * FROM finance_order")
            superuser.execute(
                "UPDATE copied SET id = id + 1000, order_number = 'X-1', external_reference = 'x'"
            )
            superuser.execute("INSERT INTO finance_order OVERRIDING SYSTEM VALUE SELECT * FROM copied")

        found = reconcile()

        assert ("finance_order", "1 row more than the trail tells") in said(found)
        assert rows(found) == {str(order.pk + 1000)}
