"""Who is behind a request."""

from __future__ import annotations

import dataclasses
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.test import RequestFactory
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from mestore.lib import actor

USER_ID = uuid.UUID(int=7)


def user(role: str = "VENDOR") -> Any:
    return SimpleNamespace(pk=USER_ID, email="ana@example.co", user_type=role, is_authenticated=True)


def request(who: Any = None) -> Any:
    made = RequestFactory().get("/", REMOTE_ADDR="203.0.113.7", HTTP_USER_AGENT="Firefox")
    if who is not None:
        made.user = who
    return made


def session(number: int, **values: Any) -> Any:
    return SimpleNamespace(id=uuid.UUID(int=number), proved_second_factor=lambda: True, **values)


@pytest.mark.parametrize("who", [None, AnonymousUser()])
def test_nobody_signed_in_is_anonymous_but_has_an_address_and_an_agent(who: Any) -> None:
    found = actor.of(request(who))

    assert found == actor.Actor(kind="anonymous", address="203.0.113.7", agent="Firefox")


def test_a_signed_in_person_is_named_by_id_and_session() -> None:
    asked = request(user())
    asked.user_session = session(8)
    asked.request_id = "req_00c0ffee"

    assert actor.of(asked) == actor.Actor(
        kind="user",
        id=str(USER_ID),
        label="ana@example.co",
        role="VENDOR",
        address="203.0.113.7",
        agent="Firefox",
        session_id=str(uuid.UUID(int=8)),
        request_id="req_00c0ffee",
        second_factor=True,
    )


def test_an_impersonated_session_names_who_is_behind_it() -> None:
    asked = request(user())
    asked.user_session = session(8, impersonator_id=uuid.UUID(int=5))

    assert actor.of(asked).impersonator == str(uuid.UUID(int=5))


def test_a_machine_account_is_a_machine() -> None:
    assert actor.of(request(user("SYSTEM"))).kind == "machine"


def test_the_address_that_the_middleware_found_is_taken() -> None:
    asked = request(user())
    asked.client_address = "198.51.100.1"

    assert actor.of(asked).address == "198.51.100.1"


def test_an_agent_cannot_forge_log_lines_and_is_cut() -> None:
    asked = request()
    asked.META["HTTP_USER_AGENT"] = "a\r\nb\x00\x9bc" + "x" * 999

    found = actor.of(asked)

    assert found.agent.startswith("abcx")
    assert len(found.agent) == 400


def test_a_missing_agent_is_empty() -> None:
    asked = request()
    del asked.META["HTTP_USER_AGENT"]

    assert actor.of(asked).agent == ""


class _Asking(BaseAuthentication):
    """An authenticator that wants to know, for its audit line, who is asking."""

    seen: actor.Actor | None = None

    def authenticate(self, request: Request) -> tuple[Any, None]:
        type(self).seen = actor.of(request)
        return user(), None


def test_asking_from_inside_an_authenticator_does_not_authenticate_again() -> None:
    wrapped: Any = Request(request(), authenticators=[_Asking()])

    assert wrapped.user.email == "ana@example.co"
    assert _Asking.seen == actor.Actor(kind="anonymous", address="203.0.113.7", agent="Firefox")
    assert actor.of(wrapped).id == str(USER_ID)


def test_a_session_set_on_drfs_wrapper_is_found() -> None:
    wrapped: Any = Request(request(), authenticators=[_Asking()])
    assert wrapped.user
    wrapped.user_session = session(9)

    assert actor.of(wrapped).session_id == str(uuid.UUID(int=9))


def test_the_system_acts_under_the_name_of_its_command() -> None:
    assert actor.system("import_orders") == actor.Actor(kind="system", label="import_orders", role="SYSTEM")


def test_an_actor_cannot_be_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        actor.system("worker").role = "ADMIN"  # type: ignore[misc]  # that it is refused is the point
