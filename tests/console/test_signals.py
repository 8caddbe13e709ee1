"""The page about signals: who sees it, what it shows, what can be done there."""

from __future__ import annotations

import datetime as dt
import html
import re
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from accounts import responders
from mestore.lib.console import State, figures
from monitoring import alert_notices, alerts, events
from monitoring import panels as monitoring_panels
from monitoring.alerts import Severity
from monitoring.models import AuditEvent
from monitoring.signals import Signal, Watch
from sessions_security.models import StepUpProof, UserSession
from tests.console import house
from tests.console.test_pages import STATEMENTS, _statements
from tests.factories.accounts import AdminFactory, grant

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

LIST, DO = "/admin/monitoring/signal/", "/admin/monitoring/signal/do/"
WHY = "looked at by the night shift"


@pytest.fixture
def watch(db: None) -> house.Visitor:
    return house.visitor(permissions=(responders.VIEWING, responders.ACTING))


def raised(
    about: str = "192.0.2.1", severity: Severity | None = None, rule: str = "detector.spray", **evidence: Any
) -> Signal:
    key = alerts.raise_signal(
        rule, entity=("network", about), severity=severity, evidence=evidence or {"accounts": 30}
    )
    return Signal.objects.get(pk=str(key))


def get(visitor: house.Visitor, path: str, **query: Any) -> str:
    answer = visitor.client.get(path, query, headers={"accept-language": "en"})
    assert answer.status_code == 200, answer
    return html.unescape(answer.content.decode())


def detail(signal: Signal) -> str:
    return f"{LIST}{signal.pk}/change/"


def do(visitor: house.Visitor, action: str, *signals: Signal, **fields: Any) -> Any:
    sent = {"action": action, "pk": [str(signal.pk) for signal in signals], "reason": WHY, **fields}
    return visitor.client.post(DO, sent, headers={"accept-language": "en"})


def names(page: str) -> list[str]:
    """What the rows of a list are about, from above."""
    return re.findall(r"192\.0\.2\.\d+(?=<)", page)


class TestClosed:
    def test_stranger_is_led_to_the_sign_in(self, client: Any) -> None:
        assert client.get(LIST).status_code == 302

    def test_who_may_only_look_is_offered_nothing_and_can_do_nothing(self) -> None:
        visitor, signal = house.visitor(permissions=(responders.VIEWING,)), raised()

        page = get(visitor, detail(signal))
        answers = [do(visitor, name, signal) for name in ("take", "review", "archive", "acknowledge")]

        assert 'name="action"' not in page
        assert {answer.status_code for answer in answers} == {403}
        assert Signal.objects.get().state == "open"

    def test_critical_signal_is_archived_with_a_fresh_factor_only(self, watch: house.Visitor) -> None:
        signal = raised(severity=Severity.CRITICAL)
        StepUpProof.objects.all().delete()

        plain = do(watch, "archive", signal, archived_as="benign")
        stale = do(watch, "archive_critical", signal, archived_as="benign")

        assert plain.status_code == 302  # there is nothing that this can be done to
        assert stale.status_code in {302, 303}
        assert "confirm" in stale["Location"]
        assert Signal.objects.get().state == "open"

        session = UserSession.objects.get(user=watch.user, revoked_at=None)
        StepUpProof.objects.create(
            session=session, method="totp", factor=watch.device.persistent_id, proved_at=timezone.now(),
            bound_at=session.created_at - dt.timedelta(days=1),
        )  # fmt: skip
        do(watch, "archive_critical", signal, archived_as="benign")
        assert Signal.objects.get().state == "archived"


class TestPage:
    def test_worst_is_first_and_the_archived_are_behind_the_filter(self, watch: house.Visitor) -> None:
        low, high = raised("192.0.2.1", Severity.LOW, "detector.silent"), raised("192.0.2.2")
        archived = raised("192.0.2.3", Severity.CRITICAL)
        do(watch, "take", low)
        Signal.objects.filter(pk=archived.pk).update(
            state="archived", archived_at=timezone.now(), archived_as="test"
        )

        assert names(get(watch, LIST)) == ["192.0.2.2", "192.0.2.1"]
        assert names(get(watch, LIST, state="archived")) == ["192.0.2.3"]
        assert names(get(watch, LIST, state="all")) == ["192.0.2.3", "192.0.2.2", "192.0.2.1"]
        assert names(get(watch, LIST, severity="4")) == ["192.0.2.2"]
        assert names(get(watch, LIST, rule="detector.silent")) == ["192.0.2.1"]
        assert names(get(watch, LIST, owner="mine")) == ["192.0.2.1"]
        assert names(get(watch, LIST, owner="nobody")) == ["192.0.2.2"]
        assert names(get(watch, LIST, o="newest")) == [high.entity_id, low.entity_id]

    @pytest.mark.parametrize(
        "query", [{"state": "x"}, {"owner": "x"}, {"evidence__has_key": "a"}, {"severity": "9"}]
    )
    def test_other_filters_show_no_row(self, watch: house.Visitor, query: dict[str, str]) -> None:
        raised()

        answer = watch.client.get(LIST, query)

        assert answer.status_code == 302 or b"192.0.2.1" not in answer.content

    def test_detail_shows_the_evidence_escaped_and_what_was_done(self, watch: house.Visitor) -> None:
        signal = raised(accounts=30, networks=["<b>x</b>", "192.0.2.5"], nested={"n": 1})
        do(watch, "review", signal)

        raw = watch.client.get(detail(signal), headers={"accept-language": "en"}).content.decode()

        assert "&lt;b&gt;x&lt;/b&gt;, 192.0.2.5" in raw
        assert "<b>x</b>" not in raw
        assert "n: 1" in raw
        assert events.get(events.SIGNAL_REVIEWED).description in html.unescape(raw)
        assert "docs/operations.md#many-accounts-from-one-network" in raw

    def test_rule_of_another_version_is_shown_by_its_code(self, watch: house.Visitor) -> None:
        signal = raised()
        Signal.objects.filter(pk=signal.pk).update(rule="former.rule")

        assert "former.rule" in get(watch, LIST)
        assert "not declared in this version" in get(watch, detail(signal))

    def test_statements_are_bounded(self, watch: house.Visitor) -> None:
        for number in range(30):
            raised(f"192.0.2.{number}")
        figures.forget()

        assert _statements(watch.client, LIST) <= STATEMENTS
        assert _statements(watch.client, detail(Signal.objects.all()[0])) <= STATEMENTS

    def test_charts_say_no_data_before_anybody_looked(self, watch: house.Visitor) -> None:
        raised()
        figures.forget()
        before = get(watch, LIST)
        Signal.objects.update(triaged_at=timezone.now() + dt.timedelta(minutes=90))
        figures.forget()
        after = get(watch, LIST)

        assert "no data" in before
        assert "Mean time until somebody looked" in after
        assert re.search(r'<th scope="row">high</th><td class="num">90</td>', after)


