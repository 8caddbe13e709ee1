from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.utils import timezone

from accounts import administration, users
from accounts.administration import EmailTaken, NotAllowed, ReasonMissing
from accounts.approvals import SecondPersonRequired
from accounts.delegation import AlreadyGranted, NotGranted, UnknownPermission
from accounts.models import Grant, User, VendorProfile
from accounts.passwords import UnacceptablePassword
from accounts.roles import Role
from mestore.lib import actor, errors
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from tests.factories.accounts import (
    PASSWORD,
    AdminFactory,
    BuyerFactory,
    ImportedVendorFactory,
    MachineFactory,
    SuperuserFactory,
    VendorFactory,
    grant,
)

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

SYSTEM = actor.system("test")
REASON = "asked for in writing"


def _as(user: User) -> Actor:
    return Actor(kind="user", id=str(user.pk), label=user.email, role=user.user_type)


def _create(by: Actor = SYSTEM, **values: Any) -> User:
    given: dict[str, Any] = {"email": "new@example.com", "password": PASSWORD, "role": Role.BUYER, "by": by}
    return administration.create_user(**(given | values))


def _recorded(event: str, user: User) -> int:
    return AuditEvent.objects.filter(type=event, target_id=str(user.pk)).count()


# --- Creating ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.ADMIN, Role.SUPERUSER])
def test_administrator_cannot_create_an_equal_or_higher(role: Role) -> None:
    with pytest.raises(NotAllowed):
        _create(by=_as(AdminFactory.create()), role=role)

    assert AuditEvent.objects.using("audit").filter(type="user.administration_refused").count() == 1


@pytest.mark.parametrize("make", [BuyerFactory, VendorFactory, MachineFactory])
def test_nobody_outside_the_staff_creates_anybody(make: Any) -> None:
    with pytest.raises(NotAllowed):
        _create(by=_as(make.create()))


@pytest.mark.parametrize(
    "by",
    [
        Actor(kind="anonymous"),
        Actor(kind="machine", id="x", role="SYSTEM"),
        Actor(kind="user", id=None, role="SUPERUSER"),
        Actor(kind="user", id="not-an-id", role="SUPERUSER"),
        Actor(kind="user", id="00000000-0000-0000-0000-000000000000", role="SUPERUSER"),
    ],
)
def test_role_is_read_from_the_database_and_not_from_the_caller(by: Actor) -> None:
    with pytest.raises(NotAllowed):
        _create(by=by)


def test_closed_superuser_creates_nobody() -> None:
    with pytest.raises(NotAllowed):
        _create(by=_as(SuperuserFactory.create(is_active=False)))


def test_nobody_hands_out_more_clearance_than_their_own() -> None:
    acting = SuperuserFactory.create(security_clearance_level=4)

    with pytest.raises(NotAllowed):
        _create(by=_as(acting), role=Role.VENDOR, clearance=5)
    assert _create(by=_as(acting), role=Role.VENDOR, clearance=4).security_clearance_level == 4


@pytest.mark.parametrize("role", [Role.ADMIN, Role.SUPERUSER])
def test_one_superuser_alone_creates_nobody_of_the_staff(role: Role) -> None:
    with pytest.raises(SecondPersonRequired):
        _create(by=_as(SuperuserFactory.create()), role=role)
    assert not User.objects.filter(email_key="new@example.com").exists()


@pytest.mark.parametrize("by", [SYSTEM, None])
def test_machine_accounts_are_not_made_with_a_password(by: Actor | None) -> None:
    with pytest.raises(NotAllowed):
        _create(by=by or _as(SuperuserFactory.create()), role=Role.SYSTEM)


