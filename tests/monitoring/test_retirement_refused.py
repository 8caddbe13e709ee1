"""Who and what does not end a month of the trail, and what is found when somebody does."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import transaction
from psycopg import errors as pg

from accounts import approvals
from mestore.lib import ids, sql
from mestore.lib.actor import Actor
from monitoring import (
    archives,
    archiving,
    audit,
    checkpoints,
    events,
    retirement,
    sequencer,
    verification,
)
from monitoring.retirement import State
from tests.factories.accounts import BuyerFactory
from tests.monitoring import months, retiring
from tests.monitoring.retiring import (
    BY,
    NEXT,
    OLD,
    WHY,
    YOUNG,
    Trail,
    approve,
    archive_of,
    decide,
    gone,
    is_there,
    leaf_of,
    lines_of,
    retire,
    run,
    signed_out,
    verified,
)
from tests.monitoring.test_verification import tamper

pytestmark = pytest.mark.django_db(databases=["default", "audit", "owner"], transaction=True)


@pytest.fixture
def trail(owner_dsn: str, tmp_path: Path, settings: Any) -> Iterator[Trail]:
    with retiring.past(owner_dsn, tmp_path, settings) as made:
        yield made


# --- What is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["YOUNG"], 1), (["NOW"], 1), (["2024-13"], 2), (["1999-01"], 2), (["OLD", "--reason", "no"], 1),
        (["OLD", "--by", "nobody@example.com"], 2), (["OLD", "--by", "BUYER"], 1), (["OLD", "--by", ""], 2),
        (["OLD", "--archive", "/proc/nowhere"], 2),
    ],
    ids=str,
)  # fmt: skip
def test_what_may_not_be_is_refused(trail: Trail, arguments: list[str], code: int) -> None:
    known = {
        "OLD": archives.named(OLD), "YOUNG": archives.named(YOUNG), "BUYER": BuyerFactory.create().email,
        "NOW": archives.named(months.first_day(0)),
    }  # fmt: skip
    given = ["--by", trail.asker.email, "--reason", WHY, *(known.get(one, one) for one in arguments)]

    assert run("audit_retire", *given)[0] == code
    assert is_there(trail)


def test_without_the_owners_url_nothing_is_done(trail: Trail, settings: Any) -> None:
    settings.OWNER_ROLE = ""
    assert retire(trail)[0] == 2
    assert not trail.folder.exists()


def test_who_asked_does_not_approve(trail: Trail) -> None:
    retire(trail)
    (waiting,) = approvals.asked_by(trail.asker)
    with pytest.raises(approvals.NotYours):
        approvals.approve(waiting.pk, by=Actor(kind="user", id=str(trail.asker.pk)))
    with pytest.raises(approvals.SecondPersonRequired):
        retirement.decide(
            archive_of(), trail.folder, reason=WHY, by=Actor(kind="user", id=str(trail.asker.pk))
        )
    assert retire(trail)[0] == 3


EDIT = "UPDATE audit_event SET canon = canon || ' ' WHERE id = %s"
UNMACED = "UPDATE audit_event SET writer_mac = NULL WHERE id = %s"


@pytest.mark.parametrize("attack", [EDIT, UNMACED, "DELETE FROM audit_event WHERE id = %s"])
def test_a_month_that_is_not_as_it_was_signed_is_not_archived(
    trail: Trail, attack: str, superuser_dsn: str
) -> None:
    tamper(superuser_dsn, (attack, (trail.old[3],)))

    assert retire(trail)[0] == 1
    assert not trail.folder.exists()
    assert retirement.find(OLD).state is State.DUE


class TestDatabase:
    """What the functions refuse, whoever asks them."""

    @pytest.mark.parametrize(
        "statement",
        [
            "SELECT audit_retire_month('2020-01-01')", "SELECT audit_forget_values('2020-01-01', 1)",
            """INSERT INTO audit_archive (id, month, events, manifest, note)
               VALUES (gen_random_uuid(), '2020-01-01', 0, '', 'x')""",
            """INSERT INTO audit_retirement (month, archive_id, event_id)
               VALUES ('2020-01-01', gen_random_uuid(), gen_random_uuid())""",
            "DELETE FROM audit_personal",
        ],
    )  # fmt: skip
    def test_the_application_may_do_none_of_it(self, trail: Trail, app_dsn: str, statement: str) -> None:
        table = sql.compose("DROP TABLE {t}", t=months.partition(OLD))
        with psycopg.connect(app_dsn) as connection:
            with pytest.raises(pg.InsufficientPrivilege):
                connection.execute(statement.encode())
            connection.rollback()
            with pytest.raises(pg.InsufficientPrivilege):
                connection.execute(table)

    def refused(self, trail: Trail, month: dt.date) -> str:
        with psycopg.connect(trail.dsn) as connection:
            with pytest.raises((pg.RestrictViolation, pg.InvalidParameterValue)) as refusal:
                connection.execute("SELECT audit_retire_month(%s)", (month,))
            return str(refusal.value)

    def test_a_month_that_nobody_gave_up_stays(self, trail: Trail) -> None:
        assert "not on record" in self.refused(trail, OLD)
        retire(trail)
        assert "not on record" in self.refused(trail, OLD)
        assert is_there(trail)

    @pytest.mark.parametrize("back", [0, 1, 12])
    def test_twelve_whole_months_stay_whatever_the_setting_says(self, trail: Trail, back: int) -> None:
        assert "too young" in self.refused(trail, months.first_day(back))

    def test_the_thirteenth_is_old_enough(self, trail: Trail) -> None:
        assert "not on record" in self.refused(trail, months.first_day(13))

    def test_a_month_is_its_first_day(self, trail: Trail) -> None:
        assert "first day" in self.refused(trail, OLD + dt.timedelta(days=1))

    def test_a_month_whose_events_wait_stays(self, trail: Trail, superuser_dsn: str) -> None:
        decide(trail)
        sequencer.drain()
        with transaction.atomic():
            months.record(signed_out(BY), months.moment(OLD, 300))
        assert "still wait" in self.refused(trail, OLD)
        sequencer.drain()
        assert "holds 11 events and its archive 10" in self.refused(trail, OLD)
        assert retire(trail)[0] == 2
        assert is_there(trail)

    def test_a_decision_that_is_not_in_the_log_drops_nothing(self, trail: Trail) -> None:
        decide(trail)
        assert "not in the log yet" in self.refused(trail, OLD)

    def test_records_stay_as_they_are(self, trail: Trail) -> None:
        decide(trail)
        sequencer.drain()
        with psycopg.connect(trail.dsn, autocommit=True) as connection:
            for table in ("audit_archive", "audit_retirement"):
                for change in ("DELETE FROM {t}", "UPDATE {t} SET month = month", "TRUNCATE {t} CASCADE"):
                    with pytest.raises(pg.RestrictViolation):
                        connection.execute(sql.compose(change, t=table))


# --- Attacks -----------------------------------------------------------------------------------------------


def drop_by_hand(trail: Trail, month: dt.date = OLD) -> None:
    with psycopg.connect(trail.dsn, autocommit=True) as connection:
        connection.execute(sql.compose("DROP TABLE {t}", t=months.partition(month)))


def test_a_month_dropped_by_hand_is_named(trail: Trail) -> None:
    gone(trail)
    drop_by_hand(trail, NEXT)

    code, faults, _notes = verified()
    assert code == 1
    assert ("the event of a leaf is gone", leaf_of(trail.next)) in faults
    assert (f"there is no partition for events of {archives.named(NEXT)}", None) in faults
    assert [fault.event_id for fault in verification.sample(3_000).faults] == [trail.next]


def test_a_decision_that_went_with_its_own_month_is_vouched_for_by_the_archive(trail: Trail) -> None:
    """Years later the month is retired in which this one was given up."""
    retire(trail)
    by = Actor(kind="user", id=str(trail.asker.pk))
    target = retirement.target(OLD)
    with transaction.atomic():
        decision = months.record(
            audit.Entry(events.AUDIT_MONTH_RETIRED, by=by, target=target), months.moment(NEXT)
        )
    with psycopg.connect(trail.dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO audit_retirement (month, archive_id, event_id) VALUES (%s, %s, %s)",
            (OLD, archive_of().id, decision),
        )
    sequencer.drain()
    assert retire(trail)[0] == 0
    approvals.withdraw(approvals.asked_by(trail.asker)[0].pk, by=by)
    gone(trail, NEXT)

    assert archive_of(NEXT).manifest.decisions == ((str(decision), archives.named(OLD)),)
    assert verified("--full", "--archive", str(trail.folder))[:2] == (0, [])


def test_an_archive_alone_excuses_nothing(trail: Trail) -> None:
    retire(trail)
    drop_by_hand(trail)
    code, faults, _notes = verified()
    assert (code, ("the event of a leaf is gone", 0) in faults) == (1, True)


def test_a_forged_record_excuses_nothing(trail: Trail) -> None:
    """The owner may write the rows; what the log signed, and the decision, cannot be written by hand."""
    written = json.dumps({"v": 1, "month": archives.named(OLD)}).encode()
    with psycopg.connect(trail.dsn, autocommit=True) as connection:
        connection.execute(
            """WITH made AS (INSERT INTO audit_archive (id, month, events, manifest, note)
                             VALUES (gen_random_uuid(), %s, 10, %s, %s) RETURNING id, month)
               INSERT INTO audit_retirement (month, archive_id, event_id) SELECT month, id, %s FROM made""",
            (OLD, written, checkpoints.last().note, trail.late),  # type: ignore[union-attr]
        )
    drop_by_hand(trail)

    code, faults, _notes = verified()
    assert code == 1
    assert ("the event of a leaf is gone", 0) in faults
    assert any("is not to be believed" in what for what, _leaf in faults)


@pytest.mark.parametrize("which", ["late", "next", "none"])
def test_a_record_without_a_decision_is_named(trail: Trail, which: str) -> None:
    """An event of another meaning, one that goes with the month itself, or none at all."""
    retire(trail)
    decision = ids.uuid7() if which == "none" else getattr(trail, which)
    with psycopg.connect(trail.dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO audit_retirement (month, archive_id, event_id) VALUES (%s, %s, %s)",
            (OLD, archive_of().id, decision),
        )
    drop_by_hand(trail)

    what = f"nobody's decision to give up the month {archives.named(OLD)} is in the log"
    assert verified()[:2] == (1, [(what, None)])


def test_an_event_cannot_be_moved_into_a_retired_month(trail: Trail, superuser_dsn: str) -> None:
    gone(trail)
    young = sql.fetch_all("SELECT event_id, leaf_index FROM audit_leaf ORDER BY leaf_index DESC LIMIT 1")[0]
    tamper(
        superuser_dsn,
        ("UPDATE audit_leaf SET occurred_at = %s WHERE event_id = %s", (months.moment(OLD), young[0])),
        ("DELETE FROM audit_event WHERE id = %s", (young[0],)),
    )
    assert ("the event of a leaf is gone", young[1]) in verified()[1]


@pytest.mark.parametrize("share", [0.0, 0.13, 0.5, 0.77, 0.999])
def test_one_bit_of_an_archive_flipped_is_refused_everywhere(trail: Trail, share: float) -> None:
    retire(trail)
    approve(trail)
    path = trail.folder / archive_of().manifest.file
    flip(path, share)

    assert retire(trail)[0] == 1
    assert is_there(trail)
    flip(path, share)
    assert retire(trail)[0] == 0
    flip(path, share)
    code, faults, _notes = verified("--full", "--archive", str(trail.folder))
    assert (code, len(faults)) == (1, 1)
    assert "does not hold" in faults[0][0]
    assert run("audit_proof", str(trail.old[0]), "--archive", str(trail.folder))[0] == 1


def flip(path: Path, share: float) -> None:
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * share)] ^= 0x10
    path.chmod(0o600)
    path.write_bytes(raw)


def test_an_archive_of_other_content_with_its_own_digest_is_refused(trail: Trail) -> None:
    """Whoever has the log's key may sign any manifest: the lines must lead to the log all the same."""
    retire(trail)
    good = archive_of().manifest
    lines = [line for line in lines_of(trail.folder / good.file) if '"n":3' not in line]
    made = rewritten(trail, good, lines)
    with pytest.raises(archives.ArchiveError):
        archiving.demand_whole(trail.folder, made)


def rewritten(trail: Trail, good: archives.Manifest, lines: list[str]) -> archives.Manifest:
    raw = gzip.compress("".join(lines).encode())
    path = trail.folder / good.file.replace(good.file[14:26], "0" * 12)
    path.write_bytes(raw)
    return replace(good, file=path.name, size=len(raw), sha256=hashlib.sha256(raw).digest())


def test_an_archive_is_written_over_by_nobody(trail: Trail) -> None:
    retire(trail)
    path = trail.folder / archive_of().manifest.file
    assert path.stat().st_mode & 0o777 == 0o400
    first = archive_of()
    path.rename(path.with_suffix(".elsewhere"))

    assert retire(trail)[0] == 3  # a lost file is no archive: another one is made, and asked about anew
    assert archive_of().id != first.id
    assert archive_of().manifest.file != first.manifest.file
