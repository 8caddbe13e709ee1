"""What a process commits to the audit trail leaves the machine as receipts, and is held against the trail."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction

from mestore.lib import actor, crypto, ids, merkle, sql
from monitoring import audit, events, leaves, receipt_matching, receipts, redaction, sequencer
from monitoring.models import Signal
from monitoring.receipt_matching import Matching
from monitoring.signals import Severity
from tests.monitoring.test_verification import tamper

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

BY = actor.system("test")
AT_ONCE = dt.timedelta(0)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def stream(tmp_path: Path, settings: Any) -> Iterator[Path]:
    """Where the receipts of this test go."""
    file = tmp_path / "receipts.jsonl"
    file.touch()
    settings.AUDIT_RECEIPTS = str(file)
    receipts._forget()
    yield file
    receipts._forget()


def record(count: int = 1) -> None:
    with transaction.atomic():
        audit.record_many([audit.Entry(events.SIGNED_OUT, by=BY, data={"n": n}) for n in range(count)])


def lines(stream: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.read_text().splitlines()]


def matched(stream: Path) -> Matching:
    return receipt_matching.match(stream.read_text().splitlines(), grace=AT_ONCE)


def restart() -> None:
    """This process's chain ends in order; the next receipt begins another."""
    receipts._end()
    receipts._forget()


def superuser(dsn: str, statement: str, values: tuple[object, ...] = ()) -> None:
    tamper(dsn, (statement, values))


class TestEmission:
    def test_each_commit_leaves_its_leaf_hashes(self, stream: Path) -> None:
        with transaction.atomic():
            event_id = audit.record(events.SIGNED_OUT, by=BY)
            assert lines(stream) == []

        start, commit = lines(stream)
        row = sql.fetch_one("SELECT canon FROM audit_event WHERE id = %s", (event_id,))
        assert row is not None
        assert commit["leaves"] == [f"{event_id} {merkle.leaf_hash(bytes(row[0])).hex()}"]
        assert (start["kind"], start["n"], start["prev"]) == ("start", 0, receipts.FIRST)
        assert (commit["kind"], commit["n"], commit["prev"]) == ("commit", 1, start["mac"])

    def test_what_is_rolled_back_leaves_nothing(self, stream: Path) -> None:
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            audit.record(events.SIGNED_OUT, by=BY)
            raise ZeroDivisionError

        assert lines(stream) == []

    def test_a_savepoint_that_is_rolled_back_leaves_nothing_and_its_neighbours_do(self, stream: Path) -> None:
        with transaction.atomic():
            kept = audit.record(events.SIGNED_OUT, by=BY)
            with contextlib.suppress(ZeroDivisionError), transaction.atomic():
                audit.record(events.SIGNED_OUT, by=BY)
                raise ZeroDivisionError

        (_start, commit) = lines(stream)
        assert [text[:36] for text in commit["leaves"]] == [str(kept)]

    def test_a_refusal_leaves_its_receipt_whatever_becomes_of_the_request(self, stream: Path) -> None:
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            audit.record_refusal(events.SIGN_IN_FAILED, by=BY)
            raise ZeroDivisionError

        assert [line["kind"] for line in lines(stream)] == ["start", "commit"]

    def test_what_is_gathered_is_one_receipt(self, stream: Path) -> None:
        with transaction.atomic(), audit.together():
            audit.record(events.SIGNED_OUT, by=BY)
            record(3)

        assert [len(line["leaves"]) for line in lines(stream)] == [0, 4]

    def test_a_thousand_events_are_lines_that_no_collector_cuts(self, stream: Path) -> None:
        record(1_000)

        assert max(len(line) for line in stream.read_text().splitlines()) < 8_192
        assert sum(len(line["leaves"]) for line in lines(stream)) == 1_000

    def test_a_full_disk_stops_no_commit(self, settings: Any) -> None:
        settings.AUDIT_RECEIPTS = "/dev/full"
        receipts._forget()

        record()

        assert sql.fetch_all("SELECT count(*) FROM audit_event") == [(1,)]

    def test_no_hash_looks_like_a_secret_or_a_card(self) -> None:
        for digit in "0123456789abcdef":
            text = f"{ids.uuid7()} {digit * 64}"
            line = {
                "leaves": [text],
                "writer": digit * 32,
                "prev": digit * 64,
                "mac": digit * 64,
                "n": 10**12,
            }
            assert redaction.redact(line) == line

    def test_no_level_turns_them_off(self) -> None:
        made = subprocess.run(
            [sys.executable, "-c", OF_A_PROCESS], cwd=ROOT, capture_output=True, text=True, check=True,
            env=os.environ | {
                "DJANGO_SETTINGS_MODULE": "mestore.settings", "MESTORE_LOG_LEVEL": "CRITICAL",
                "MESTORE_AUDIT_RECEIPTS": "stderr",
            },
        )  # fmt: skip

        said = [json.loads(line) for line in made.stderr.splitlines()]
        assert [line["kind"] for line in said] == ["start", "commit", "end"]
        assert matched_lines(made.stderr).is_clean

    def test_a_child_process_begins_a_chain_of_its_own(self, stream: Path) -> None:
        record()
        child = os.fork()
        if child == 0:
            receipts._emit([f"{ids.uuid7()} {'0' * 64}"])
            os._exit(0)
        os.waitpid(child, 0)
        record()

        assert len({line["writer"] for line in lines(stream)}) == 2
        assert matched(stream).broken.count == 0


