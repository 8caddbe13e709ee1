"""Personal values of a month that is gone: shown to who two people agree about, once, and recorded."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from accounts import approvals
from mestore.lib import ids
from mestore.lib.actor import Actor
from monitoring import erasure, events, sequencer
from monitoring.models import AuditEvent
from tests.factories.accounts import AdminFactory, BuyerFactory
from tests.monitoring import retiring
from tests.monitoring.people import ADDRESS, EMAIL
from tests.monitoring.retiring import BY, Trail, archive_of
from tests.monitoring.test_verification import tamper

pytestmark = pytest.mark.django_db(databases=["default", "audit", "owner"], transaction=True)

WHY = "Order of the court 2026-118."


@pytest.fixture
def trail(owner_dsn: str, tmp_path: Path, settings: Any) -> Iterator[Trail]:
    with retiring.past(owner_dsn, tmp_path, settings) as made:
        retiring.gone(made)
        yield made


def reveal(trail: Trail, event: UUID, *more: str, by: Any = None, reason: str = WHY) -> tuple[int, str]:
    """Exit code, and what was printed or why not."""
    out = io.StringIO()
    who = str((by or trail.asker).pk)
    try:
        call_command("audit_reveal", str(event), "--by", who, "--reason", reason, *more, stdout=out)
    except CommandError as error:
        return error.returncode, str(error)
    return 0, out.getvalue()


def agree(trail: Trail) -> None:
    (waiting,) = approvals.waiting_for(trail.second)
    approvals.approve(waiting.pk, by=Actor(kind="user", id=str(trail.second.pk)))


def revealed() -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(type=events.AUDIT_VALUES_REVEALED))


def test_two_people_open_one_event_once_and_the_trail_keeps_it(trail: Trail) -> None:
    event = trail.old[0]
    code, said = reveal(trail, event)
    assert (code, EMAIL in said, revealed()) == (3, False, [])
    assert reveal(trail, event)[0] == 3
    agree(trail)

    code, said = reveal(trail, event, "--json")

    shown = json.loads(said)
    assert (code, shown["document"]["id"]) == (0, str(event))
    assert EMAIL in shown["values"]["sealed"]
    assert ADDRESS in shown["values"]["sealed"]
    (told,) = revealed()
    data = json.loads(bytes(told.canon))["data"]
    assert (told.actor_id, told.target_id) == (str(trail.asker.pk), str(event))
    assert (data["reason"], data["names"], data["whose"]) == (WHY, ["sealed"], "u-ana")
    assert data["file"] == archive_of().manifest.file
    assert EMAIL not in bytes(told.canon).decode()
    assert reveal(trail, event)[0] == 3  # the approval is used up


def test_a_captured_value_is_shown_too(trail: Trail) -> None:
    assert reveal(trail, trail.captured)[0] == 3
    agree(trail)

    code, said = reveal(trail, trail.captured)

    assert code == 0
    assert f'email.after: "{EMAIL}"' in said


def test_an_approval_for_one_event_opens_no_other(trail: Trail) -> None:
    reveal(trail, trail.old[0])
    agree(trail)

    assert reveal(trail, trail.old[1])[0] == 3
    assert revealed() == []


def test_nobody_approves_for_themselves(trail: Trail) -> None:
    reveal(trail, trail.old[0])
    assert not approvals.waiting_for(trail.asker).exists()
    (waiting,) = approvals.waiting_for(trail.second)

    with pytest.raises(approvals.NotYours):
        approvals.approve(waiting.pk, by=Actor(kind="user", id=str(trail.asker.pk)))
    assert reveal(trail, trail.old[0])[0] == 3


@pytest.mark.parametrize("factory", [AdminFactory, BuyerFactory])
def test_who_may_not_read_the_trail_may_not_even_ask(trail: Trail, factory: Any) -> None:
    code, said = reveal(trail, trail.old[0], by=factory.create())

    assert (code, EMAIL in said, revealed()) == (1, False, [])
    assert not approvals.waiting_for(trail.second)


def test_of_an_erased_person_nothing_is_shown(trail: Trail) -> None:
    reveal(trail, trail.old[0])
    agree(trail)
    with transaction.atomic():
        erasure.erase("u-ana", by=BY, reason="asked to be forgotten")

    code, said = reveal(trail, trail.old[0])

    assert (code, EMAIL in said, "sealed: erased with its person" in said) == (0, False, True)
    assert json.loads(bytes(revealed()[0].canon))["data"]["state"] == "erased"


def test_an_event_that_stands_or_never_was_is_not_archived(trail: Trail) -> None:
    assert reveal(trail, trail.next)[0] == 2
    assert reveal(trail, ids.uuid7())[0] == 2


def test_a_file_that_is_not_the_one_that_was_signed_opens_nothing(trail: Trail) -> None:
    reveal(trail, trail.old[0])
    agree(trail)
    path = trail.folder / archive_of().manifest.file
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(raw)

    code, said = reveal(trail, trail.old[0])

    assert (code, EMAIL in said, revealed()) == (1, False, [])
    path.unlink()
    assert reveal(trail, trail.old[0])[0] == 2
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    assert reveal(trail, trail.old[0])[0] == 0  # what failed used nothing up


def test_an_archive_that_the_log_does_not_hold_opens_nothing(trail: Trail, superuser_dsn: str) -> None:
    reveal(trail, trail.old[0])
    agree(trail)
    sequencer.drain()
    tamper(
        superuser_dsn,
        "UPDATE audit_tile SET hashes = decode(repeat('00', length(hashes)), 'hex') WHERE level = 0",
    )

    code, said = reveal(trail, trail.old[0])

    assert (code, EMAIL in said, revealed()) == (1, False, [])


@pytest.mark.parametrize(("reason", "code"), [("short", 1), ("", 1)])
def test_a_reason_is_needed(trail: Trail, reason: str, code: int) -> None:
    assert reveal(trail, trail.old[0], reason=reason)[0] == code
