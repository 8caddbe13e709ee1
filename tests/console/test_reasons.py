"""What changes something: asked for with a reason, for those who may, recorded."""

from __future__ import annotations

import re
from typing import Any

import pytest

from accounts.models import User
from mestore.lib import actor
from monitoring.models import AuditEvent
from sessions_security import sessions
from tests.console import house
from tests.factories.accounts import BuyerFactory, SuperuserFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

USERS = "/admin/accounts/user/do/"
SESSIONS = "/admin/sessions_security/usersession/do/"
REASON = "asked for by its owner"


def _live_session(user: User) -> Any:
    return sessions.start(user, kind="token", amr=("pwd",), by=actor.system("test"))


def _events(code: str) -> Any:
    return AuditEvent.objects.filter(type=code)


def test_confirmation_says_what_to_how_many_and_whether_it_can_be_undone(
    admin_visitor: house.Visitor,
) -> None:
    people = [BuyerFactory.create(), BuyerFactory.create()]
    keys = [str(user.pk) for user in people]

    answer = admin_visitor.client.get(
        USERS, {"action": "deactivate", "pk": keys}, headers={"accept-language": "en"}
    )
    html = answer.content.decode()

    assert "Deactivate 2 accounts?" in html
    assert all(user.email in html for user in people)
    assert "Can it be undone" in html
    assert "csrfmiddlewaretoken" in html
    assert all(User.objects.get(pk=key).is_active for key in keys)


@pytest.mark.parametrize("reason", ["", "too short", " " * 30, "x" * 501])
def test_without_a_proper_reason_nothing_happens(reason: str, admin_visitor: house.Visitor) -> None:
    user = BuyerFactory.create()

    answer = admin_visitor.client.post(USERS, {"action": "deactivate", "pk": str(user.pk), "reason": reason})

    assert answer.status_code == 400
    assert 'role="alert"' in answer.content.decode()
    assert User.objects.get(pk=user.pk).is_active


def test_get_with_a_reason_changes_nothing(admin_visitor: house.Visitor) -> None:
    user = BuyerFactory.create()

    admin_visitor.client.get(USERS, {"action": "deactivate", "pk": str(user.pk), "reason": REASON})

    assert User.objects.get(pk=user.pk).is_active


def test_post_without_the_csrf_token_is_refused(admin_visitor: house.Visitor) -> None:
    user = BuyerFactory.create()
    admin_visitor.client.handler.enforce_csrf_checks = True

    answer = admin_visitor.client.post(USERS, {"action": "deactivate", "pk": str(user.pk), "reason": REASON})

    assert answer.status_code == 403
    assert User.objects.get(pk=user.pk).is_active


def test_administrator_without_the_grant_sees_no_button_and_may_not_post() -> None:
    visitor, user = house.visitor(), BuyerFactory.create()

    page = visitor.client.get(f"/admin/accounts/user/{user.pk}/change/").content.decode()
    answer = visitor.client.post(USERS, {"action": "deactivate", "pk": str(user.pk), "reason": REASON})

    assert 'name="action"' not in page
    assert answer.status_code == 403
    assert User.objects.get(pk=user.pk).is_active


def test_deactivation_ends_everything_and_is_recorded(admin_visitor: house.Visitor) -> None:
    user = BuyerFactory.create()
    session = _live_session(user)

    answer = admin_visitor.client.post(USERS, {"action": "deactivate", "pk": str(user.pk), "reason": REASON})

    assert answer.status_code == 302
    user.refresh_from_db()
    assert not user.is_active
    assert session not in sessions.live(user)
    event = _events("user.deactivated").get()
    assert event.actor_id == str(admin_visitor.user.pk)
    assert event.target_id == str(user.pk)


def test_reactivation_opens_the_account_again(admin_visitor: house.Visitor) -> None:
    user = BuyerFactory.create(is_active=False)

    admin_visitor.client.post(USERS, {"action": "reactivate", "pk": str(user.pk), "reason": REASON})

    user.refresh_from_db()
    assert user.is_active
    assert _events("user.reactivated").exists()


def test_refusal_of_the_use_case_is_shown_and_changes_nothing(admin_visitor: house.Visitor) -> None:
    chief = SuperuserFactory.create()

    answer = admin_visitor.client.post(
        USERS,
        {"action": "deactivate", "pk": str(chief.pk), "reason": REASON},
        headers={"accept-language": "en"},
    )

    assert answer.status_code == 409
    assert "You may not do this to this account." in answer.content.decode()
    chief.refresh_from_db()
    assert chief.is_active


def test_some_done_and_some_refused_are_both_said(admin_visitor: house.Visitor) -> None:
    chief, user = SuperuserFactory.create(), BuyerFactory.create()
    body = {"action": "deactivate", "pk": [str(chief.pk), str(user.pk)], "reason": REASON}

    answer = admin_visitor.client.post(USERS, body, follow=True, headers={"accept-language": "en"})

    html = answer.content.decode()
    assert "1 account deactivated." in html
    assert "You may not do this to this account." in html


def test_ending_a_session_is_immediate_and_recorded_with_its_reason() -> None:
    above = house.visitor(superuser=True, permissions=(house.DANGEROUS,))  # nobody ends those of their peers
    other = house.visitor()
    session = other.user.sessions.get()

    above.client.post(SESSIONS, {"action": "end", "pk": str(session.pk), "reason": REASON})

    assert other.client.get("/admin/").status_code == 302
    event = _events("session.ended").get(target_id=str(session.pk))
    assert event.actor_id == str(above.user.pk)
    assert event.pii_ct is not None


def test_what_is_over_already_is_left_out(admin_visitor: house.Visitor) -> None:
    session = _live_session(BuyerFactory.create())
    sessions.end(session, by=actor.system("test"), why="test")

    answer = admin_visitor.client.post(SESSIONS, {"action": "end", "pk": str(session.pk), "reason": REASON})

    assert answer.status_code == 302
    assert _events("session.ended").filter(target_id=str(session.pk)).count() == 1


@pytest.mark.parametrize("keys", [[], ["nonsense"], ["00000000-0000-0000-0000-000000000001"]])
def test_nothing_selected_leads_back_with_a_word(keys: list[str], admin_visitor: house.Visitor) -> None:
    answer = admin_visitor.client.get(
        USERS, {"action": "deactivate", "pk": keys}, follow=True, headers={"accept-language": "en"}
    )

    assert answer.redirect_chain[0][0] == "/admin/accounts/user/"
    assert "Nothing was changed." in answer.content.decode()


def test_unknown_action_and_other_methods_are_refused(admin_visitor: house.Visitor) -> None:
    client = admin_visitor.client

    assert client.get(USERS, {"action": "explode"}).status_code == 404
    assert client.get(USERS).status_code == 404
    assert client.put(USERS).status_code == 405


def test_list_offers_selection_only_to_those_who_may(admin_visitor: house.Visitor) -> None:
    may = admin_visitor.client.get("/admin/accounts/user/").content.decode()
    may_not = house.visitor().client.get("/admin/accounts/user/").content.decode()

    assert re.search(r'<input type="checkbox" name="pk"', may)
    assert 'type="checkbox"' not in may_not
