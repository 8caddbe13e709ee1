"""What has an end of life ends, nothing else does, and two at once do not wait for each other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection, models, transaction
from django.utils import timezone

from sessions_security import purging
from sessions_security.models import (
    NetworkReputation,
    PendingSignIn,
    SignInAttempt,
    SignInNotice,
    UsedProof,
)
from tests.factories import accounts as people

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

HOUR = timedelta(hours=1)
Make = Callable[[int, datetime], models.Model]


def pending(number: int, end: datetime) -> PendingSignIn:
    return PendingSignIn.objects.create(
        user=people.BuyerFactory.create(), token_hash=bytes([number]) * 32, purpose="api", auth_epoch=1,
        created_at=end - HOUR, expires_at=end,
    )  # fmt: skip


def proof(number: int, end: datetime) -> UsedProof:
    return UsedProof.objects.create(proof_hash=bytes([number]) * 32, expires_at=end)


def notice(number: int, end: datetime) -> SignInNotice:
    user = people.BuyerFactory.create()
    return SignInNotice.objects.create(
        user=user, session_id=user.pk, token_hash=bytes([number]) * 32, created_at=end - HOUR, expires_at=end
    )


def reputation(number: int, end: datetime) -> NetworkReputation:
    return NetworkReputation.objects.create(
        network=f"10.0.{number}.0/24", score=20, updated_at=end - HOUR, expires_at=end
    )


def attempt(number: int, end: datetime) -> SignInAttempt:
    return SignInAttempt.objects.create(
        at=end - purging.KEEP_ATTEMPTS, account_key=bytes([number]) * 32, agent_key=bytes(16),
        purpose="api", outcome="wrong",
    )  # fmt: skip


KINDS = [pending, proof, notice, reputation, attempt]


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_rows_go_when_their_time_is_over_and_not_before(make: Make) -> None:
    now = timezone.now()
    rows = [make(number, now - HOUR * (number + 1)) for number in range(5)]
    kept = make(9, now + HOUR)

    assert sum(done.rows for done in purging.run(batch=2)) == len(rows)

    assert [row.pk for row in type(kept)._default_manager.all()] == [kept.pk]
    assert sum(done.rows for done in purging.run(batch=2)) == 0


def test_many_rows_of_one_moment_all_go() -> None:
    end = timezone.now() - HOUR
    for number in range(7):
        proof(number, end)

    assert sum(done.rows for done in purging.run(batch=2)) == 7


def test_two_at_once_delete_each_row_once(race: Callable[..., list[Any]]) -> None:
    end = timezone.now() - HOUR
    for number in range(60):
        proof(number, end - timedelta(seconds=number))

    done = race([partial(purging.run, batch=5)] * 2)

    assert sum(one.rows for run in done for one in run) == 60
    assert not UsedProof.objects.exists()


def test_a_row_that_somebody_holds_is_left_to_them(race: Callable[..., list[Any]]) -> None:
    end = timezone.now() - HOUR
    held = proof(1, end)
    proof(2, end)

    with transaction.atomic():
        UsedProof.objects.select_for_update().get(pk=held.pk)
        (done,) = race([purging.run])

    assert sum(one.rows for one in done) == 1
    assert UsedProof.objects.get().pk == held.pk


@pytest.mark.parametrize("kind", purging.KINDS, ids=lambda kind: kind.name)
def test_each_statement_walks_an_index(kind: purging.Ended) -> None:
    values: dict[str, Any] = {"after": timezone.now() - HOUR, "before": timezone.now(), "batch": 10}
    values["id"] = purging._NO_ID
    with transaction.atomic(), connection.cursor() as cursor:
        # Of an empty table every plan is cheap: ask for the one without a scan, and see that there is one.
        cursor.execute("SET LOCAL enable_seqscan = off")
        text = kind.statement if isinstance(kind.statement, str) else kind.statement.as_string(None)
        cursor.execute("EXPLAIN " + text, values)
        plan = "\n".join(row[0] for row in cursor.fetchall())

    picked = plan.split("CTE picked", 1)[1].split("CTE gone", 1)[0].split("CTE cookies", 1)[0]
    assert "Seq Scan" not in picked
    assert "Index" in picked