class TestActions:
    def test_taken_and_given_to_somebody_else(self, watch: house.Visitor) -> None:
        signal, other = raised(), AdminFactory.create()
        grant(other, responders.ACTING)

        do(watch, "take", signal)
        mine = Signal.objects.get().owner_id
        do(watch, "assign", signal, to=other.email)

        assert mine == watch.user.pk
        assert Signal.objects.get().owner_id == other.pk

    def test_somebody_without_the_right_is_not_made_the_owner(self, watch: house.Visitor) -> None:
        answer = do(watch, "assign", raised(), to=AdminFactory.create().email)

        assert answer.status_code == 409
        assert "may not act on signals" in html.unescape(answer.content.decode())

    def test_page_before_it_asks_what_it_was(self, watch: house.Visitor) -> None:
        page = get(watch, DO, action="archive", pk=str(raised().pk))

        assert page.count("<option") == 8
        assert "What it was" in page

    @pytest.mark.parametrize(
        ("action", "fields"),
        [
            ("archive", {}),
            ("archive", {"archived_as": "nonsense"}),
            ("acknowledge", {"days": "0"}),
            ("acknowledge", {"days": "31"}),
            ("acknowledge", {"days": "x"}),
            ("assign", {}),
        ],
    )
    def test_answer_that_is_missing_is_asked_for_again(
        self, watch: house.Visitor, action: str, fields: dict[str, str]
    ) -> None:
        answer = do(watch, action, raised(), **fields)

        assert answer.status_code == 400
        assert b'role="alert"' in answer.content
        assert Signal.objects.get().state == "open"

    def test_several_are_archived_and_one_that_is_archived_is_left_out(self, watch: house.Visitor) -> None:
        signals = [raised(f"192.0.2.{number}") for number in range(3)]
        do(watch, "archive", signals[0], archived_as="duplicate")

        do(watch, "archive", *signals, archived_as="expected")

        kept = dict(Signal.objects.values_list("entity_id", "archived_as"))
        assert kept == {"192.0.2.0": "duplicate", "192.0.2.1": "expected", "192.0.2.2": "expected"}
        assert AuditEvent.objects.filter(type=events.SIGNAL_ARCHIVED).count() == 3

    def test_acknowledged_is_shown_as_quiet(self, watch: house.Visitor) -> None:
        do(watch, "acknowledge", raised(), days="3")

        assert "quiet until" in get(watch, LIST)
        assert names(get(watch, LIST, state="quiet")) == ["192.0.2.1"]


class _Viewer:
    def __init__(self, *held: str) -> None:
        self.user, self.held = self, held

    def has_perm(self, name: str) -> bool:
        return name in self.held


class TestOverview:
    def test_open_signals_stand_there_by_severity(self, watch: house.Visitor) -> None:
        raised("192.0.2.1")
        raised("192.0.2.2", Severity.CRITICAL)

        page = get(watch, "/admin/")

        assert "Open signals" in page
        assert "1 critical · 1 high" in page
        assert "they never ran" in page

    def test_age_of_the_detectors_is_told_and_old_is_a_warning(self, db: None) -> None:
        def shown() -> tuple[str, State]:
            panel = monitoring_panels.standing(_Viewer("monitoring.view_signal"))[1]
            return str(panel.detail), panel.state

        assert shown() == ("detectors: no data, they never ran", State.WARNING)
        Watch.objects.create(name="sign-in detectors", last_ran_at=timezone.now())
        assert shown()[1] is State.GOOD
        Watch.objects.update(last_ran_at=timezone.now() - dt.timedelta(minutes=7))
        assert shown() == ("detectors last ran 7 min ago", State.WARNING)

    def test_who_may_not_see_signals_has_no_such_panel(self, db: None) -> None:
        assert len(monitoring_panels.standing(_Viewer())) == 1


def test_link_of_the_mail_leads_to_the_page(watch: house.Visitor) -> None:
    address = alert_notices.address_of(raised().pk)

    assert address.startswith(settings.PUBLIC_URL)
    assert get(watch, address.removeprefix(settings.PUBLIC_URL))
