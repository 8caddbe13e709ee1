"""People who administer others, and what their requests carry."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import transaction
from django.test import Client
from django.utils import timezone

from accounts.models import User
from mestore.lib.actor import Actor
from mestore.lib.http import dumps
from sessions_security import tokens
from sessions_security.models import StepUpProof
from tests.factories.accounts import SuperuserFactory, grant
from tests.factories.sessions_security import session_of

REASON = "asked for in writing"
ALL = (
    "users.create.global", "users.update.global", "users.manage.global", "users.delete.global",
    "users.read.global", "permissions.grant.global", "permissions.revoke.global", "vendors.approve.global",
    "vendors.manage.global",
)  # fmt: skip


def superuser(*names: str, **values: Any) -> User:
    """A superuser who holds `names`, or everything that the administration asks for."""
    made: User = SuperuserFactory.create(**values)
    grant(made, *(names or ALL))
    return made


def acting(user: User) -> Actor:
    """The actor of a request by `user`."""
    return Actor(kind="user", id=str(user.pk), label=user.email, role=user.user_type)


def header(user: User, *, fresh: bool = True) -> dict[str, str]:
    """What a request by `user` carries after a sign-in with two factors; `fresh`: confirmed just now."""
    with transaction.atomic():
        session = session_of(user, amr=("pwd", "otp"))
        pair = tokens.issue_pair(session)
        if fresh:
            StepUpProof.objects.create(
                session=session, factor="test", method="totp", proved_at=timezone.now(),
                bound_at=session.created_at - dt.timedelta(days=1),
            )  # fmt: skip
    return {"Authorization": f"Bearer {pair.access_token}"}


class Caller:
    """Sends requests in the name of one account, under /api/v1/."""

    def __init__(self, user: User, *, fresh: bool = True) -> None:
        self.headers = header(user, fresh=fresh)
        self.client = Client()

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(f"/api/v1/{path}", query, headers=self.headers)

    def post(self, path: str, body: Any = None) -> Any:
        return self._send("post", path, body)

    def put(self, path: str, body: Any = None) -> Any:
        return self._send("put", path, body)

    def delete(self, path: str) -> Any:
        return self.client.delete(f"/api/v1/{path}", headers=self.headers)

    def _send(self, method: str, path: str, body: Any) -> Any:
        raw = body if isinstance(body, bytes) else dumps({} if body is None else body)
        send = getattr(self.client, method)
        return send(f"/api/v1/{path}", raw, content_type="application/json", headers=self.headers)
