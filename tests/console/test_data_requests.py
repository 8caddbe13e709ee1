"""The page of requests about own data: what is due first, who may answer, and what the answers do."""

from __future__ import annotations

import datetime as dt
import html
import re
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import consents, data_requests, panels
from accounts.models import ApprovalRequest, DataRequest, User
from mestore.lib import actor
from mestore.lib.console import State
from monitoring import events
from monitoring.models import AuditEvent
from sessions_security.models import StepUpProof
from tests.accounts.test_consents import oneself, yes
from tests.console import house
from tests.factories.accounts import BuyerFactory
from tests.factories.administration import acting
from tests.factories.finance import OrderFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
committed = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
PAGE = "/admin/accounts/datarequest/"
DECIDING = ("users.manage.global", "users.delete.global", "permissions.read.read_only")
REASON = {"reason": "we know who asks"}


def get(client: Client, path: str) -> str:
    answer = client.get(path, headers={"accept-language": "en"})
    assert answer.status_code == 200, answer
    return html.unescape(answer.content.decode())


def ask(kind: str = "export", *, days_ago: int = 0, user: User | None = None) -> DataRequest:
    person = user or BuyerFactory.create()
    request = data_requests.make(person, kind=DataRequest.Kind(kind), reason="please", by=acting(person))
    if days_ago:
        due = data_requests.today() - dt.timedelta(days=days_ago)
        DataRequest.objects.filter(pk=request.pk).update(due_on=due)
    return request


def do(client: Client, action: str, request: DataRequest) -> Any:
    return client.post(f"{PAGE}do/?action={action}", {"action": action, "pk": str(request.pk), **REASON})


@pytest.fixture
def chief(db: None) -> house.Visitor:
    return house.visitor(superuser=True, permissions=DECIDING)


def test_what_is_overdue_stands_first_and_what_is_answered_last(chief: house.Visitor) -> None:
    answered, fresh, late = ask(), ask(), ask(days_ago=3)
    data_requests.reject(answered, reason="not this time", by=actor.system("test"))

    page = get(chief.client, PAGE)

    order = [page.index(str(row.pk)) for row in (late, fresh, answered)]
    assert order == sorted(order)
    assert page.count("overdue") >= 1
    assert str(fresh.pk) not in get(chief.client, f"{PAGE}?waits=overdue")
    assert str(answered.pk) not in get(chief.client, f"{PAGE}?waits=open")
    assert str(late.pk) not in get(chief.client, f"{PAGE}?waits=over")


def test_the_list_costs_the_same_for_one_and_for_many(chief: house.Visitor) -> None:
    ask()
    with CaptureQueriesContext(connection) as few:
        get(chief.client, PAGE)
    for _ in range(12):
        ask()
    with CaptureQueriesContext(connection) as many:
        get(chief.client, PAGE)

    assert len(many) == len(few) <= 12


def test_one_request_shows_what_must_be_kept_and_leaves_a_trace(chief: house.Visitor) -> None:
    user = BuyerFactory.create()
    OrderFactory.create(buyer=user)
    request = ask("erasure", user=user)

    page = get(chief.client, f"{PAGE}{request.pk}/change/")

    assert user.email in page
    assert re.search(r"Must be kept.{0,200}order", page, re.DOTALL)
    seen = AuditEvent.objects.filter(type=events.SENSITIVE_PAGE_VIEWED, target_id=str(request.pk))
    assert seen.count() == 1


def test_granting_a_copy_from_the_page(chief: house.Visitor) -> None:
    request = ask()

    answer = do(chief.client, "grant_export", request)

    assert answer.status_code == 302, answer.content.decode()
    assert DataRequest.objects.get(pk=request.pk).state == "building"
    assert do(chief.client, "grant_export", request).status_code == 302  # nothing left that it fits
    granted = AuditEvent.objects.get(type=events.DATA_REQUEST_APPROVED)
    assert granted.actor_id == str(chief.user.pk)


def test_refusing_from_the_page(chief: house.Visitor) -> None:
    request = ask("erasure")

    assert do(chief.client, "reject", request).status_code == 302

    row = DataRequest.objects.get(pk=request.pk)
    assert (row.state, row.answer) == ("rejected", REASON["reason"])


def test_what_must_be_kept_is_said_instead_of_asked(chief: house.Visitor) -> None:
    user = BuyerFactory.create()
    OrderFactory.create(buyer=user)

    answer = do(chief.client, "ask_erasure", ask("erasure", user=user))

    assert answer.status_code == 409
    assert not ApprovalRequest.objects.exists()


@committed
def test_two_people_forget_somebody_through_the_console() -> None:
    asker = house.visitor(superuser=True, permissions=DECIDING)
    second = house.visitor(superuser=True, permissions=DECIDING)
    user = BuyerFactory.create()
    request = ask("erasure", user=user)

    assert do(asker.client, "ask_erasure", request).status_code == 302
    waiting = ApprovalRequest.objects.get()
    approving = "/admin/accounts/approvalrequest/do/"
    body = {"action": "approve", "pk": str(waiting.pk), **REASON}
    own = asker.client.post(approving, body)
    assert own.status_code == 409
    assert second.client.post(approving, body).status_code == 302

    assert not User.objects.filter(pk=user.pk).exists()
    assert DataRequest.objects.get(pk=request.pk).state == "done"
    assert "forgotten" in get(second.client, f"{PAGE}{request.pk}/change/")
    assert "forgotten" in get(second.client, PAGE)


def test_a_stale_factor_or_a_missing_right_answers_nothing(chief: house.Visitor) -> None:
    request = ask()
    reader = house.visitor(permissions=("users.read.read_only",))
    StepUpProof.objects.filter(session__user=chief.user).delete()

    stale = do(chief.client, "grant_export", request)
    assert (stale.status_code, "/admin/" in stale["Location"]) == (302, True)
    assert "Grant the copy" not in get(reader.client, f"{PAGE}{request.pk}/change/")
    assert do(reader.client, "grant_export", request).status_code == 403

    assert DataRequest.objects.get(pk=request.pk).state == "waiting"


def test_overview_says_how_many_wait_and_how_many_too_long(chief: house.Visitor) -> None:
    def figure() -> tuple[str, str]:
        session: Any = SimpleNamespace(user=chief.user)
        request: Any = SimpleNamespace(user=chief.user, user_session=session)
        (found,) = [one for one in panels.locked_and_waiting(request) if one.order == 36]
        return str(found.value), str(found.state)

    assert figure() == ("0", str(State.GOOD))
    ask()
    assert figure() == ("1", str(State.WARNING))
    ask(days_ago=1)
    assert figure() == ("2", str(State.CRITICAL))
    assert "1 overdue" in get(chief.client, "/admin/")


def test_page_of_an_account_shows_what_it_agreed_to(chief: house.Visitor) -> None:
    user = BuyerFactory.create()
    consents.decide(user, yes("habeas_data"), by=oneself(user))

    page = get(chief.client, f"/admin/accounts/user/{user.pk}/change/")

    assert "Consents" in page
    assert "habeas_data" in page
