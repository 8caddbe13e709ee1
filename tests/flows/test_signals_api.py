"""Signals over HTTP: who may see and do what, and what it answers."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts import responders
from accounts.models import User
from monitoring import alerts, triage
from monitoring.alerts import Severity
from monitoring.models import AuditEvent
from monitoring.signals import Signal
from tests.factories.accounts import AdminFactory, BuyerFactory, grant
from tests.factories.administration import Caller

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

WHY = "looked at by the night shift"
VERBS = ("assign", "review", "acknowledge", "archive")


def raised(about: str = "192.0.2.1", severity: Severity | None = None) -> Signal:
    key = alerts.raise_signal(
        "detector.spray", entity=("network", about), severity=severity, evidence={"accounts": 30}
    )
    return Signal.objects.get(pk=key)


def caller(*names: str, fresh: bool = True) -> tuple[User, Caller]:
    user: User = AdminFactory.create()
    grant(user, *names)
    return user, Caller(user, fresh=fresh)


def tomorrow() -> str:
    return (timezone.now() + dt.timedelta(days=1)).isoformat()


@pytest.fixture
def watch(db: None) -> Caller:
    return caller(responders.ACTING)[1]


class TestClosed:
    def test_stranger_is_asked_to_sign_in(self) -> None:
        signal = raised()

        answers = [Client().get("/api/v1/alerts/")]
        answers += [Client().post(f"/api/v1/alerts/{signal.pk}/{verb}") for verb in VERBS]

        assert {answer.status_code for answer in answers} == {401}
        assert {answer["Content-Type"] for answer in answers} == {"application/problem+json"}

    def test_buyer_sees_nothing(self) -> None:
        assert Caller(BuyerFactory.create()).get("alerts/").status_code == 403

    def test_who_may_only_look_changes_nothing(self) -> None:
        signal, (_user, reader) = raised(), caller()
        body = {"archived_as": "benign", "reason": WHY, "until": tomorrow()}

        assert reader.get("alerts/").status_code == 200
        assert {reader.post(f"alerts/{signal.pk}/{verb}", body).status_code for verb in VERBS} == {403}
        bulk = {"ids": [str(signal.pk)], "action": "review"}
        assert reader.post("alerts/bulk", bulk).status_code == 403
        assert Signal.objects.get().state == "open"

    @pytest.mark.parametrize("verb", VERBS)
    def test_signal_that_does_not_exist_is_not_found(self, watch: Caller, verb: str) -> None:
        body = {"archived_as": "benign", "reason": WHY, "until": tomorrow()}

        answer = watch.post(f"alerts/{uuid.uuid4()}/{verb}", body)

        assert (answer.status_code, answer.json()["error_code"]) == (404, "NOT_FOUND")

    @pytest.mark.parametrize(
        ("verb", "body"),
        [
            ("archive", {}),
            ("archive", {"archived_as": "nonsense", "reason": WHY}),
            ("archive", {"archived_as": "benign", "reason": "short"}),
            ("archive", {"archived_as": "benign", "reason": 7}),
            ("acknowledge", {"reason": WHY}),
            ("acknowledge", {"reason": WHY, "until": "tomorrow"}),
            ("acknowledge", {"reason": WHY, "until": "2020-01-01T00:00:00Z"}),
            ("acknowledge", {"reason": WHY, "until": "2199-01-01T00:00:00Z"}),
            ("assign", {"to": "nobody@example.com"}),
        ],
    )
    def test_body_that_is_not_right_is_refused(self, watch: Caller, verb: str, body: Any) -> None:
        signal = raised()

        answer = watch.post(f"alerts/{signal.pk}/{verb}", body)

        assert answer.status_code == 422, answer.content
        assert Signal.objects.get().state == "open"

    def test_critical_signal_is_archived_with_a_fresh_factor_only(self) -> None:
        signal, body = raised(severity=Severity.CRITICAL), {"archived_as": "benign", "reason": WHY}
        _user, stale = caller(responders.ACTING, fresh=False)
        bulk = {"ids": [str(signal.pk)], "action": "archive", **body}

        refused = [stale.post(f"alerts/{signal.pk}/archive", body), stale.post("alerts/bulk", bulk)]

        assert {(answer.status_code, answer.json()["error_code"]) for answer in refused} == {
            (403, "STEP_UP_REQUIRED")
        }
        assert Signal.objects.get().state == "open"
        assert caller(responders.ACTING)[1].post(f"alerts/{signal.pk}/archive", body).status_code == 200


class TestWork:
    def test_list_is_paged_and_narrowed(self, watch: Caller) -> None:
        for number in range(5):
            raised(f"192.0.2.{number}")
        worst = raised("192.0.2.9", Severity.CRITICAL)

        first = watch.get("alerts/", limit=4).json()
        second = watch.get("alerts/", limit=4, cursor=first["next"]).json()

        assert first["results"][0]["id"] == str(worst.pk)
        assert first["results"][0]["severity"] == "critical"
        assert first["results"][0]["evidence"][0]["accounts"] == 30
        assert len({row["id"] for row in first["results"] + second["results"]}) == 6
        assert second["next"] is None
        assert len(watch.get("alerts/", severity="critical").json()["results"]) == 1
        assert watch.get("alerts/", state="archived").json()["results"] == []
        assert watch.get("alerts/", mine="true").json()["results"] == []

    @pytest.mark.parametrize(
        "query", [{"state": "x"}, {"severity": "9"}, {"limit": 0}, {"limit": 101}, {"cursor": "xx"}]
    )
    def test_query_that_is_not_right_is_refused(self, watch: Caller, query: dict[str, Any]) -> None:
        assert watch.get("alerts/", **query).status_code == 422

    def test_taken_reviewed_and_archived(self) -> None:
        signal, (user, watch) = raised(), caller(responders.ACTING)

        taken = watch.post(f"alerts/{signal.pk}/assign").json()
        reviewed = watch.post(f"alerts/{signal.pk}/review").json()
        again = watch.post(f"alerts/{signal.pk}/review")
        body = {"archived_as": "true_positive", "reason": WHY}
        archived = watch.post(f"alerts/{signal.pk}/archive", body).json()

        assert taken["owner_id"] == str(user.pk)
        assert reviewed["state"] == "reviewing"
        assert (again.status_code, again.json()["error_code"]) == (409, "SIGNAL_CHANGED")
        assert (archived["state"], archived["archived_as"]) == ("archived", "true_positive")
        assert AuditEvent.objects.filter(target_type="signal", actor_id=str(user.pk)).count() == 3

    def test_acknowledged_with_a_moment_of_any_zone(self, watch: Caller) -> None:
        signal = raised()
        until = (timezone.now() + dt.timedelta(days=2)).astimezone(dt.timezone(dt.timedelta(hours=-5)))

        answer = watch.post(f"alerts/{signal.pk}/acknowledge", {"until": until.isoformat(), "reason": WHY})

        assert answer.status_code == 200, answer.content
        assert Signal.objects.get().acknowledged_until == until

    def test_several_at_once_say_what_became_of_each(self, watch: Caller) -> None:
        signals, gone = [raised(f"192.0.2.{number}") for number in range(3)], uuid.uuid4()
        ids = [*(str(signal.pk) for signal in signals), str(gone)]

        answer = watch.post("alerts/bulk", {"ids": ids, "action": "review", "reason": WHY})

        assert [row["error_code"] for row in answer.json()["results"]] == [None, None, None, "NOT_FOUND"]
        assert set(Signal.objects.values_list("state", flat=True)) == {"reviewing"}

    @pytest.mark.parametrize(
        "body",
        [{"action": "archive"}, {"action": "acknowledge"}, {"action": "delete"}, {"ids": []}, {"ids": ["x"]}],
    )
    def test_several_with_something_missing_are_refused_as_a_whole(self, watch: Caller, body: Any) -> None:
        given = {"ids": [str(raised().pk)], "action": "review", "reason": WHY, **body}

        assert watch.post("alerts/bulk", given).status_code == 422

    def test_more_than_a_hundred_are_refused(self, watch: Caller) -> None:
        ids = [str(uuid.uuid4()) for _ in range(triage.BULK_MAX + 1)]

        assert watch.post("alerts/bulk", {"ids": ids, "action": "review"}).status_code == 422