OF_A_PROCESS = """
import django; django.setup()
from django.db import transaction
from mestore.lib import actor
from monitoring import audit, events
with transaction.atomic():
    audit.record(events.SIGNED_OUT, by=actor.system("test"))
"""


def matched_lines(text: str) -> Matching:
    return receipt_matching.match(text.splitlines(), grace=AT_ONCE)


class TestMatching:
    def test_everything_matches_before_and_after_sequencing(self, stream: Path) -> None:
        record(70)
        assert matched(stream).is_clean
        sequencer.drain()
        record(3)

        found = matched(stream)

        assert found.is_clean
        assert (found.leaves, found.receipts, found.writers) == (73, 4, 1)

    def test_an_event_deleted_before_it_was_sequenced_is_found(
        self, stream: Path, superuser_dsn: str
    ) -> None:
        record(5)
        gone = lines(stream)[1]["leaves"][2][:36]
        superuser(superuser_dsn, "DELETE FROM audit_event WHERE id = %s", (gone,))
        superuser(superuser_dsn, "DELETE FROM audit_pending WHERE id = %s", (gone,))
        sequencer.drain()

        found = matched(stream)

        assert found.without_event.count == 1
        assert found.without_event.examples[0].startswith(gone)
        assert Signal.objects.get(rule="audit.receipt_without_event").severity == Severity.CRITICAL
        latest = receipt_matching.latest()
        assert latest is not None
        assert latest.unmatched == 1

    def test_an_event_taken_out_of_the_queue_is_found(self, stream: Path, superuser_dsn: str) -> None:
        record(2)
        superuser(
            superuser_dsn, "DELETE FROM audit_pending WHERE id = %s", (lines(stream)[1]["leaves"][0][:36],)
        )

        assert matched(stream).without_event.count == 1

    def test_an_event_edited_before_it_was_sequenced_is_found(self, stream: Path, superuser_dsn: str) -> None:
        record(2)
        superuser(
            superuser_dsn,
            "UPDATE audit_event SET canon = canon || ' ', leaf_hash = sha256('\\x00'::bytea || canon || ' ')",
        )
        sequencer.drain()

        assert matched(stream).without_event.count == 2

    def test_an_event_inserted_by_hand_is_found(self, stream: Path) -> None:
        record()
        forge(mac=b"\x00" * 32)
        record()

        found = matched(stream)

        assert (found.forged.count, found.without_receipt.count) == (1, 0)
        assert Signal.objects.filter(rule="audit.event_without_receipt").exists()

    def test_a_process_killed_between_commit_and_receipt_explains_its_event(self, stream: Path) -> None:
        record()
        receipts._forget()  # killed: no end
        forge()
        record()

        found = matched(stream)

        assert (found.crashes.count, found.without_receipt.count, found.is_clean) == (1, 0, True)

    def test_nobody_was_killed_so_the_event_is_not_explained(self, stream: Path) -> None:
        record()
        restart()
        forge()
        record()
        restart()

        found = matched(stream)

        assert (found.crashes.count, found.without_receipt.count, found.is_clean) == (0, 1, False)

    def test_lines_that_were_taken_away_are_found(self, stream: Path) -> None:
        for _ in range(4):
            record()
        kept = stream.read_text().splitlines()
        del kept[2]

        found = receipt_matching.match(kept, grace=AT_ONCE)

        assert found.broken.examples == [f"receipts 2 to 2 of {lines(stream)[0]['writer']} are missing"]

    def test_lines_that_were_written_by_somebody_else_are_found(self, stream: Path) -> None:
        record()
        said = lines(stream)[1]
        said["leaves"] = [f"{ids.uuid7()} {'0' * 64}"]
        wrong = [
            '{"event": "audit_receipt"}',
            '"audit_receipt" {',
            '"audit_receipt" {"event":"audit_receipt","n":[]}',
        ]

        found = receipt_matching.match([json.dumps(said), *wrong], grace=AT_ONCE)

        assert (found.broken.count, found.leaves) == (4, 0)

    def test_a_collector_that_delivers_twice_and_adds_words_changes_nothing(self, stream: Path) -> None:
        record(3)
        text = [f"Nov 21 web[7]: {line}" for line in stream.read_text().splitlines()]

        found = receipt_matching.match([*text, "noise", *text], grace=AT_ONCE)

        assert (found.is_clean, found.repeated, found.leaves) == (True, 2, 3)

    def test_files_without_receipts_match_and_say_how_few_there_were(self) -> None:
        assert receipt_matching.match([]) == Matching()

    def test_the_earlier_file_is_missing(self, stream: Path) -> None:
        record()
        record()

        found = receipt_matching.match(stream.read_text().splitlines()[2:], grace=AT_ONCE)

        assert "give the earlier files too" in found.broken.examples[0]

    def test_sixty_four_writers_at_once(self, stream: Path, race: Callable[..., list[Any]]) -> None:
        outcomes = race([record] * 32)
        race([lambda: audit.record_refusal(events.SIGN_IN_FAILED, by=BY)] * 32)

        found = matched(stream)

        assert outcomes == [None] * 32
        assert (found.is_clean, found.leaves, found.writers) == (True, 64, 1)
        assert [line["n"] for line in lines(stream)] == list(range(65))

    def test_a_month_dropped_after_its_export_still_matches(self, stream: Path, superuser_dsn: str) -> None:
        record(3)
        sequencer.drain()
        superuser(superuser_dsn, "DELETE FROM audit_event")

        assert matched(stream).is_clean

    def test_comparisons_stay(self, stream: Path, owner_dsn: str) -> None:
        matched(stream)

        with psycopg.connect(owner_dsn) as owner, pytest.raises(psycopg.errors.RestrictViolation):
            owner.execute("DELETE FROM audit_receipt_match")


