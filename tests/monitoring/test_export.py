"""Exports: in order, whole, resumable, provable by a stranger; and what a forger does to them is named."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from mestore.lib import actor, spreadsheets, sql
from mestore.lib.notes import Signer
from monitoring import (
    audit,
    ceremony,
    checkpoints,
    events,
    export,
    export_batches,
    export_cursors,
    log,
    sequencer,
)
from monitoring.export import BadPlace, Batch, Place, Wanted
from monitoring.export_batches import BatchError, Format, Window
from monitoring.log import LogDamaged
from monitoring.models import AuditEvent
from tests.monitoring.people import ADDRESS, AGENT, EMAIL, person
from tests.monitoring.test_verification import tamper

pytestmark = pytest.mark.django_db(databases=["default", "audit", "owner"], transaction=True)

BY = actor.system("test")
EDIT = """
UPDATE audit_event SET canon = canon || ' ' WHERE id = (SELECT event_id FROM audit_leaf WHERE leaf_index = 7)
"""
EVERY_FORMAT = pytest.mark.parametrize("form", list(Format))


def record(count: int) -> None:
    with transaction.atomic():
        audit.record_many([audit.Entry(events.SIGNED_OUT, by=BY, data={"n": n}) for n in range(count)])


def seal(count: int) -> int:
    record(count)
    sequencer.drain()
    return log.state().size


def made(form: Format = Format.JSONL, after: Place | None = None, **options: Any) -> list[Batch]:
    limit = options.pop("limit", None)
    return list(export.batches(Wanted(form, **options), after or Place(), limit=limit))


def file_of(batches: list[Batch], form: Format) -> list[str]:
    heading = ["heading\r\n"] if form is Format.CSV else []
    return heading + [line for batch in batches for line in (*batch.lines, batch.trailer)]


def verify(lines: list[str], form: Format = Format.JSONL) -> export_batches.Verified:
    return export_batches.verify(lines, form, signed_by=[checkpoints.verifier(1)])


# --- Complete and in order --------------------------------------------------------------------------------


@EVERY_FORMAT
def test_every_sealed_event_leaves_once_in_the_order_of_the_log(form: Format) -> None:
    size = seal(1_203)

    batches = made(form)

    assert [len(batch.lines) for batch in batches] == [500, 500, size - 1_000]
    found = verify(file_of(batches, form), form)
    assert (found.begin, found.end, found.records, found.batches) == (0, size, size, 3)
    assert made(form, batches[-1].next) == []


def test_a_resumed_export_is_the_same_as_one_in_one_go() -> None:
    seal(700)
    place, lines = Place(), list[str]()
    for limit in (1, 255, 2, 300, 500):
        for batch in made(after=place, limit=limit):
            lines += [*batch.lines, batch.trailer]
            place = batch.next

    assert verify(lines).records == 700
    assert [line for line in lines if not line.startswith('{"batch"')] == [
        line for batch in made() for line in batch.lines
    ]


def test_an_event_that_is_not_sealed_does_not_leave() -> None:
    seal(3)
    record(2)
    sequencer.run_once()

    assert sum(len(batch.lines) for batch in made()) == 3


def test_nothing_sealed_is_nothing_exported() -> None:
    assert made() == []
    assert export.end() == Place(1, 0)


def test_a_window_leaves_out_the_rest_and_says_so() -> None:
    seal(600)
    (middle,) = sql.fetch_all("SELECT occurred_at FROM audit_leaf WHERE leaf_index = 300")[0]
    seal(10)
    (later,) = sql.fetch_all("SELECT occurred_at FROM audit_leaf WHERE leaf_index = 600")[0]

    batches = made(window=Window(since=later))
    found = verify(file_of(batches, Format.JSONL))

    assert (found.records, found.end) == (10, 610)
    assert sum(len(batch.lines) for batch in made(window=Window(until=middle))) == 0
    assert len(batches) == 1


@pytest.mark.parametrize("text", ["", "1", "0:1", "1:-1", "1:01", "1:1:1", "٣:1", "1:" + "9" * 30])
def test_a_cursor_that_nobody_gave_out_is_refused(text: str) -> None:
    with pytest.raises(BadPlace):
        Place.parse(text)


@pytest.mark.parametrize("place", [Place(1, 4), Place(2, 0)])
def test_a_cursor_beyond_the_log_is_refused(place: Place) -> None:
    seal(3)
    with pytest.raises(BadPlace):
        made(after=place)


def test_after_the_end_of_a_log_the_next_one_follows() -> None:
    old = seal(600)
    begun = ceremony.begin_new_log(
        reason="the failover lost its tail", approved_by=("staff 7", "staff 9"), by=BY
    )
    seal(7)
    keys = [checkpoints.verifier(begun.old_epoch), checkpoints.verifier(begun.epoch)]

    batches = made()
    lines = file_of(batches, Format.JSONL)
    found = export_batches.verify(lines, Format.JSONL, signed_by=keys)

    assert [str(batch.place) for batch in batches] == ["1:0", "1:500", "2:0"]
    assert found.records == old + log.state().size
    # What the old log lost was delivered all the same: the cursor goes on in the new one.
    assert made(after=Place(1, old + 50))[0].place == Place(2, 0)
    with pytest.raises(BatchError, match="did not sign"):
        export_batches.verify(lines, Format.JSONL, signed_by=keys[:1])
    with pytest.raises(BatchError, match="missing or mixed"):
        export_batches.verify(
            lines[:501] + file_of(made(after=Place(2, 3)), Format.JSONL), Format.JSONL, signed_by=keys
        )


# --- What a forger does -----------------------------------------------------------------------------------


def _without(lines: list[str], *numbers: int) -> list[str]:
    return [line for number, line in enumerate(lines) if number not in numbers]


FORGERIES: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "a record is left out": (lambda lines: _without(lines, 7), "was changed"),
    "a record is changed": (
        lambda lines: [lines[0].replace('"n":0', '"n":9'), *lines[1:]],
        "damaged|changed",
    ),
    "two records are swapped": (lambda lines: [lines[1], lines[0], *lines[2:]], "was changed"),
    "a record comes twice": (lambda lines: [lines[0], *lines], "was changed"),
    "a batch is left out": (lambda lines: [*lines[:501], *lines[1_002:]], "between the leaves 500 and 1000"),
    "the first trailer is left out": (lambda lines: _without(lines, 500), "was changed"),
    "the end is cut": (lambda lines: lines[:-1], "the file is cut"),
    "everything is cut": (lambda _lines: [], "no batch"),
    "a line is not JSON": (lambda lines: ["{\n", *lines], "damaged"),
    "a line is enormous": (lambda lines: ["x" * 2_000_000, *lines], "too long"),
    "a trailer is of another batch": (
        lambda lines: [*lines[:500], lines[1_001], *lines[501:]],
        "was changed",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_file_that_was_touched_is_not_whole(name: str) -> None:
    seal(1_100)
    forge, why = FORGERIES[name]
    lines = file_of(made(), Format.JSONL)

    with pytest.raises(BatchError, match=why):
        verify(forge(lines))


def test_another_key_signs_nothing() -> None:
    seal(3)
    lines = file_of(made(), Format.JSONL)
    other = Signer.of_seed(checkpoints.origin(1), bytes(32)).verifier

    with pytest.raises(BatchError, match="did not sign"):
        export_batches.verify(lines, Format.JSONL, signed_by=[other])


def test_a_checkpoint_of_a_shorter_log_is_refused() -> None:
    """The trailer is genuine; what it leads to is exchanged for an older, genuine checkpoint."""
    seal(3)
    older = json.loads(file_of(made(), Format.JSONL)[-1])["batch"]["checkpoint"]
    seal(3)
    *lines, last = file_of(made(), Format.JSONL)
    trailer = json.loads(last)
    trailer["batch"]["checkpoint"] = older

    with pytest.raises(BatchError, match="does not lead"):
        verify([*lines, json.dumps(trailer) + "\n"])


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        (
            EDIT,
            "leaf 7 is not what the log says",
        ),
        ("DELETE FROM audit_leaf WHERE leaf_index = 7", "are missing"),
        ("UPDATE audit_tile SET hashes = substring(hashes FROM 1 FOR 320) WHERE level = 0", "are cut"),
        ("UPDATE audit_tile SET hashes = set_byte(hashes, 0, 1 # get_byte(hashes, 0)) WHERE level = 0", "."),
    ],
)
def test_a_log_that_was_tampered_with_exports_nothing(superuser_dsn: str, statement: str, why: str) -> None:
    seal(20)
    tamper(superuser_dsn, statement)

    with pytest.raises(LogDamaged, match=why):
        made()


def test_nothing_leaves_over_an_event_that_somebody_removed(superuser_dsn: str) -> None:
    """Events go with their month only (test_retirement): any other hole is the trace of an attack."""
    seal(5)
    tamper(
        superuser_dsn,
        "DELETE FROM audit_event WHERE id = (SELECT event_id FROM audit_leaf WHERE leaf_index = 2)",
    )
    with pytest.raises(LogDamaged, match="the event of the leaf 2 is gone"):
        made()


# --- What is in it ----------------------------------------------------------------------------------------


@EVERY_FORMAT
def test_no_personal_value_leaves_unasked(form: Format) -> None:
    with transaction.atomic():
        audit.record(events.SIGNED_OUT, by=person(), personal={"telephone": "+57 300 000 0000"})
    sequencer.drain()

    text = "".join(batch.text() for batch in made(form))

    for secret in (EMAIL, ADDRESS, AGENT, "+57"):
        assert secret not in text


@EVERY_FORMAT
def test_personal_values_leave_when_asked_and_an_erased_person_stays_erased(
    form: Format, superuser_dsn: str
) -> None:
    erased = person(label="gone@example.com")
    with transaction.atomic():
        audit.record(events.SIGNED_OUT, by=person())
        audit.record(events.SIGNED_OUT, by=erased)
    sequencer.drain()
    tamper(
        superuser_dsn,
        ("UPDATE subject_key SET wrapped = NULL, destroyed_at = now() WHERE subject = %s", (erased.id,)),
    )

    batches = made(form, personal=True)
    text = "".join(batch.text() for batch in batches)

    assert EMAIL in text
    assert "gone@example.com" not in text
    assert verify(file_of(batches, form), form).records == 2


def test_no_cell_of_a_table_becomes_a_formula() -> None:
    evil = [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        " =1",
        "＝1",
        "\x00=1",
        'a","=1',
        "a\r\n=1",
    ]
    with transaction.atomic():
        for text in evil:
            audit.record(events.SIGNED_OUT, by=BY, target=("thing", text))
    sequencer.drain()

    batches = made(Format.CSV)
    rows = list(csv.reader(io.StringIO("".join(line for batch in batches for line in batch.lines))))

    assert len(rows) == len(evil)
    for row in rows:
        assert not any(cell.lstrip().startswith(spreadsheets.FORMULA) for cell in row)
    assert verify(file_of(batches, Format.CSV), Format.CSV).records == len(evil)


def test_ocsf_says_who_did_what_and_where_it_stands() -> None:
    somebody = person()
    with transaction.atomic():
        audit.record(events.SIGN_IN_SUCCEEDED, by=somebody)
        audit.record(events.USER_DEACTIVATED, by=somebody, target=("user", "u1"), data={"reason": "left"})
        audit.record(events.ORDER_RECORDED, by=somebody, target=("order", "o1"))
    sequencer.drain()

    (batch,) = made(Format.OCSF)
    signed_in, closed, order = (json.loads(line) for line in batch.lines)

    assert (signed_in["class_uid"], signed_in["activity_id"], signed_in["type_uid"]) == (3002, 1, 300201)
    assert (closed["class_uid"], closed["activity_id"], closed["user"]["uid"]) == (3001, 5, "u1")
    assert (order["class_uid"], order["activity_id"], order["api"]) == (
        6003,
        1,
        {"operation": "order.recorded"},
    )
    for sequence, found in enumerate((signed_in, closed, order)):
        assert found["metadata"]["sequence"] == sequence
        assert found["metadata"]["version"] == "1.3.0"
        assert found["actor"]["user"]["uid"] == somebody.id
        assert (
            abs(
                found["time"] / 1000
                - AuditEvent.objects.get(pk=found["metadata"]["uid"]).occurred_at.timestamp()
            )
            < 1
        )
    assert closed["unmapped"]["data"] == {"reason": "left"}


def test_every_event_of_the_catalogue_has_an_ocsf_type() -> None:
    from monitoring import ocsf

    for entry in events.catalogue():
        document = {
            "event": entry.code, "outcome": entry.outcome.value, "at": "2026-11-21T00:00:00.000001Z",
            "actor": {"kind": "user", "id": "u"},
        }  # fmt: skip
        found = ocsf.event(document, sequence=1, log="log", leaf_hash="", personal=None)
        assert found["type_uid"] == found["class_uid"] * 100 + found["activity_id"]
        assert found["category_uid"] == found["class_uid"] // 1000
        assert found["severity_id"] in range(1, 5)
        assert found["status_id"] in {1, 2, 99}
        assert ("user" in found) == (found["category_uid"] == 3)


# --- The command ------------------------------------------------------------------------------------------


def command(*arguments: str) -> str:
    written = io.StringIO()
    call_command("audit_export", *arguments, stdout=written, stderr=written)
    return written.getvalue()


@EVERY_FORMAT
def test_a_file_is_made_for_nobody_else_verified_and_recorded(form: Format, tmp_path: Path) -> None:
    seal(600)
    out = tmp_path / "events"

    said = command("--format", form, "--out", str(out))

    assert "600 events, next cursor 1:600" in said
    assert out.stat().st_mode & 0o077 == 0
    assert "whole: 600 events in 2 batches" in command("--format", form, "--verify", str(out))
    finished = AuditEvent.objects.get(type=events.AUDIT_EXPORTED)
    begun = AuditEvent.objects.get(type=events.AUDIT_EXPORT_BEGUN)
    data = json.loads(bytes(finished.canon))["data"]
    assert (data["events"], data["format"], data["from"], data["to"]) == (600, form, "1:0", "1:600")
    assert begun.occurred_at < finished.occurred_at


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    seal(1)
    (tmp_path / "events").write_text("mine")

    with pytest.raises(CommandError):
        command("--format", "jsonl", "--out", str(tmp_path / "events"))
    assert (tmp_path / "events").read_text() == "mine"


def test_a_kept_cursor_goes_on_where_it_was(tmp_path: Path) -> None:
    seal(3)
    command("--format", "jsonl", "--keep", "archive", "--out", str(tmp_path / "a"))
    seal(4)
    said = command("--format", "jsonl", "--keep", "archive", "--out", str(tmp_path / "b"))

    both = (tmp_path / "a").read_text() + (tmp_path / "b").read_text()
    whole = verify(both.splitlines(keepends=True))
    (kept,) = export_cursors.every()
    assert (whole.begin, Place(1, whole.end), kept.destination) == (0, kept.place, "file:archive")
    assert f"next cursor {kept.place}" in said


def test_a_crash_between_writing_and_noting_sends_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(1_100)
    real = export_cursors.advance
    calls: list[Place] = []

    def dies(held: export_cursors.Held, to: Place) -> export_cursors.Held:
        calls.append(to)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(held, to)

    monkeypatch.setattr(export_cursors, "advance", dies)
    with pytest.raises(KeyboardInterrupt):
        command("--format", "jsonl", "--keep", "x", "--out", str(tmp_path / "a"))
    command("--format", "jsonl", "--keep", "x", "--out", str(tmp_path / "b"))

    again = verify((tmp_path / "b").read_text().splitlines(keepends=True))
    assert again.begin == 500


def test_two_exports_of_one_name_do_not_mix(race: Callable[..., list[Any]]) -> None:
    seal(1)
    outcomes = race([lambda: export_cursors.take("file:x", by=BY)] * 4)

    assert sum(isinstance(outcome, export_cursors.Held) for outcome in outcomes) == 1, outcomes
    assert AuditEvent.objects.filter(type=events.AUDIT_DESTINATION_ADDED).count() == 1


def test_whoever_lost_a_destination_cannot_move_its_cursor() -> None:
    seal(5)
    held = export_cursors.take("file:x", by=BY)
    assert held is not None
    assert export_cursors.take("file:x", by=BY) is None
    sql.execute("UPDATE audit_export_cursor SET held_until = '-infinity'")
    other = export_cursors.take("file:x", by=BY)

    assert other is not None
    with pytest.raises(export_cursors.Lost):
        export_cursors.advance(held, Place(1, 5))
    assert export_cursors.advance(other, Place(1, 3)).place == Place(1, 3)
    assert export_cursors.every()[0].behind == log.state().size - 3


def test_personal_values_need_a_second_person(tmp_path: Path) -> None:
    seal(1)
    for arguments in (["--personal"], ["--personal", "--by", "x"], ["--personal", "--limit", "5"]):
        with pytest.raises(CommandError):
            command("--format", "jsonl", "--out", str(tmp_path / "a"), *arguments)
    with pytest.raises(CommandError):
        command("--format", "jsonl", "--out", str(tmp_path / "a"), "--personal", "--by", "x", "--limit", "5")

    assert not (tmp_path / "a").exists()
    assert not AuditEvent.objects.filter(type=events.AUDIT_EXPORT_BEGUN).exists()
