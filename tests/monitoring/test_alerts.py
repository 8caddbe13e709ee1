"""Signals: raised by rules, counted once, worked on by one person at a time, told to those who may act."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, connections, transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from monitoring import alerts
from monitoring.alerts import Rule, Severity
from monitoring.signals import ArchiveReason, Signal, SignalState

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
committed = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

TRIAL = "test.trial"
QUIET = "test.quiet"


@pytest.fixture(autouse=True)
def _rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rules that exist only here."""
    monkeypatch.setattr(alerts, "_rules", dict(alerts._rules))
    alerts.declare(Rule(TRIAL, "Something was tried", Severity.HIGH, "signals"))
    alerts.declare(Rule(QUIET, "Something small", Severity.LOW, "signals"))


def raised(rule: str = TRIAL, *, about: str = "1", **options: Any) -> uuid.UUID:
    given_id = alerts.raise_signal(rule, entity=("user", about), **{"evidence": {"n": 1}, **options})
    assert given_id is not None
    return given_id


class TestRules:
    def test_unknown_rule_is_an_error_and_writes_nothing(self) -> None:
        with pytest.raises(alerts.UnknownRule):
            alerts.raise_signal("test.nobody", entity=("user", "1"), evidence={})

        assert not Signal.objects.exists()

    @pytest.mark.parametrize("code", ["", "one", "Upper.case", "a..b", "a." + "b" * 70, "a b.c"])
    def test_malformed_code_is_refused(self, code: str) -> None:
        with pytest.raises(ValueError, match="well-formed"):
            alerts.declare(Rule(code, "x", Severity.LOW, "signals"))

    def test_code_declared_twice_is_refused(self) -> None:
        with pytest.raises(ValueError, match="twice"):
            alerts.declare(Rule(TRIAL, "another", Severity.LOW, "signals"))

    @pytest.mark.parametrize(
        "entity",
        [("", "1"), ("User", "1"), ("user", ""), ("user", "x" * 129), ("a b", "1"), ("user", "\x00")],
        ids=["no kind", "capitals", "no id", "long id", "blank", "nul"],
    )
    def test_signal_about_nothing_is_refused(self, entity: tuple[str, str]) -> None:
        with pytest.raises(ValueError, match="kind of thing"):
            alerts.raise_signal(TRIAL, entity=entity, evidence={})


class TestCounting:
    def test_seen_again_it_counts_up(self) -> None:
        first, second = raised(), raised(evidence={"n": 2})

        (signal,) = Signal.objects.all()
        assert first == second == signal.pk
        assert signal.seen == 2
        assert [item["n"] for item in signal.evidence] == [2, 1]
        assert signal.first_seen_at <= signal.last_seen_at

    def test_another_thing_or_rule_is_another_signal(self) -> None:
        assert len({raised(), raised(about="2"), raised(QUIET)}) == 3

    def test_severity_is_the_highest_that_was_seen(self) -> None:
        raised(severity=Severity.CRITICAL)
        raised(severity=Severity.LOW)

        assert Signal.objects.get().severity == Severity.CRITICAL

    def test_archived_and_seen_again_is_a_new_row(self) -> None:
        first = raised()
        Signal.objects.filter(pk=first).update(
            state=SignalState.ARCHIVED, archived_at=timezone.now(), archived_as=ArchiveReason.BENIGN
        )

        assert raised() != first
        assert Signal.objects.count() == 2

    @committed
    def test_sixty_four_raisers_make_one_row_with_the_exact_count(
        self, race: Callable[[Sequence[Callable[[], Any]]], list[Any]]
    ) -> None:
        def raise_some(number: int) -> set[uuid.UUID]:
            return {raised(evidence={"n": number}) for _ in range(3)}

        outcomes = race([partial(raise_some, number) for number in range(64)])

        signal = Signal.objects.get()
        assert [outcome for outcome in outcomes if outcome != {signal.pk}] == []
        assert signal.seen == 3 * 64
        assert len(signal.evidence) == alerts.ITEMS

    def test_count_at_the_end_of_its_column_stays_there(self) -> None:
        first = raised()
        Signal.objects.filter(pk=first).update(seen=2**31 - 1)

        raised()

        assert Signal.objects.get().seen == 2**31 - 1


class TestTransactions:
    @committed
    def test_signal_is_undone_with_the_transaction_that_raised_it(self) -> None:
        with transaction.atomic():
            raised()
            transaction.set_rollback(True)

        assert not Signal.objects.exists()

    @committed
    def test_signal_of_a_refusal_outlives_the_transaction(self) -> None:
        with transaction.atomic():
            raised(using="audit")
            transaction.set_rollback(True)

        assert Signal.objects.get().seen == 1

    @committed
    def test_refusal_goes_on_when_its_signal_cannot_be_written(self, owner_dsn: str) -> None:
        with capture_logs() as logged, psycopg.connect(owner_dsn, autocommit=True) as owner:
            owner.execute("ALTER TABLE monitoring_signal RENAME TO monitoring_signal_away")
            try:
                told = alerts.raise_signal(TRIAL, entity=("user", "1"), evidence={}, using="audit")
                with pytest.raises(DatabaseError):
                    alerts.raise_signal(TRIAL, entity=("user", "1"), evidence={})
            finally:
                owner.execute("ALTER TABLE monitoring_signal_away RENAME TO monitoring_signal")

        assert told is None
        assert [(line["event"], line["log_level"]) for line in logged] == [
            ("signal_not_raised", "critical")
        ] * 2


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(), inner, max_size=40),
    max_leaves=60,
)


class TestEvidence:
    def test_newest_twenty_pieces_are_kept(self) -> None:
        for number in range(30):
            raised(evidence={"n": number})

        kept = [item["n"] for item in Signal.objects.get().evidence]
        assert kept == list(range(29, 9, -1))

    def test_large_pieces_are_fewer(self) -> None:
        for number in range(12):
            raised(evidence={"n": number, "networks": [f"{n}." + "x" * 80 for n in range(20)]})

        evidence = Signal.objects.get().evidence
        assert 1 < len(evidence) < 12
        assert len(json.dumps(evidence, separators=(",", ":"))) <= alerts.EVIDENCE_BYTES
        assert evidence[0]["n"] == 11

    def test_secrets_and_typed_addresses_are_cut_out(self) -> None:
        raised(
            evidence={
                "password": "hunter22", "note": "tried ana@example.com with token=abcdef",
                "at_once": {"api_key": "k-1"}, "account": b"\x01\x02",
            }
        )  # fmt: skip

        text = json.dumps(Signal.objects.get().evidence)
        assert not [word for word in ("hunter22", "ana@", "abcdef", "k-1") if word in text]
        assert "0102" in text

    @given(evidence=st.dictionaries(st.text(), _JSON, max_size=40))
    def test_any_evidence_becomes_small_plain_json(self, evidence: dict[str, Any]) -> None:
        made = alerts.bounded(evidence)

        text = json.dumps(made, ensure_ascii=False)
        assert len(text.encode()) <= alerts.ITEM_BYTES
        assert "\x00" not in text

    def test_odd_text_does_not_break_the_statement(self) -> None:
        raised(evidence={"x": "\x00\ud800ñ", "y\x00": [float("nan"), dt.datetime.now(dt.UTC), uuid.uuid4()]})

        assert Signal.objects.get().seen == 1


def test_statement_is_one(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        raised()
    with django_assert_num_queries(1, connection=connections["audit"]):
        raised(about="2", using="audit")