def forge(mac: bytes | None = None) -> None:
    """An event around the application's receipts; with its MAC as a killed process would have made it."""
    entry, event_id, now = audit.Entry(events.SIGNED_OUT, by=BY), ids.uuid7(), dt.datetime.now(dt.UTC)
    canon = leaves.canon(
        entry, leaves.columns(entry), event_id=event_id, at=now.isoformat(), subject=None, personal=None
    )
    tag = mac or crypto.mac(canon, purpose=audit.WRITER_PURPOSE)
    sql.execute(
        """INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, canon, writer_mac, leaf_hash)
           VALUES (%s, %s, %s, 'SUCCESS', 'system', %s, %s, sha256('\\x00'::bytea || %s))""",
        (event_id, now, events.SIGNED_OUT, canon, tag, canon),
    )


class TestCommand:
    def run(self, *arguments: str) -> tuple[int, str]:
        out = StringIO()
        try:
            call_command("audit_receipts", *arguments, stdout=out)
        except SystemExit as ended:
            return int(ended.code or 0), out.getvalue()
        return 0, out.getvalue()

    def test_says_that_everything_matches(self, stream: Path) -> None:
        record(2)

        code, text = self.run("--match", str(stream), "--grace", "0")

        assert code == 0
        assert re.search(r"2 receipts of 1 processes for 2 events", text)

    def test_ends_with_1_and_tells_what(self, stream: Path, superuser_dsn: str) -> None:
        record(2)
        superuser(superuser_dsn, "DELETE FROM audit_event")

        code, text = self.run("--match", str(stream), "--json")

        assert code == 1
        said = json.loads(text)
        assert (said["without_event"]["count"], said["clean"]) == (2, False)

    def test_a_file_that_is_not_there_is_no_match(self) -> None:
        with pytest.raises(CommandError) as error:
            call_command("audit_receipts", "--match", "/no/such/file")
        assert error.value.returncode == 2
