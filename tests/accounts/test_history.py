from __future__ import annotations

import datetime as dt

import pytest
from django.db import transaction
from django.utils import timezone

from accounts import account_changes, history
from mestore.lib import actor
from monitoring import audit, events
from tests.factories.accounts import BuyerFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
SYSTEM = actor.system("test")


def test_a_history_is_of_one_account_and_pages_by_cursor() -> None:
    one, other = BuyerFactory.create(), BuyerFactory.create()
    for name in ("Eva", "Luz", "Sol"):
        account_changes.update(one.pk, {"nombre": name}, by=SYSTEM)
        account_changes.update(other.pk, {"nombre": name}, by=SYSTEM)

    first = history.of_account(one.pk, limit=2)
    assert first.next_cursor is not None
    second = history.of_account(one.pk, limit=2, cursor=first.next_cursor)

    assert [event.target_id for event in [*first.events, *second.events]] == [str(one.pk)] * 3
    assert second.next_cursor is None


@pytest.mark.parametrize(
    "cursor", ["x", "é", "AAAA", "MjAyNi0wMy0wNFQxMjowMDowMCB4", "MjAyNi0wMy0wNCAxMjowMA"]
)
def test_a_cursor_that_was_never_given_out_is_refused(cursor: str) -> None:
    with pytest.raises(history.CursorInvalid):
        history.of_account(BuyerFactory.create().pk, limit=2, cursor=cursor)


def test_recent_changes_are_of_administration_and_recent() -> None:
    user = BuyerFactory.create()
    account_changes.update(user.pk, {"nombre": "Eva"}, by=SYSTEM)
    with transaction.atomic():
        audit.record(events.SIGNED_OUT, by=SYSTEM, target=("user", str(user.pk)))

    assert [event.type for event in history.recent_changes(limit=10)] == ["user.updated"]
    later = timezone.now() + dt.timedelta(days=31)
    assert history.recent_changes(limit=10, now=later) == []
