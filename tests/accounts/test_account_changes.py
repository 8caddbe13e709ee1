"""Single changes: who may not, what ends with them, what is written down."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.utils import timezone

from accounts import account_changes, administration, approvals, edits, hierarchy, role_changes
from accounts.account_changes import AccountDeleted, UserNotFound
from accounts.hierarchy import NotAllowed
from accounts.models import ApprovalRequest, Grant, User, VendorProfile
from accounts.roles import Role
from mestore.lib import actor
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from sessions_security.models import UserSession
from tests.factories.accounts import (
    AdminFactory,
    BuyerFactory,
    MachineFactory,
    SuperuserFactory,
    VendorFactory,
    grant,
)
from tests.factories.administration import REASON, acting, superuser
from tests.factories.sessions_security import session_of

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
SYSTEM = actor.system("test")

CHANGES: list[Callable[..., Any]] = [
    partial(account_changes.update, changes={"nombre": "Eva"}),
    partial(account_changes.change_clearance, clearance=2, reason=REASON),
    partial(account_changes.lock, reason=REASON),
    partial(account_changes.unlock, reason=REASON),
    partial(role_changes.change, role=Role.VENDOR, reason=REASON),
]


def recorded(event: str, user: User) -> int:
    return AuditEvent.objects.filter(type=event, target_id=str(user.pk)).count()


def is_alive(session: UserSession) -> bool:
    return UserSession.objects.filter(
        pk=session.pk, revoked_at=None, auth_epoch=User.objects.get(pk=session.user_id).auth_epoch
    ).exists()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("make", [BuyerFactory, VendorFactory, MachineFactory])
def test_nobody_outside_the_staff_changes_anybody(change: Callable[..., Any], make: Any) -> None:
    target, before = BuyerFactory.create(), User.objects.count()
    caller = make.create()

    with pytest.raises(NotAllowed):
        change(target.pk, by=acting(caller))

    assert User.objects.count() == before + 1
    assert User.objects.get(pk=target.pk).nombre == "Ana"


@pytest.mark.parametrize("change", CHANGES)
def test_an_administrator_reaches_no_equal_and_no_higher(change: Callable[..., Any]) -> None:
    caller = AdminFactory.create()
    grant(caller, "users.manage.global")

    for target in (AdminFactory.create(), SuperuserFactory.create(), MachineFactory.create()):
        with pytest.raises(NotAllowed):
            change(target.pk, by=acting(caller))


@pytest.mark.parametrize("change", CHANGES)
def test_nobody_changes_the_own_account(change: Callable[..., Any]) -> None:
    caller = superuser()

    with pytest.raises(NotAllowed):
        change(caller.pk, by=acting(caller))


@pytest.mark.parametrize("change", CHANGES)
def test_more_clearance_is_out_of_reach(change: Callable[..., Any]) -> None:
    caller = SuperuserFactory.create(security_clearance_level=4)

    with pytest.raises(NotAllowed):
        change(BuyerFactory.create(security_clearance_level=5).pk, by=acting(caller))


@pytest.mark.parametrize("change", CHANGES)
def test_an_unknown_account_is_not_found(change: Callable[..., Any]) -> None:
    with pytest.raises(UserNotFound):
        change(uuid4(), by=acting(superuser()))


@pytest.mark.parametrize("change", CHANGES)
def test_a_deleted_account_is_restored_first(change: Callable[..., Any]) -> None:
    target = BuyerFactory.create(is_active=False, deleted_at=timezone.now())

    with pytest.raises(AccountDeleted):
        change(target.pk, by=acting(superuser()))


@pytest.mark.parametrize("change", CHANGES)
def test_who_looks_through_other_eyes_changes_nothing(change: Callable[..., Any]) -> None:
    caller, target = superuser(), BuyerFactory.create()
    by = Actor(kind="user", id=str(caller.pk), role=caller.user_type, impersonator=str(uuid4()))

    with pytest.raises(NotAllowed):
        change(target.pk, by=by)


@pytest.mark.parametrize(
    "change",
    [
        partial(account_changes.change_clearance, clearance=2, reason=REASON),
        partial(role_changes.change, role=Role.VENDOR, reason=REASON),
    ],
)
def test_rank_needs_a_right_of_its_own(change: Callable[..., Any]) -> None:
    with pytest.raises(NotAllowed):
        change(BuyerFactory.create().pk, by=acting(superuser("users.update.global")))


def test_columns_that_are_not_named_cannot_be_written() -> None:
    target = BuyerFactory.create()

    for column in ("password", "auth_epoch", "email_key", "user_type", "deleted_at", "nothing"):
        with pytest.raises(KeyError):
            account_changes.update(target.pk, {column: "x"}, by=SYSTEM)


def test_what_is_as_it_was_is_neither_written_nor_recorded() -> None:
    target = BuyerFactory.create()

    account_changes.update(target.pk, {"nombre": "Ana", "email_verified": False}, by=acting(superuser()))

    assert recorded("user.updated", target) == recorded("user.contact_marked", target) == 0


def test_a_change_of_names_and_marks_is_recorded_without_showing_them() -> None:
    target = BuyerFactory.create()

    account_changes.update(
        target.pk, {"nombre": "Esmeralda", "account_verified": True}, by=acting(superuser())
    )

    target.refresh_from_db()
    assert (target.nombre, target.account_verified) == ("Esmeralda", True)
    event = AuditEvent.objects.get(type="user.updated", target_id=str(target.pk))
    assert b"Esmeralda" not in bytes(event.canon)
    assert recorded("user.contact_marked", target) == 1


def test_another_telephone_is_not_a_verified_one() -> None:
    target = BuyerFactory.create(telefono="+573001234567", phone_verified=True)

    account_changes.update(target.pk, {"telefono": "+573007654321"}, by=SYSTEM)

    target.refresh_from_db()
    assert not target.phone_verified


def test_a_lock_ends_sessions_and_keeps_out_until_its_end() -> None:
    target = BuyerFactory.create()
    session = session_of(target)

    locked = account_changes.lock(target.pk, reason=REASON, by=acting(superuser()))

    assert not is_alive(session)
    assert (locked.is_locked, locked.may_sign_in) == (True, False)
    locked.locked_until = timezone.now() - dt.timedelta(seconds=1)
    assert (locked.is_locked, locked.may_sign_in) == (False, True)
    assert account_changes.unlock(target.pk, reason=REASON, by=SYSTEM).locked_until is None
    account_changes.unlock(target.pk, reason=REASON, by=SYSTEM)
    assert recorded("user.unlocked", target) == 1


def test_another_clearance_ends_sessions() -> None:
    target = BuyerFactory.create()
    session = session_of(target)

    changed = account_changes.change_clearance(target.pk, 2, reason=REASON, by=acting(superuser()))
    account_changes.change_clearance(target.pk, 2, reason=REASON, by=acting(superuser()))

    assert changed.security_clearance_level == 2
    assert not is_alive(session)
    assert recorded("user.clearance_changed", target) == 1


def test_nobody_gives_more_clearance_than_the_own_and_strictly_not_as_much() -> None:
    caller = superuser(security_clearance_level=5)
    target = BuyerFactory.create()

    with pytest.raises(NotAllowed):
        account_changes.change_clearance(target.pk, 5, reason=REASON, by=acting(caller), strictly=True)
    account_changes.change_clearance(target.pk, 5, reason=REASON, by=acting(caller))


# --- Roles ------------------------------------------------------------------------------------------------


def test_a_place_among_the_staff_waits_for_a_second_person() -> None:
    asker, second, target = superuser(), superuser(), BuyerFactory.create()

    asked = role_changes.change(target.pk, Role.ADMIN, reason=REASON, by=acting(asker))

    assert isinstance(asked, ApprovalRequest)
    assert User.objects.get(pk=target.pk).role is Role.BUYER
    with pytest.raises(approvals.NotYours):
        approvals.approve(asked.pk, by=acting(asker))
    approvals.approve(asked.pk, by=acting(second))
    assert User.objects.get(pk=target.pk).role is Role.ADMIN
    assert recorded("user.role_changed", target) == 1


def test_an_approval_is_worth_nothing_once_the_role_moved_on() -> None:
    asker, second, target = superuser(), superuser(), BuyerFactory.create()
    asked = role_changes.change(target.pk, Role.ADMIN, reason=REASON, by=acting(asker))
    assert isinstance(asked, ApprovalRequest)
    role_changes.change(target.pk, Role.VENDOR, reason=REASON, by=acting(asker))

    with pytest.raises(role_changes.RoleMovedOn):
        approvals.approve(asked.pk, by=acting(second))

    assert User.objects.get(pk=target.pk).role is Role.VENDOR


def test_an_approval_is_worth_nothing_once_who_asked_may_not_ask() -> None:
    asker, second, target = superuser(), superuser(), BuyerFactory.create()
    asked = role_changes.change(target.pk, Role.ADMIN, reason=REASON, by=acting(asker))
    assert isinstance(asked, ApprovalRequest)
    Grant.objects.filter(user=asker, permission__name="users.manage.global").update(revoked_at=timezone.now())

    with pytest.raises(NotAllowed):
        approvals.approve(asked.pk, by=acting(second))

    assert User.objects.get(pk=target.pk).role is Role.BUYER


def test_somebody_who_loses_power_loses_grants_and_sessions_with_it() -> None:
    target = AdminFactory.create()
    grant(target, "users.update.global", "vendors.manage.global")
    session = session_of(target, kind="cookie")

    changed = role_changes.change(target.pk, Role.BUYER, reason=REASON, by=acting(superuser()))

    assert isinstance(changed, User)
    assert changed.role is Role.BUYER
    assert not Grant.objects.filter(user=target, revoked_at=None).exists()
    assert not changed.has_perm("users.update.global")
    assert not is_alive(session)


def test_a_new_vendor_has_a_shop_and_the_same_role_changes_nothing() -> None:
    target = BuyerFactory.create()

    role_changes.change(target.pk, Role.VENDOR, reason=REASON, by=acting(superuser()))
    role_changes.change(target.pk, Role.VENDOR, reason=REASON, by=acting(superuser()))

    assert VendorProfile.objects.get(user=target).vendor_status == "draft"
    assert recorded("user.role_changed", target) == 1


@pytest.mark.parametrize("make", [BuyerFactory, MachineFactory])
def test_machines_are_made_and_stay_machines(make: Any) -> None:
    role = Role.SYSTEM if make is BuyerFactory else Role.ADMIN

    with pytest.raises(NotAllowed):
        role_changes.change(make.create().pk, role, reason=REASON, by=SYSTEM)


def test_a_command_of_the_server_needs_no_second_person() -> None:
    target = BuyerFactory.create()

    changed = role_changes.change(target.pk, Role.ADMIN, reason=REASON, by=SYSTEM)

    assert isinstance(changed, User)
    assert changed.role is Role.ADMIN


# --- Forms ------------------------------------------------------------------------------------------------


def confirmed(_action: str) -> None:
    return None


def apply(user_id: UUID, by: User, **given: Any) -> edits.Edited:
    return edits.apply(user_id, given, reason=REASON, by=acting(by), confirm=confirmed)


def test_when_one_part_is_refused_nothing_changes() -> None:
    target = BuyerFactory.create()

    with pytest.raises(NotAllowed):
        apply(target.pk, superuser("users.update.global"), nombre="Eva", security_clearance_level=1)

    target.refresh_from_db()
    assert (target.nombre, target.security_clearance_level) == ("Ana", 3)


def test_a_fresh_factor_is_asked_for_rank_and_for_nothing_else() -> None:
    asked: list[str] = []
    target, by = BuyerFactory.create(), acting(superuser())

    edits.apply(
        target.pk, {"nombre": "Eva", "user_type": "BUYER"}, reason=REASON, by=by, confirm=asked.append
    )
    edits.apply(target.pk, {"security_clearance_level": 2}, reason=REASON, by=by, confirm=asked.append)

    assert asked == [edits.RANK]


def test_password_and_address_are_their_owners() -> None:
    target, caller = BuyerFactory.create(), superuser()

    with pytest.raises(edits.PasswordIsOwners):
        apply(target.pk, caller, password="anything at all")
    with pytest.raises(edits.AddressIsOwners):
        apply(target.pk, caller, email="other@example.com")
    apply(target.pk, caller, email=target.email.upper(), password="")


def test_activity_follows_the_form() -> None:
    target, caller = BuyerFactory.create(), superuser()

    assert not apply(target.pk, caller, is_active=False).user.is_active
    assert apply(target.pk, caller, is_active=True).user.is_active
    assert recorded("user.deactivated", target) == recorded("user.reactivated", target) == 1


# --- Two at the same moment -------------------------------------------------------------------------------


@pytest.mark.django_db(databases=["default", "audit", "owner"], transaction=True)
def test_two_superusers_who_close_each_other_leave_one(race: Callable[..., list[Any]]) -> None:
    one, other = superuser(), superuser()

    outcomes = race(
        [
            partial(administration.deactivate, one, reason=REASON, by=acting(other)),
            partial(administration.deactivate, other, reason=REASON, by=acting(one)),
        ]
    )

    assert sum(isinstance(outcome, NotAllowed) for outcome in outcomes) == 1, outcomes
    assert User.objects.filter(is_active=True, user_type=Role.SUPERUSER).count() == 1


def test_a_command_of_the_server_is_above_the_hierarchy() -> None:
    assert hierarchy.hold(SYSTEM, []).authority.user is None
