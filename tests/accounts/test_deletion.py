"""Deleting, bringing back, removing for ever."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import deletion, login
from accounts.account_changes import UserNotFound
from accounts.hierarchy import NotAllowed
from accounts.login import InvalidCredentials
from accounts.models import User, VendorNote
from mestore.lib import actor, sql
from mestore.lib.actor import Actor
from monitoring import audit, events
from monitoring.models import AuditEvent, SubjectKey
from sessions_security.models import UserSession
from tests.factories.accounts import (
    PASSWORD,
    AdminFactory,
    BuyerFactory,
    SuperuserFactory,
    VendorFactory,
    grant,
)
from tests.factories.administration import REASON, acting, superuser
from tests.factories.finance import CommissionFactory
from tests.factories.sessions_security import session_of

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
# A key of a person is made on a connection of its own, so whoever erases one must see it committed.
committing = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
SYSTEM = actor.system("test")


def gone(**values: Any) -> User:
    made: User = BuyerFactory.create(is_active=False, deleted_at=timezone.now(), **values)
    return made


def erase(user: User, by: User | None = None, *, confirmed: bool = True) -> deletion.Dependencies:
    return deletion.erase(user.pk, reason=REASON, confirmed=confirmed, by=acting(by) if by else SYSTEM)


DOORS: list[tuple[Callable[..., Any], Callable[..., User]]] = [
    (partial(deletion.delete, reason=REASON), BuyerFactory.create),
    (partial(deletion.restore, reason=REASON), gone),
    (lambda user, by: deletion.erase(user.pk, reason=REASON, confirmed=True, by=by), gone),
]


@pytest.mark.parametrize(("change", "make"), DOORS)
def test_nobody_without_rank_or_right(change: Callable[..., Any], make: Callable[..., User]) -> None:
    target = make()
    admin = AdminFactory.create()

    for caller in (BuyerFactory.create(), VendorFactory.create(), admin, superuser("users.manage.global")):
        with pytest.raises(NotAllowed):
            change(target, by=acting(caller))

    grant(admin, "users.delete.global")
    with pytest.raises(NotAllowed):
        change(make(user_type="ADMIN"), by=acting(admin))


@pytest.mark.parametrize(("change", "make"), DOORS)
def test_an_unknown_account_is_not_found(change: Callable[..., Any], make: Callable[..., User]) -> None:
    with pytest.raises(UserNotFound):
        change(User(pk=uuid4()), by=acting(superuser()))


def test_deleting_ends_everything_and_keeps_the_row() -> None:
    target, caller = BuyerFactory.create(), superuser()
    session = session_of(target)

    done = deletion.delete(target, reason=REASON, by=acting(caller))

    row = User.objects.get(pk=target.pk)
    assert row.deleted_at == done.deleted_at
    assert not row.is_active
    assert row.auth_epoch > session.auth_epoch
    assert done.dependencies.counts["sessions_security.usersession.user"] == 1
    assert AuditEvent.objects.filter(type="user.deleted", target_id=str(target.pk)).count() == 1
    with pytest.raises(UserNotFound):
        deletion.delete(target, reason=REASON, by=acting(caller))


def test_a_superuser_is_never_deleted() -> None:
    target = SuperuserFactory.create()

    with pytest.raises(deletion.SuperuserKept):
        deletion.delete(target, reason=REASON, by=acting(superuser()))

    assert User.objects.get(pk=target.pk).deleted_at is None


def test_a_restored_account_is_open_and_its_old_sessions_stay_dead() -> None:
    target, caller = BuyerFactory.create(), superuser()
    session = session_of(target)
    deletion.delete(target, reason=REASON, by=acting(caller))

    back = deletion.restore(target, reason=REASON, by=acting(caller))

    assert back.is_active
    assert back.deleted_at is None
    assert back.auth_epoch > session.auth_epoch
    with pytest.raises(deletion.NotDeleted):
        deletion.restore(target, reason=REASON, by=acting(caller))


def test_removing_needs_a_yes_and_a_deleted_account() -> None:
    target = gone()

    with pytest.raises(deletion.NotConfirmed):
        erase(target, confirmed=False)
    with pytest.raises(deletion.NotDeleted):
        erase(BuyerFactory.create())

    assert User.objects.filter(pk=target.pk).exists()


@committing
def test_removing_takes_what_is_the_accounts_own() -> None:
    vendor = VendorFactory.create()
    session = session_of(vendor)
    VendorNote.objects.create(vendor=vendor, text="late", author_label="x")
    deletion.delete(vendor, reason=REASON, by=SYSTEM)

    found = erase(vendor, superuser())

    assert not User.objects.filter(pk=vendor.pk).exists()
    assert not UserSession.objects.filter(pk=session.pk).exists()
    assert found.counts["accounts.vendornote.vendor"] == 1
    assert AuditEvent.objects.filter(type="user.erased", target_id=str(vendor.pk)).count() == 1


def test_who_has_sold_or_held_permissions_stays() -> None:
    vendor, admin = VendorFactory.create(), AdminFactory.create()
    CommissionFactory.create(vendor=vendor)
    grant(admin, "users.update.global")

    for target in (vendor, admin):
        done = deletion.delete(target, reason=REASON, by=SYSTEM)
        assert done.warnings
        with pytest.raises(deletion.StillNeeded) as refused:
            erase(target)
        assert refused.value.extra["dependencies"]
        assert User.objects.filter(pk=target.pk).exists()


@committing
def test_a_dependency_that_appears_meanwhile_stops_the_removal(monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = VendorFactory.create()
    CommissionFactory.create(vendor=vendor)
    deletion.delete(vendor, reason=REASON, by=SYSTEM)
    monkeypatch.setattr(deletion, "dependencies", lambda _user_id: deletion.Dependencies())

    with pytest.raises(deletion.StillNeeded):
        erase(vendor)

    assert User.objects.filter(pk=vendor.pk).exists()


def test_dependencies_cost_one_statement() -> None:
    vendor = VendorFactory.create()

    with CaptureQueriesContext(connection) as statements:
        found = deletion.dependencies(vendor.pk)

    assert len(statements) == 1
    assert found.counts == {"accounts.vendorprofile.user": 1}
    assert found.blocking == {}


def kept_about(user: User) -> int:
    return int(sql.fetch_all("SELECT count(*) FROM audit_personal WHERE subject = %s", [str(user.pk)])[0][0])


@committing
def test_removing_for_ever_erases_the_person_from_the_audit_trail() -> None:
    target, caller = gone(), acting(superuser())
    with transaction.atomic():
        told = audit.record(
            events.USER_REACTIVATED, by=caller, subject=str(target.pk), personal={"name": "Ana"}
        )
    assert kept_about(target) > 0

    deletion.erase(target.pk, reason=REASON, confirmed=True, by=caller)

    assert kept_about(target) == 0  # what the removal itself captured is not there either
    assert subject_key(target).wrapped is None
    assert AuditEvent.objects.filter(type="capture.delete", target_id=str(target.pk)).exists()
    assert AuditEvent.objects.get(pk=told).pii_ct is not None
    erased = AuditEvent.objects.get(type="audit.subject_erased")
    assert (erased.actor_id, erased.target_id) == (caller.id, str(target.pk))
    removed = AuditEvent.objects.get(type="user.erased")
    assert removed.pii_ct is not None  # who did it, under their own key


def test_a_removal_that_fails_erases_nothing() -> None:
    vendor = VendorFactory.create()
    CommissionFactory.create(vendor=vendor)
    deletion.delete(vendor, reason=REASON, by=SYSTEM)
    had = kept_about(vendor)

    with pytest.raises(deletion.StillNeeded):
        erase(vendor)

    assert kept_about(vendor) == had > 0
    assert not SubjectKey.objects.filter(subject=str(vendor.pk), wrapped=None).exists()


@committing
def test_a_dependency_found_at_the_very_end_erases_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = VendorFactory.create()
    CommissionFactory.create(vendor=vendor)
    deletion.delete(vendor, reason=REASON, by=SYSTEM)
    monkeypatch.setattr(deletion, "dependencies", lambda _user_id: deletion.Dependencies())

    with pytest.raises(deletion.StillNeeded):
        erase(vendor)

    assert kept_about(vendor) > 0
    assert subject_key(vendor) is None or subject_key(vendor).wrapped is not None


@committing
def test_a_sign_in_and_a_change_at_the_same_moment_neither_fail_nor_leave_a_value(
    race: Callable[..., list[Any]],
) -> None:
    target, caller = gone(), acting(superuser())
    visitor = Actor(kind="anonymous", address="203.0.113.77", agent="t")

    def sign_in() -> None:
        with pytest.raises(InvalidCredentials):
            login.check_credentials(target.email, PASSWORD, by=visitor, purpose="api")

    def change() -> None:
        for number in range(5):
            with transaction.atomic():
                User.objects.filter(pk=target.pk).update(nombre=f"Zerafina {number}")
                audit.record(events.SIGNED_OUT, by=acting(target))

    def remove() -> None:
        deletion.erase(target.pk, reason=REASON, confirmed=True, by=caller)

    answers = race([alone(sign_in)] * 2 + [alone(change)] * 4 + [alone(remove)])

    assert answers == [None] * 7
    assert kept_about(target) == 0
    assert subject_key(target).wrapped is None
    assert AuditEvent.objects.filter(type="auth.signed_out").count() == 20


def subject_key(user: User) -> Any:
    return SubjectKey.objects.filter(subject=str(user.pk)).first()


def alone(work: Callable[[], None]) -> Callable[[], None]:
    """`work` in a thread, whose connections end with it."""

    def run() -> None:
        try:
            work()
        finally:
            connections.close_all()

    return run
