from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.core import mail
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from accounts import grants, hierarchy
from accounts.models import User
from mestore.lib import guard
from mestore.lib.actor import Actor
from monitoring import delivery
from monitoring.models import AuditEvent
from monitoring.outbox import OutboxMessage
from sessions_security import impersonation, session_check, sessions, stepup, tokens
from sessions_security.models import Impersonation, UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

REASON = "ticket 4711: cannot see an order"


def administrator(**values: Any) -> tuple[User, UserSession, Actor]:
    user = people.SuperuserFactory.create(**values)
    people.grant(user, "users.manage.global")
    session = made.session_of(user, kind="cookie", amr=("pwd", "otp"))
    by = Actor(
        kind="user", id=str(user.pk), label=user.email, role=user.user_type, session_id=str(session.pk),
        address="127.0.0.1", second_factor=True,
    )  # fmt: skip
    return user, session, by


def bearer(session: UserSession) -> dict[str, str]:
    with transaction.atomic():
        return {"Authorization": f"Bearer {tokens.issue_access(session).access_token}"}


def loaded(session: UserSession) -> UserSession | None:
    return session_check.by_token(session.pk, session.user_id, address="127.0.0.1")


# --- Who may ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "values"),
    [(people.SuperuserFactory, {}), (people.MachineFactory, {}), (people.BuyerFactory, {"is_active": False})],
)
def test_equals_machines_and_closed_accounts_are_not_impersonated(make: Any, values: dict[str, Any]) -> None:
    target = make.create(**values)
    _user, session, by = administrator()

    with pytest.raises(hierarchy.NotAllowed):
        impersonation.begin(session, target, reason=REASON, by=by)

    assert not Impersonation.objects.exists()
    assert AuditEvent.objects.using("audit").filter(type="impersonation.refused").count() == 1


def test_it_needs_a_permission_a_factor_a_reason_and_ones_own_session() -> None:
    user, session, by = administrator()
    buyer = people.BuyerFactory.create()
    weak = made.session_of(user, kind="cookie", amr=("pwd",))
    stranger = people.SuperuserFactory.create()

    with pytest.raises(hierarchy.ReasonMissing):
        impersonation.begin(session, buyer, reason="help", by=by)
    with pytest.raises(hierarchy.NotAllowed):
        impersonation.begin(weak, buyer, reason=REASON, by=sessions.acting(by, weak))
    with pytest.raises(hierarchy.NotAllowed):
        impersonation.begin(session, buyer, reason=REASON, by=made.HERE)
    theirs = made.session_of(stranger, kind="cookie", amr=("pwd", "otp"))
    with pytest.raises(hierarchy.NotAllowed):
        impersonation.begin(theirs, buyer, reason=REASON, by=by)
    with pytest.raises(hierarchy.NotAllowed):  # has no grant
        impersonation.begin(theirs, buyer, reason=REASON, by=sessions.acting(by, theirs))
    assert not Impersonation.objects.exists()


def test_nobody_impersonates_out_of_an_impersonation() -> None:
    _user, session, by = administrator()
    admin = people.AdminFactory.create()
    people.grant(admin, "users.manage.global")
    inner = impersonation.begin(session, admin, reason=REASON, by=by)

    with pytest.raises(hierarchy.NotAllowed):
        impersonation.begin(inner, people.BuyerFactory.create(), reason=REASON, by=sessions.acting(by, inner))


def test_database_refuses_an_impersonation_of_oneself() -> None:
    user, session, _by = administrator()
    now = timezone.now()

    with pytest.raises(IntegrityError):
        Impersonation.objects.create(
            session_id=people.BuyerFactory.create().pk, origin_id=session.pk, impersonator=user, user=user,
            reason=REASON, started_at=now, ends_at=now + dt.timedelta(minutes=1),
        )  # fmt: skip


# --- What it is -------------------------------------------------------------------------------------------


def test_row_names_both_ends_in_fifteen_minutes_and_disturbs_nobody(
    django_capture_on_commit_callbacks: Any,
) -> None:
    user, session, by = administrator()
    buyer = people.BuyerFactory.create()
    own = made.session_of(buyer)
    User.objects.filter(pk=buyer.pk).update(last_login=None)
    buyer.refresh_from_db()

    found = impersonation.begin(session, buyer, reason=REASON, by=by)

    row = Impersonation.objects.get()
    assert (row.session_id, row.impersonator_id, row.user_id) == (found.pk, user.pk, buyer.pk)
    assert found.absolute_expires_at - found.created_at == dt.timedelta(minutes=15)
    assert loaded(own) is not None
    assert User.objects.get(pk=buyer.pk).last_login is None
    assert AuditEvent.objects.filter(type="impersonation.started", target_id=str(buyer.pk)).count() == 1
    delivery.send(OutboxMessage.objects.get().pk)
    assert mail.outbox[0].to == [buyer.email]