def test_taken_address_is_refused_in_any_spelling() -> None:
    BuyerFactory.create(email="new@example.com")

    with pytest.raises(EmailTaken) as refused:
        _create(email="NEW@Example.com")

    assert refused.value.status == 409


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"email": "nothing"}, users.InvalidEmail),
        ({"password": "short"}, UnacceptablePassword),
        ({"password": "12345678"}, UnacceptablePassword),
    ],
)
def test_bad_values_create_nothing(values: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        _create(**values)

    assert not User.objects.exists()


def test_short_password_is_enough_beside_a_factor() -> None:
    assert _create(password="k7-verde", with_factor=True).check_password("k7-verde")


def test_other_breaches_of_constraints_are_not_called_a_taken_address() -> None:
    with pytest.raises(Exception, match="telephone"):
        _create(fields={"telefono": "no number"})


def test_vendor_gets_a_shop_in_draft() -> None:
    user = _create(by=_as(AdminFactory.create()), role=Role.VENDOR, fields={"nombre": "Luz"})

    profile = VendorProfile.objects.get(user=user)
    assert profile.vendor_status == "draft"
    assert str(user.pk) in str(profile)
    assert (user.nombre, user.user_type) == ("Luz", "VENDOR")
    assert _recorded("user.created", user) == 1


def test_command_creates_superusers_and_it_is_kept_for_ever() -> None:
    user = _create(by=SYSTEM, role=Role.SUPERUSER)

    assert _recorded("user.administrator_created", user) == 1


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_one_of_many_at_once_gets_the_address(race: Callable[..., list[Any]]) -> None:
    outcomes = race([partial(_create, email=email) for email in ("a@example.com", "A@example.com") * 3])

    assert sum(isinstance(outcome, User) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, EmailTaken) for outcome in outcomes) == 5


# --- Credentials for an imported account ------------------------------------------------------------------


@pytest.mark.parametrize("make", [BuyerFactory, MachineFactory])
def test_credentials_are_given_to_imported_people_only(make: Any) -> None:
    with pytest.raises(NotAllowed):
        administration.give_credentials(make.create(), email="shop@example.com", password=PASSWORD, by=SYSTEM)


def test_imported_vendor_signs_in_after_receiving_credentials() -> None:
    user = ImportedVendorFactory.create()
    assert not user.may_sign_in

    administration.give_credentials(user, email="Shop@example.com", password=PASSWORD, by=SYSTEM)

    stored = User.objects.by_email("shop@example.com")
    assert stored.pk == user.pk
    assert stored.may_sign_in
    assert stored.auth_epoch == user.auth_epoch == 2
    assert _recorded("user.credentials_given", user) == 1


def test_imported_vendor_cannot_take_anothers_address() -> None:
    BuyerFactory.create(email="shop@example.com")

    with pytest.raises(EmailTaken):
        administration.give_credentials(
            ImportedVendorFactory.create(), email="shop@example.com", password=PASSWORD, by=SYSTEM
        )


# --- Closing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [administration.deactivate, administration.reactivate])
def test_nobody_switches_themselves_or_an_equal(change: Any) -> None:
    admin, superuser = AdminFactory.create(), SuperuserFactory.create()

    for acting, user in [
        (admin, admin),
        (admin, AdminFactory.create()),
        (admin, superuser),
        (superuser, superuser),
    ]:
        with pytest.raises(NotAllowed):
            change(user, reason=REASON, by=_as(acting))

    assert not User.objects.filter(is_active=False).exists()


@pytest.mark.parametrize("reason", ["", "short", " " * 20])
def test_reason_is_needed(reason: str) -> None:
    user = BuyerFactory.create()

    for change in (administration.deactivate, administration.reactivate):
        with pytest.raises(ReasonMissing):
            change(user, reason=reason, by=SYSTEM)


def test_closing_ends_the_epoch_once_and_opening_does_not_revive_it() -> None:
    user, by = BuyerFactory.create(), _as(AdminFactory.create())

    administration.deactivate(user, reason=REASON, by=by)
    administration.deactivate(user, reason=REASON, by=by)
    assert (user.is_active, user.auth_epoch) == (False, 2)
    administration.reactivate(user, reason=REASON, by=by)

    assert (user.is_active, user.auth_epoch) == (True, 3)
    assert _recorded("user.deactivated", user) == 1
    assert _recorded("user.reactivated", user) == 1


def test_deleted_account_stays_closed() -> None:
    user = BuyerFactory.create(is_active=False, deleted_at=timezone.now())

    administration.reactivate(user, reason=REASON, by=SYSTEM)

    assert not user.is_active


# --- Grants -----------------------------------------------------------------------------------------------


def _give(user: User, name: str, by: Actor = SYSTEM, **values: Any) -> Grant:
    return administration.give_grant(user, name, by=by, reason=REASON, **values)


