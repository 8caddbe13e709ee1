"""The list of locks: every lock once, in pages, whatever a cursor says."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts import lockout_lists
from accounts.models import LockoutCounter

pytestmark = pytest.mark.django_db(databases=["default", "audit"])


def locks(count: int, kind: str = "login:account", **values: Any) -> list[LockoutCounter]:
    """So many locks; many of them end at the same moment."""
    now = timezone.now()
    return LockoutCounter.objects.bulk_create(
        LockoutCounter(
            key=secrets.token_bytes(32), kind=kind, failures=5, budget=5, failed_at=now,
            **{"window_ends_at": now + dt.timedelta(minutes=1 + at // 7),
               "locked_until": now + dt.timedelta(minutes=1 + at // 7), **values},
        )
        for at in range(count)
    )  # fmt: skip


def walked(kind: str = "") -> list[bytes]:
    seen: list[bytes] = []
    older, first = "", True
    while (first or older) and len(seen) < 1_000:  # a cursor that stands still ends here
        page = lockout_lists.page(kind=kind, older=older)
        seen += [bytes(row.key) for row in page.rows]
        older, first = page.older, False
    return seen


def test_every_lock_is_on_one_page() -> None:
    made = {bytes(row.key) for row in locks(2 * lockout_lists.SIZE + 3)}
    locks(2, locked_until=None)
    locks(2, locked_until=timezone.now() - dt.timedelta(seconds=1))

    seen = walked()

    assert len(seen) == len(made)
    assert set(seen) == made


def test_kind_is_the_whole_first_word() -> None:
    locks(2, kind="login:account")
    locks(3, kind="admin_login:network")
    (alone,) = locks(1, kind="violations")

    assert len(walked("login")) == 2
    assert len(walked("admin_login")) == 3
    assert walked("violations") == [bytes(alone.key)]
    assert walked("log") == []


def test_exactly_one_page_has_no_further_one() -> None:
    locks(lockout_lists.SIZE)

    assert lockout_lists.page().older == ""


@pytest.mark.parametrize(
    "cursor", ["x", "~", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00~AAAA", "\u0000~\u0000", "ñ~ñ"]
)
def test_cursor_that_is_none_of_ours_is_the_first_page(cursor: str) -> None:
    (lock,) = locks(1)

    assert [row.pk for row in lockout_lists.page(older=cursor).rows] == [lock.pk]


def test_a_page_is_read_from_the_index_however_many_there_are() -> None:
    locks(5_000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE accounts_lockoutcounter")
    rows = LockoutCounter.objects.filter(locked_until__gt=timezone.now())

    plan = rows.order_by("-locked_until", "-key")[:51].explain()

    assert "lockout_by_lock" in plan
    assert "Sort" not in plan
