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

from accounts import responders as staff
from accounts.models import User
from mestore.lib.actor import Actor
from monitoring import alert_figures, alert_lists, alert_notices, alerts, delivery, events, responders, triage
from monitoring.alerts import Rule, Severity
from monitoring.models import AuditEvent
from monitoring.outbox import OutboxMessage
from monitoring.registry import REGISTRY
from monitoring.signals import ArchiveReason, Signal, SignalState
from tests.factories.accounts import AdminFactory, BuyerFactory, SuperuserFactory, grant

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


WHY = "looked at by the night shift"


def responder() -> User:
    """An administrator who may act on signals."""
    user: User = AdminFactory.create()
    grant(user, staff.ACTING)
    return user


def acting(user: User) -> Actor:
    return Actor(kind="user", id=str(user.pk), label=user.email, role=user.user_type)


def signal_of(rule: str = TRIAL, **options: Any) -> Signal:
    return Signal.objects.get(pk=raised(rule, **options))


def steps(signal: Signal) -> list[str]:
    told = AuditEvent.objects.filter(target_type="signal", target_id=str(signal.pk))
    return list(told.order_by("occurred_at").values_list("type", flat=True))


class TestTriage:
    def test_from_open_to_archived_each_step_is_an_event(self) -> None:
        user, signal = responder(), signal_of()
        by = acting(user)

        triage.assign(signal, to=str(user.pk), by=by)
        triage.review(signal, by=by)
        triage.archive(signal, archived_as="benign", reason=WHY, by=by)

        kept = Signal.objects.get()
        assert (kept.state, kept.archived_as, kept.archived_why) == ("archived", "benign", WHY)
        assert (kept.owner_id, kept.owner_label) == (user.pk, user.email)
        assert kept.triaged_at is not None
        assert steps(signal) == [events.SIGNAL_ASSIGNED, events.SIGNAL_REVIEWED, events.SIGNAL_ARCHIVED]

    @pytest.mark.parametrize("word", ["assign", "review", "acknowledge", "archive"])
    def test_archived_signal_changes_no_more(self, word: str) -> None:
        user, signal = responder(), signal_of()
        by = acting(user)
        triage.archive(signal, archived_as="test", reason=WHY, by=by)
        act: dict[str, Callable[[], None]] = {
            "assign": lambda: triage.assign(signal, to=str(user.pk), by=by),
            "review": lambda: triage.review(signal, by=by),
            "acknowledge": lambda: triage.acknowledge(
                signal, until=timezone.now() + dt.timedelta(days=1), reason=WHY, by=by
            ),
            "archive": lambda: triage.archive(signal, archived_as="benign", reason=WHY, by=by),
        }

        with pytest.raises(triage.Changed):
            act[word]()

        assert Signal.objects.get().archived_as == "test"
        assert steps(signal) == [events.SIGNAL_ARCHIVED]

    @committed
    def test_of_many_who_archive_at_once_one_wins_and_the_others_are_told(
        self, race: Callable[[Sequence[Callable[[], Any]]], list[Any]]
    ) -> None:
        by, reasons = acting(responder()), list(ArchiveReason.values)
        key = signal_of().pk

        def archive(archived_as: str) -> str:
            triage.archive(Signal.objects.get(pk=key), archived_as=archived_as, reason=WHY, by=by)
            return archived_as

        outcomes = race([partial(archive, reason) for reason in reasons])

        winners = [outcome for outcome in outcomes if isinstance(outcome, str)]
        assert winners == [Signal.objects.get().archived_as]
        assert [type(outcome) for outcome in outcomes].count(triage.Changed) == len(reasons) - 1
        assert AuditEvent.objects.filter(type=events.SIGNAL_ARCHIVED).count() == 1

    @committed
    def test_of_many_who_take_it_at_once_one_is_the_owner(
        self, race: Callable[[Sequence[Callable[[], Any]]], list[Any]]
    ) -> None:
        people, signal = [responder() for _ in range(8)], signal_of()
        seen = {str(user.pk): Signal.objects.get() for user in people}

        outcomes = race(
            [partial(triage.assign, seen[str(user.pk)], to=str(user.pk), by=acting(user)) for user in people]
        )

        assert outcomes.count(None) == 1
        assert Signal.objects.get(pk=signal.pk).owner_id == people[outcomes.index(None)].pk

    def test_signal_that_became_worse_is_not_archived_as_it_was_read(self) -> None:
        signal = signal_of()
        raised(severity=Severity.CRITICAL)

        with pytest.raises(triage.Changed):
            triage.archive(signal, archived_as="benign", reason=WHY, by=acting(responder()))

    def test_owner_is_a_member_of_the_staff_who_may_act(self) -> None:
        signal, by = signal_of(), acting(responder())
        powerless, buyer, closed = AdminFactory.create(), BuyerFactory.create(), responder()
        User.objects.filter(pk=closed.pk).update(is_active=False)

        for person in (str(powerless.pk), buyer.email, str(closed.pk), "nobody@example.com", "", "\x00"):
            with pytest.raises(triage.NotAResponder):
                triage.assign(signal, to=person, by=by)

        assert Signal.objects.get().owner_id is None

    def test_owner_may_be_named_by_address_in_any_spelling(self) -> None:
        user, signal = responder(), signal_of()

        triage.assign(signal, to=f" {user.email.upper()} ", by=acting(responder()))

        assert Signal.objects.get().owner_id == user.pk

    @pytest.mark.parametrize("reason", ["", "too short", " " * 20, "x" * 501])
    def test_silence_and_archive_need_words(self, reason: str) -> None:
        signal, by = signal_of(), acting(responder())

        with pytest.raises(triage.NotAReason):
            triage.archive(signal, archived_as="benign", reason=reason, by=by)
        with pytest.raises(triage.NotAReason):
            triage.acknowledge(signal, until=timezone.now() + dt.timedelta(days=1), reason=reason, by=by)

    @pytest.mark.parametrize("archived_as", ["", "nonsense", "BENIGN"])
    def test_unknown_reason_to_archive_is_refused(self, archived_as: str) -> None:
        with pytest.raises(triage.NotAReason):
            triage.archive(signal_of(), archived_as=archived_as, reason=WHY, by=acting(responder()))

    @pytest.mark.parametrize("seconds", [-1, 0, 30 * 86_400 + 60])
    def test_silence_ends_within_thirty_days(self, seconds: int) -> None:
        until = timezone.now() + dt.timedelta(seconds=seconds)

        with pytest.raises(triage.NotAnEnd):
            triage.acknowledge(signal_of(), until=until, reason=WHY, by=acting(responder()))

    def test_several_are_done_each_for_itself(self) -> None:
        user = responder()
        gone, archived, fresh = uuid.uuid4(), signal_of(about="2"), signal_of(about="3")
        triage.archive(archived, archived_as="test", reason=WHY, by=acting(user))

        results = triage.each(
            [gone, archived.pk, fresh.pk], lambda signal: triage.review(signal, by=acting(user))
        )

        assert [result.error.code if result.error else None for result in results] == [
            "NOT_FOUND", "SIGNAL_CHANGED", None,
        ]  # fmt: skip
        assert Signal.objects.get(pk=fresh.pk).state == SignalState.REVIEWING

    def test_more_than_a_hundred_at_once_are_refused(self) -> None:
        with pytest.raises(triage.TooMany):
            triage.each([uuid.uuid4()] * 101, lambda _signal: None)