def test_unknown_permission_cannot_be_given() -> None:
    with pytest.raises(UnknownPermission):
        _give(AdminFactory.create(), "cats.pet.global")


def test_end_must_be_in_the_future() -> None:
    with pytest.raises(errors.Unprocessable):
        _give(AdminFactory.create(), "users.create.global", expires_at=timezone.now())


def test_machine_receives_no_permission() -> None:
    with pytest.raises(NotAllowed):
        _give(MachineFactory.create(security_clearance_level=5), "users.create.global")


def test_permission_needs_the_holders_clearance() -> None:
    with pytest.raises(NotAllowed):
        _give(AdminFactory.create(security_clearance_level=3), "users.create.global")


def test_nobody_grants_what_they_do_not_hold() -> None:
    acting = SuperuserFactory.create()
    with pytest.raises(NotAllowed):
        _give(AdminFactory.create(), "users.create.global", by=_as(acting))
    grant(acting, "permissions.grant.global")
    with pytest.raises(NotAllowed):
        _give(AdminFactory.create(), "vendors.approve.global", by=_as(acting))
    grant(acting, "vendors.approve.global")

    user = AdminFactory.create()
    given = _give(user, "vendors.approve.global", by=_as(acting))

    assert given.granted_by == acting
    assert user.has_perm("vendors.approve.global")


def test_nobody_grants_to_themselves() -> None:
    acting = SuperuserFactory.create()
    grant(acting, "permissions.grant.global")

    with pytest.raises(NotAllowed):
        _give(acting, "users.create.global", by=_as(acting))


def test_administrator_does_not_grant_even_with_everything_in_hand() -> None:
    acting = AdminFactory.create()
    grant(acting, "permissions.grant.global", "analytics.read.global")

    with pytest.raises(NotAllowed):
        _give(VendorFactory.create(), "analytics.read.global", by=_as(acting))


def test_system_scope_needs_a_second_person_or_the_server() -> None:
    acting = SuperuserFactory.create()
    grant(acting, "permissions.grant.global", "users.manage.system")

    with pytest.raises(SecondPersonRequired):
        _give(AdminFactory.create(), "users.manage.system", by=_as(acting))
    assert _give(AdminFactory.create(), "users.manage.system").is_active


def test_permission_is_granted_once_at_a_time() -> None:
    user = AdminFactory.create()
    _give(user, "users.create.global")

    with pytest.raises(AlreadyGranted):
        _give(user, "users.create.global")


def test_expired_grant_can_be_given_again_and_stays_in_the_history() -> None:
    user = AdminFactory.create()
    past = timezone.now() - dt.timedelta(hours=1)
    (old,) = grant(user, "users.create.global", granted_at=past - dt.timedelta(hours=1), expires_at=past)

    new = _give(user, "users.create.global", expires_at=timezone.now() + dt.timedelta(hours=1))

    old.refresh_from_db()
    assert old.revoked_why == "expired"
    assert new.is_active
    assert _recorded("grant.given", user) == 1


def test_revoked_permission_is_gone_at_once() -> None:
    user = AdminFactory.create()
    _give(user, "users.create.global")
    assert user.has_perm("users.create.global")

    administration.revoke_grant(user, "users.create.global", by=SYSTEM, reason=REASON)

    assert not user.has_perm("users.create.global")
    assert _recorded("grant.revoked", user) == 1
    with pytest.raises(NotGranted):
        administration.revoke_grant(user, "users.create.global", by=SYSTEM, reason=REASON)


def test_revoking_needs_a_permission_of_its_own() -> None:
    acting, user = SuperuserFactory.create(), AdminFactory.create()
    grant(user, "users.create.global")

    with pytest.raises(NotAllowed):
        administration.revoke_grant(user, "users.create.global", by=_as(acting), reason=REASON)
    grant(acting, "permissions.revoke.global")
    administration.revoke_grant(user, "users.create.global", by=_as(acting), reason=REASON)

    assert not User.objects.get(pk=user.pk).has_perm("users.create.global")


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_one_of_many_at_once_grants(race: Callable[..., list[Any]]) -> None:
    user = AdminFactory.create()

    outcomes = race([partial(_give, user, "users.create.global")] * 6)

    assert sum(isinstance(outcome, Grant) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, AlreadyGranted) for outcome in outcomes) == 5