def test_new_sign_in_of_the_account_neither_counts_nor_ends_an_impersonation(settings: Any) -> None:
    settings.SESSION_POLICY = {
        **settings.SESSION_POLICY,
        "BUYER": {
            "idle_seconds": 600, "absolute_seconds": 900, "max_sessions": 2, "assurance": "password",
        },
    }
    _user, session, by = administrator()
    buyer = people.BuyerFactory.create()
    first = made.session_of(buyer)
    found = impersonation.begin(session, buyer, reason=REASON, by=by)

    second = made.session_of(buyer)

    assert all(loaded(one) is not None for one in (first, second, found))


def test_a_second_one_ends_the_first() -> None:
    _user, session, by = administrator()
    first = impersonation.begin(session, people.BuyerFactory.create(), reason=REASON, by=by)

    second = impersonation.begin(session, people.BuyerFactory.create(), reason=REASON, by=by)

    assert loaded(first) is None
    assert loaded(second) is not None
    assert AuditEvent.objects.filter(type="impersonation.ended").count() == 1


@pytest.mark.parametrize("how", ["sign_out", "closed", "time", "target"])
def test_it_dies_with_the_session_behind_it_with_either_account_and_with_time(how: str) -> None:
    user, session, by = administrator()
    buyer = people.BuyerFactory.create()
    found = impersonation.begin(session, buyer, reason=REASON, by=by)
    assert loaded(found) is not None

    if how == "sign_out":
        sessions.end(session, by=by, why="sign_out")
    elif how == "closed":
        User.objects.filter(pk=user.pk).update(is_active=False)
    elif how == "target":
        User.objects.filter(pk=buyer.pk).update(password="!new")
    else:
        past = timezone.now() - dt.timedelta(minutes=16)
        UserSession.objects.filter(pk=found.pk).update(
            created_at=past, absolute_expires_at=past + dt.timedelta(minutes=15)
        )

    assert loaded(found) is None


def test_it_shows_no_more_than_the_administrator_may_see() -> None:
    user, session, by = administrator()
    admin = people.AdminFactory.create()
    people.grant(admin, "audit_logs.read.read_only", "commissions.manage.global", "users.manage.global")
    found = impersonation.begin(session, admin, reason=REASON, by=by)

    acting = loaded(found)

    assert acting is not None
    assert acting.impersonator_id == user.pk
    names = grants.effective(acting.user)
    assert "audit_logs.read.read_only" in names  # of a superuser by role
    assert "users.manage.global" in names
    assert "commissions.manage.global" not in names


# --- What it does not open --------------------------------------------------------------------------------


def test_it_reads_and_writes_nothing(client: Client) -> None:
    _user, session, by = administrator()
    buyer = people.BuyerFactory.create()
    found = impersonation.begin(session, buyer, reason=REASON, by=by)
    headers = bearer(found)

    seen = client.get("/api/v1/auth/me", headers=headers)
    assert seen.status_code == 200
    assert seen.json()["email"] == buyer.email
    for path in (
        "/api/v1/auth/step-up",
        "/api/v1/auth/mfa/totp/enroll",
        "/api/v1/auth/send-verification-email",
    ):
        refused = client.post(path, {}, content_type="application/json", headers=headers)
        assert (refused.status_code, refused.json()["error_code"]) == (403, "IMPERSONATION_READ_ONLY")
    assert client.get("/api/v1/auth/mfa/devices", headers=headers).status_code == 403
    tried = AuditEvent.objects.using("audit").filter(type="impersonation.refused")
    assert tried.count() == 4
    assert b"impersonator" in bytes(tried.first().canon)  # type: ignore[union-attr]


def test_nothing_is_confirmed_in_it() -> None:
    _user, session, by = administrator()
    acting = loaded(impersonation.begin(session, people.BuyerFactory.create(), reason=REASON, by=by))

    assert acting is not None
    with pytest.raises(guard.NothingRegistered):
        stepup.require_for("account.change_password", acting, by=by)


def test_stop_ends_it_and_only_it() -> None:
    _user, session, by = administrator()
    found = impersonation.begin(session, people.BuyerFactory.create(), reason=REASON, by=by)

    impersonation.stop(found, by=by)

    assert loaded(found) is None
    session.refresh_from_db()
    assert session.revoked_at is None
    with pytest.raises(impersonation.NotImpersonating):
        impersonation.stop(session, by=by)


def test_signing_out_everywhere_leaves_the_accounts_own_sessions(client: Client) -> None:
    target = people.BuyerFactory.create()
    own = made.session_of(target)
    _user, session, by = administrator()
    acting = impersonation.begin(session, target, reason=REASON, by=by)

    done = client.post(
        "/api/v1/auth/logout",
        {"revoke_all": True},
        content_type="application/json",
        headers=bearer(acting),
    )

    assert done.status_code == 200
    assert loaded(own) is not None
    assert loaded(acting) is None


def test_ordinary_sessions_have_no_banner() -> None:
    user, session, by = administrator()
    buyer = people.BuyerFactory.create()
    acting = loaded(impersonation.begin(session, buyer, reason=REASON, by=by))

    shown = impersonation.banner(acting)

    assert shown is not None
    assert (shown.account, shown.impersonator, shown.reason) == (buyer.email, user.email, REASON)
    assert impersonation.banner(session) is None
    assert impersonation.banner(None) is None