class TestSilence:
    def _quiet(self, rule: str = TRIAL) -> Signal:
        signal = signal_of(rule)
        until = timezone.now() + dt.timedelta(hours=1)
        triage.review(signal, by=acting(responder()))
        triage.acknowledge(signal, until=until, reason=WHY, by=acting(responder()))
        return signal

    def test_it_counts_on_and_nobody_is_mailed(self) -> None:
        self._quiet()
        raised()

        assert alert_notices.tell() == 0
        kept = Signal.objects.get()
        assert (kept.seen, kept.state) == (2, "reviewing")
        assert kept.acknowledged_until is not None

    def test_higher_severity_ends_it(self) -> None:
        self._quiet()
        raised(severity=Severity.CRITICAL)

        kept = Signal.objects.get()
        assert (kept.state, kept.acknowledged_until, kept.acknowledged_why) == ("open", None, "")
        assert alert_notices.tell() == 1

    def test_when_its_time_is_over_it_opens_and_is_told_anew(self) -> None:
        signal = self._quiet()
        Signal.objects.update(notified_severity=Severity.HIGH, notified_at=timezone.now())
        assert alert_notices.wake() == 0

        later = timezone.now() + dt.timedelta(hours=2)
        assert (alert_notices.wake(now=later), alert_notices.wake(now=later)) == (1, 0)

        assert Signal.objects.get().state == SignalState.OPEN
        assert steps(signal)[-1] == events.SIGNAL_REOPENED
        assert alert_notices.tell(now=later) == 1


