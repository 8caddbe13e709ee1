"""Reading the trail."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.utils import timezone

from mestore.lib import actor, sql
from monitoring import audit, events, leaves, selectors
from monitoring.database.counting import count_statements
from tests.monitoring.people import EMAIL, person

pytestmark = pytest.mark.django_db(databases=["default", "audit"])


def _record(number: int, **changes: Any) -> None:
    audit.record_many(
        [
            audit.Entry(events.ORDER_RECORDED, by=actor.system("test"), target=("order", str(n)), **changes)
            for n in range(number)
        ]
    )


class TestPages:
    def test_pages_show_every_event_once_newest_first(self) -> None:
        _record(25)  # all in one moment: the id decides
        seen = []
        position = None

        while True:
            page = selectors.events_page(after=position, limit=10)
            seen += page.events
            position = page.next
            if position is None:
                break

        keys = [(event.occurred_at, event.id) for event in seen]
        assert len(keys) == len(set(keys)) == 25
        assert keys == sorted(keys, reverse=True)

    @pytest.mark.parametrize("asked", [0, -5, 10**6])
    def test_page_size_is_bounded(self, asked: int) -> None:
        _record(selectors.MAX_PAGE + 5)

        assert 1 <= len(selectors.events_page(limit=asked).events) <= selectors.MAX_PAGE

    def test_filters_choose(self) -> None:
        by = person()
        audit.record(events.USER_CREATED, by=by, target=("user", "7"))
        audit.record(events.GRANT_GIVEN, by=by, target=("user", "8"))
        _record(3)

        assert len(selectors.events_page(codes=[events.ORDER_RECORDED]).events) == 3
        assert len(selectors.events_page(actor_id=by.id).events) == 2
        assert [e.type for e in selectors.events_page(target=("user", "8")).events] == [events.GRANT_GIVEN]

    def test_page_reads_no_content_and_takes_one_statement(self) -> None:
        _record(5)

        with count_statements("default") as sent:
            selectors.events_page(limit=3)

        assert len(sent) == 1
        assert "canon" not in sent[0]
        assert "OFFSET" not in sent[0]
        assert "COUNT" not in sent[0]


def test_counts_are_per_hour_and_code() -> None:
    _record(4)
    audit.record(events.USER_CREATED, by=actor.system("test"))

    counts = selectors.counts_by_hour([events.ORDER_RECORDED, events.USER_CREATED], hours=1)

    per_code: Counter[str] = Counter()  # an hour may have ended between two of them
    for count in counts:
        per_code[count.code] += count.count
    assert per_code == {"order.recorded": 4, "user.created": 1}
    assert all(
        count.hour.minute == 0 and timezone.now() - count.hour < dt.timedelta(hours=2) for count in counts
    )


class TestDetail:
    def test_event_that_is_not_there_is_not_found(self) -> None:
        with pytest.raises(selectors.EventNotFound):
            selectors.event_detail(uuid4(), reveal_personal=True)

    def test_personal_values_are_hidden_unless_asked_for(self) -> None:
        event_id = audit.record(events.USER_CREATED, by=person(), personal={"city": "Cali"})

        hidden = selectors.event_detail(event_id, reveal_personal=False)
        shown = selectors.event_detail(event_id, reveal_personal=True)

        assert (hidden.personal, hidden.personal_state) == ({}, "hidden")
        assert shown.personal_state == "shown"
        assert shown.personal["label"] == EMAIL
        assert shown.personal["values"] == {"city": "Cali"}
        assert shown.document["event"] == "user.created"

    def test_event_without_personal_values_says_so(self) -> None:
        event_id = audit.record(events.USER_CREATED, by=actor.system("test"))

        assert selectors.event_detail(event_id, reveal_personal=True).personal_state == "none"

    def test_erased_person_is_told_as_erased(self) -> None:
        event_id = _about_nobody()

        assert selectors.event_detail(event_id, reveal_personal=True).personal_state == "erased"

    def test_event_of_another_form_is_found(self) -> None:
        event_id = uuid4()
        sql.execute(
            "INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, canon, leaf_hash)"
            " VALUES (%s, now(), 'auth.signed_out', 'SUCCESS', 'system', '{\"a\": 1}'::bytea,"
            " sha256('\\x00'::bytea || '{\"a\": 1}'))",
            [event_id],
        )

        assert selectors.event_detail(event_id, reveal_personal=True).document == {"a": 1}

    def test_values_of_another_event_are_unreadable(self) -> None:
        by = person()
        event_id = audit.record(events.USER_CREATED, by=by)
        copy_id = uuid4()
        sql.execute(
            "INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, canon, pii_ct, leaf_hash)"
            " SELECT %s, occurred_at, type, outcome, actor_kind, canon, pii_ct, leaf_hash"
            " FROM audit_event WHERE id = %s",
            [copy_id, event_id],
        )

        assert selectors.event_detail(copy_id, reveal_personal=True).personal_state == "unreadable"


def _about_nobody() -> UUID:
    """An event in this transaction about somebody whose key is not there."""
    event_id = uuid4()
    canon = b'{"subject": "nobody"}'
    sql.execute(
        "INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, canon, pii_ct, leaf_hash)"
        " VALUES (%s, now(), 'auth.sign_in.failed', 'FAILURE', 'user', %s, 'x', %s)",
        [event_id, canon, leaves.leaf_hash(canon)],
    )
    return event_id
