"""What the integrity page says about months: held, due, archived with name and digest, given up."""

from __future__ import annotations

import datetime as dt
import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction

from mestore.lib import actor
from mestore.lib.console import State
from monitoring import audit, events, integrity_months, retirement, sequencer
from monitoring.archives import named
from tests.console import house
from tests.console.test_pages import STATEMENTS, _offences, _statements
from tests.factories.accounts import SuperuserFactory
from tests.monitoring import months, retiring
from tests.monitoring.retiring import Trail
from tests.monitoring.test_verification import tamper

pytestmark = pytest.mark.django_db(databases=["default", "audit", "owner"], transaction=True)

PAGE = "/admin/integrity/"
OLD, NEXT = months.first_day(26), months.first_day(25)
NOW = dt.datetime(2026, 3, 4, 17, 30, tzinfo=dt.UTC)


@pytest.fixture
def past(owner_dsn: str, tmp_path: Path, settings: Any) -> Iterator[Trail]:
    settings.AUDIT_ARCHIVE_DIR = str(tmp_path)
    with months.of_the_past(owner_dsn, 26):
        entry = audit.Entry(events.SIGNED_OUT, by=actor.system("test"))
        with transaction.atomic():
            made = [months.record(entry, months.moment(month)) for month in (OLD, NEXT)]
        sequencer.drain()
        people = SuperuserFactory.create(), SuperuserFactory.create()
        yield Trail(made[:1], made[1], made[0], made[0], *people, tmp_path, owner_dsn)


def page(visitor: house.Visitor) -> str:
    answer = visitor.client.get(PAGE, headers={"accept-language": "en"})
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def test_archive_and_digest_are_shown(past: Trail, admin_visitor: house.Visitor) -> None:
    text = page(admin_visitor)
    assert "2 months are due" in text
    assert "0 months retired" in text

    retiring.gone(past, OLD)
    assert retiring.retire(past, NEXT)[0] == 3
    text = page(admin_visitor)

    for month in (OLD, NEXT):
        manifest = retirement.find(month).manifest
        assert manifest is not None
        assert manifest.file in text
        assert manifest.sha256.hex() in text
    assert "1 month retired; 1 month is due" in text
    assert "archived, waits for a second person" in text
    assert _statements(admin_visitor.client, PAGE) <= STATEMENTS
    answer = admin_visitor.client.get(PAGE)
    assert not list(_offences(answer.content.decode()))


def test_a_young_trail_says_what_is_due_next(admin_visitor: house.Visitor) -> None:
    first = retirement.months()[0]
    text = page(admin_visitor)

    assert f"{named(first.month)} is due on {first.due_on.isoformat()}" in text
    assert integrity_months.figure([first], NOW).state is State.GOOD
    assert integrity_months.figure([], NOW).value == "0"


def test_an_archive_that_the_log_did_not_sign_is_not_shown(
    past: Trail, admin_visitor: house.Visitor, superuser_dsn: str
) -> None:
    retiring.retire(past, OLD)
    found = retirement.find(OLD).manifest
    assert found is not None
    tamper(superuser_dsn, "UPDATE audit_archive SET note = replace(note, 'v1', 'v2')")

    assert found.file not in page(admin_visitor)
    assert retirement.find(OLD).state is retirement.State.DUE