def mails(template: str = alert_notices.TEMPLATE) -> list[dict[str, str]]:
    return [json.loads(row.payload or "{}") for row in OutboxMessage.objects.filter(template=template)]


class TestNotices:
    def test_those_who_may_act_are_told_once_with_a_link_and_no_evidence(self) -> None:
        user, other = responder(), AdminFactory.create()
        signal = signal_of(evidence={"network": "203.0.113.77", "account": "a1b2c3"}, about="203.0.113.77")

        assert (alert_notices.tell(), alert_notices.tell()) == (1, 0)

        (mail,) = mails()
        assert mail["to"] == user.email != other.email
        assert f"/admin/monitoring/signal/{signal.pk}/change/" in mail["text"]
        assert "Something was tried" in mail["subject"]
        assert "203.0.113.77" not in mail["subject"] + mail["text"]
        assert "a1b2c3" not in mail["text"]
        assert steps(signal) == [events.SIGNAL_TOLD]

    def test_a_rise_is_told_again_and_a_repetition_is_not(self) -> None:
        responder()
        raised()
        alert_notices.tell()
        raised()
        assert alert_notices.tell() == 0

        raised(severity=Severity.CRITICAL)

        assert alert_notices.tell() == 1
        assert len(mails()) == 2

    def test_what_is_lower_or_archived_is_not_told(self) -> None:
        by = acting(responder())
        raised(QUIET)
        raised(QUIET, about="2", severity=Severity.MEDIUM)
        triage.archive(signal_of(), archived_as="test", reason=WHY, by=by)

        assert alert_notices.tell() == 0

    def test_flood_of_one_rule_is_told_so_often_an_hour_and_the_worst_first(self, settings: Any) -> None:
        settings.SIGNAL_MAILS_AN_HOUR = 3
        responder()
        for number in range(6):
            raised(about=str(number), severity=Severity.CRITICAL if number == 4 else None)
        alerts.declare(Rule("test.other", "Another", Severity.HIGH, "signals"))
        raised("test.other")

        assert alert_notices.tell() == 4
        assert Signal.objects.get(entity_id="4").notified_at is not None
        assert alert_notices.tell() == 0
        assert alert_notices.tell(now=timezone.now() + dt.timedelta(minutes=61)) == 3

    def test_where_nobody_may_act_the_superusers_are_told(self) -> None:
        chief = SuperuserFactory.create()
        AdminFactory.create()
        raised()

        alert_notices.tell()

        assert [mail["to"] for mail in mails()] == [chief.email]

    def test_with_nobody_to_tell_it_waits_and_the_log_says_so(self) -> None:
        raised()
        with capture_logs() as logged:
            assert alert_notices.tell() == 0
        responder()

        assert [line["event"] for line in logged] == ["nobody_to_tell_of_signals"]
        assert alert_notices.tell() == 1

    def test_without_a_directory_nobody_is_anybody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        user = responder()
        monkeypatch.setattr(responders, "_directories", [])

        assert responders.everybody() == ()
        assert responders.one(str(user.pk)) is None

    @committed
    def test_two_workers_mail_once(self, race: Callable[[Sequence[Callable[[], Any]]], list[Any]]) -> None:
        responder()
        raised()

        assert sum(race([alert_notices.tell] * 4)) == 1
        assert len(mails()) == 1

    def test_mail_that_was_written_can_be_sent(self, mailoutbox: Any) -> None:
        responder()
        raised()
        alert_notices.tell()

        assert delivery.send(OutboxMessage.objects.get().pk)
        assert mailoutbox[0].subject.endswith(": Something was tried")


