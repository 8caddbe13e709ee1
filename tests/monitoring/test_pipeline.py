"""What is late on the way to the signed log is a figure, a warning and a signal; silence is none."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, transaction

from mestore.lib import actor, sql
from mestore.lib.notes import Signer
from monitoring import audit, events, health, metrics, pipeline, receipt_matching, sequencer, tasks
from monitoring.models import Signal
from tests.monitoring.test_verification import tamper

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

BY = actor.system("test")
WITNESS = Signer.of_seed("witness.example/w1", bytes([7]) * 32, cosigner=True)


def record(count: int = 1) -> None:
    with transaction.atomic():
        audit.record_many([audit.Entry(events.SIGNED_OUT, by=BY) for _ in range(count)])


def value(name: str) -> str:
    (found,) = [
        line.rpartition(" ")[2]
        for line in metrics.scrape().decode().splitlines()
        if line.startswith(f"mestore_audit_{name}")
    ]
    return found


def rules() -> set[str]:
    return set(Signal.objects.values_list("rule", flat=True))


@pytest.fixture
def witnessed(settings: Any) -> None:
    settings.AUDIT_WITNESSES = [("https://localhost:1", str(WITNESS.verifier))]


def test_a_log_that_keeps_up_raises_nothing() -> None:
    assert pipeline.watch() == 0
    record(3)
    sequencer.drain()

    assert (pipeline.watch(), rules()) == (0, set())


def test_figures_are_those_of_the_database() -> None:
    record(3)
    sequencer.drain()
    record(2)

    pipeline.publish()

    assert (value("events_total"), value("pending")) == ("5.0", "2.0")
    assert 0 <= float(value("checkpoint_age_seconds")) < 60
    assert 0 <= float(value("oldest_pending_seconds")) < 60
    assert value("receipts_unmatched") == "NaN"  # nobody ever compared
    receipt_matching.match([])
    pipeline.publish()
    assert value("receipts_unmatched") == "0.0"


def test_without_an_answer_they_are_no_numbers(monkeypatch: pytest.MonkeyPatch, witnessed: None) -> None:
    def away(*_args: Any, **_values: Any) -> None:
        raise DatabaseError

    with monkeypatch.context() as patch:
        patch.setattr(sql, "fetch_one", away)
        pipeline.publish()

    names = ("events_total", "pending", "oldest_pending_seconds", "checkpoint_age_seconds", "witness_age")
    assert {value(name) for name in names} == {"NaN"}


def test_events_that_wait_too_long_are_told_and_warned_of(superuser_dsn: str) -> None:
    record(2)
    sequencer.drain()
    record(1)
    tamper(superuser_dsn, "UPDATE audit_pending SET occurred_at = now() - interval '61 seconds'")
    health.forget_report()

    assert (pipeline.watch(), rules()) == (1, {"audit.queue_behind"})
    assert health.current_report().word == "warn"
    health.forget_report()


def test_a_log_that_nobody_signs_is_told_and_warned_of(superuser_dsn: str) -> None:
    record(2)
    sequencer.drain()
    tamper(superuser_dsn, "UPDATE audit_tree SET published_at = now() - interval '121 seconds'")
    health.forget_report()

    assert (pipeline.watch(), rules()) == (1, {"audit.checkpoint_stale"})
    assert dict(health.current_report().checks)["audit"].startswith("nobody has signed the log")
    health.forget_report()


def test_events_before_the_first_signature_are_told() -> None:
    record(1)

    assert (pipeline.watch(), rules()) == (1, {"audit.checkpoint_stale"})


def test_a_witness_that_does_not_confirm_is_told(superuser_dsn: str, witnessed: None) -> None:
    record(1)
    sequencer.drain()
    assert pipeline.watch() == 0
    tamper(superuser_dsn, "UPDATE audit_checkpoint SET signed_at = now() - interval '16 minutes'")

    assert (pipeline.watch(), rules()) == (1, {"audit.witness_silent"})
    assert Signal.objects.get().entity_id == WITNESS.name
    pipeline.publish()
    assert float(value("witness_age_seconds")) > 900


def test_a_quiet_night_is_no_silence_of_the_witness(superuser_dsn: str, witnessed: None) -> None:
    record(1)
    sequencer.drain()
    sql.execute(
        """INSERT INTO audit_cosignature (epoch, size, witness, line, cosigned_at)
           SELECT epoch, size, %s, 'line', now() FROM audit_checkpoint""",
        (WITNESS.name,),
    )
    tamper(superuser_dsn, "UPDATE audit_checkpoint SET signed_at = now() - interval '10 hours'")

    assert pipeline.watch() == 0


def test_that_nobody_watches_is_said_plainly() -> None:
    assert pipeline.tell_unwatched()
    assert Signal.objects.get().rule == "audit.no_witness"


def test_with_a_witness_it_is_not_said(witnessed: None) -> None:
    assert not pipeline.tell_unwatched()


def test_the_worker_looks_each_minute() -> None:
    record(1)

    assert tasks.watch_audit_trail.func(timestamp=0) == 1
    assert tasks.replay_spool.func(timestamp=0) == 0


def test_the_figures_are_four_statements(django_assert_max_num_queries: Any, witnessed: None) -> None:
    with django_assert_max_num_queries(4):
        pipeline.publish()