class TestForgetting:
    def test_archived_signals_and_old_evidence_go(self, settings: Any) -> None:
        by = acting(responder())
        old, young, still_open = signal_of(), signal_of(about="2"), signal_of(about="3")
        for signal in (old, young):
            triage.archive(signal, archived_as="test", reason=WHY, by=by)
        long_ago = timezone.now() - dt.timedelta(days=settings.SIGNAL_DAYS, minutes=1)
        Signal.objects.filter(pk=old.pk).update(archived_at=long_ago)
        Signal.objects.filter(pk=still_open.pk).update(first_seen_at=long_ago, last_seen_at=long_ago)

        assert alert_notices.forget() == 2
        assert alert_notices.forget() == 0

        kept = {signal.pk: signal for signal in Signal.objects.all()}
        assert set(kept) == {young.pk, still_open.pk}
        assert kept[still_open.pk].evidence == []
        assert kept[young.pk].evidence != []


class TestLists:
    def test_pages_have_every_signal_once_the_worst_first(self) -> None:
        for number in range(7):
            raised(about=str(number), severity=Severity(1 + number % 5))
        same = timezone.now()
        Signal.objects.update(last_seen_at=same)

        found, cursor = [], None
        while True:
            page = alert_lists.page(alert_lists.Wanted(), limit=2, cursor=cursor)
            found += page.signals
            cursor = page.next
            if cursor is None:
                break

        assert len({signal.pk for signal in found}) == len(found) == 7
        assert [s.severity for s in found] == sorted((s.severity for s in found), reverse=True)

    @pytest.mark.parametrize(
        "cursor", ["x", "é", "Li4u", "NS4x", "=" * 300, "OTk5Ljk5OTk5OTk5OTk5OTk5OTk5OTk5OS54"]
    )
    def test_cursor_of_somebody_else_is_refused(self, cursor: str) -> None:
        with pytest.raises(alert_lists.CursorInvalid):
            alert_lists.page(alert_lists.Wanted(), limit=2, cursor=cursor)


class TestFigures:
    @staticmethod
    def _open(severity: str) -> float | None:
        return REGISTRY.get_sample_value("mestore_signals_open", {"severity": severity})

    def test_open_signals_are_counted_by_severity(self) -> None:
        raised()
        raised(about="2")
        triage.archive(signal_of(about="3"), archived_as="test", reason=WHY, by=acting(responder()))

        alert_figures.publish()

        assert (self._open("high"), self._open("critical")) == (2, 0)

    @committed
    def test_without_an_answer_it_is_no_number_and_not_zero(self, owner_dsn: str) -> None:
        with psycopg.connect(owner_dsn, autocommit=True) as owner:
            owner.execute("ALTER TABLE monitoring_signal RENAME TO monitoring_signal_away")
            try:
                alert_figures.publish()
            finally:
                owner.execute("ALTER TABLE monitoring_signal_away RENAME TO monitoring_signal")

        assert str(self._open("high")) == "nan"

    def test_raised_are_counted_by_rule(self) -> None:
        before = REGISTRY.get_sample_value("mestore_signals_raised_total", {"rule": TRIAL}) or 0

        raised()

        assert REGISTRY.get_sample_value("mestore_signals_raised_total", {"rule": TRIAL}) == before + 1
