"""While an account is frozen nothing that opens it changes, by whichever way; one way stays its owner's."""

from __future__ import annotations

import datetime as dt
import inspect
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from accounts import (
    account_changes,
    addresses,
    administration,
    backup_codes,
    factor_resets,
    freezes,
    hierarchy,
    passkeys,
    password_change,
    password_reset,
    profile,
    recovery_approval,
    totp,
)
from accounts.models import AddressChange, FactorFreeze, FactorReset, Passkey, TotpDevice, User
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from tests.factories import accounts as people
from tests.factories import administration as office
from tests.factories.passkeys import passkey_of
from tests.harness.authenticator import Authenticator

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

BY = Actor(kind="anonymous", address="203.0.113.7", agent="test")
LATER = "a quite different long sentence"


def frozen(user: User, **values: Any) -> User:
    with transaction.atomic():
        freezes.place(user, why="not_me", by=BY, **values)
    return user


def _open_change(user: User) -> Callable[[], object]:
    row = addresses.request_change(user, "new@example.com", AddressChange.Kind.PRIMARY, by=BY)
    assert row is not None
    return partial(addresses.confirm, user, "A" * 64, by=BY)


def _totp_begun(user: User) -> Callable[[], object]:
    device, _secret = totp.enrol(user, "phone", by=BY)
    return lambda: totp.confirm(device, people.code_of(device), by=BY)


def _codes(user: User) -> Callable[[], object]:
    prepared = backup_codes.prepare(user)
    return lambda: prepared.store(by=BY)


def _new_passkey(user: User) -> Callable[[], object]:
    answer = Authenticator().create(passkeys.registration_options(user, bound_to="test"))
    passkey = passkeys.check_registration(user, "laptop", answer, bound_to="test", by=BY)
    return lambda: passkeys.add(passkey, by=BY)


def _removed_passkey(user: User) -> Callable[[], object]:
    passkey_of(user)
    passkey = Passkey.objects.filter(user=user)[0]
    return lambda: passkeys.remove(passkey, by=BY)


def _removed_totp(user: User) -> Callable[[], object]:
    device = people.TotpDeviceFactory.create(user=user)
    return lambda: totp.remove(device, by=BY)


def _asked_recovery(user: User) -> Callable[[], object]:
    people.TotpDeviceFactory.create(user=user)
    by = office.acting(office.superuser("users.update.global", "users.manage.global"))
    return lambda: recovery_approval.ask(user, reason="lost the telephone", by=by)


def _by_office(call: Callable[[User, Actor], object]) -> Callable[[User], Callable[[], object]]:
    def prepared(user: User) -> Callable[[], object]:
        by = office.acting(office.superuser("users.update.global", "users.manage.global"))
        return lambda: call(user, by)

    return prepared


# Every public function of `accounts` that changes what opens an account: prepared before the freeze, then
# called under it.
WAYS: dict[str, Callable[[User], Callable[[], object]]] = {
    "totp.enrol": lambda user: lambda: totp.enrol(user, "phone", by=BY),
    "totp.confirm": _totp_begun,
    "totp.remove": _removed_totp,
    "backup_codes.store": _codes,
    "passkeys.add": _new_passkey,
    "passkeys.remove": _removed_passkey,
    "password_change.change": lambda user: (
        lambda: password_change.change(user, current=people.PASSWORD, new=LATER, by=BY)
    ),
    "password_reset.start": _by_office(
        lambda user, by: password_reset.start(user, reason="asked on the telephone", by=by)
    ),
    "addresses.request_change": lambda user: (
        lambda: addresses.request_change(user, "new@example.com", AddressChange.Kind.PRIMARY, by=BY)
    ),
    "addresses.request_recovery": lambda user: (
        lambda: addresses.request_change(user, "new@example.com", AddressChange.Kind.RECOVERY, by=BY)
    ),
    "addresses.confirm": _open_change,
    "addresses.remove_recovery": lambda user: lambda: addresses.remove_recovery(user, by=BY),
    "factor_resets.request": lambda user: lambda: factor_resets.request(user, ["a", "b"], by=BY),
    "recovery_approval.ask": _asked_recovery,
    "profile.update": lambda user: lambda: profile.update(user, {"telefono": "+573001112233"}, by=BY),
    "account_changes.update": _by_office(
        lambda user, by: account_changes.update(user.pk, {"telefono": "+573001112233"}, by=by)
    ),
    "administration.give_credentials": _by_office(
        lambda user, by: administration.give_credentials(user, email="n@x.org", password=LATER, by=by)
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_way_changes_a_frozen_account(way: str) -> None:
    user = people.BuyerFactory.create(recovery_email="second@example.com")
    change = WAYS[way](user)
    frozen(user)
    before = User.objects.filter(pk=user.pk).values().get()
    factors = TotpDevice.objects.filter(confirmed=True).count(), Passkey.objects.count()

    with pytest.raises(freezes.FactorsFrozen) as refused:
        change()

    assert refused.value.status == 409
    assert User.objects.filter(pk=user.pk).values().get() == before
    assert (TotpDevice.objects.filter(confirmed=True).count(), Passkey.objects.count()) == factors
    assert AuditEvent.objects.using("audit").filter(type="account.changes_freeze_refused").exists()


def test_every_module_that_changes_what_opens_an_account_asks() -> None:
    """A module of `accounts` that tells of such a change must ask for the freeze, or be named here."""
    folder = Path(inspect.getfile(freezes)).parent
    writes = re.compile(
        r"events\.(FACTOR_ENROLLED|FACTOR_REMOVED|FACTOR_CONFIRMED|BACKUP_CODES_MADE|PASSWORD_CHANGED"
        r"|ADDRESS_CHANGED|FACTOR_RESET_REQUESTED|FACTOR_RESET_DONE|PASSWORD_RESET_STARTED"
        r"|PASSWORD_RESET_DONE|PROFILE_CHANGED|CREDENTIALS_GIVEN|USER_UPDATED)\b"
    )
    silent = {
        file.name
        for file in folder.glob("*.py")
        if writes.search(file.read_text()) and "freezes." not in file.read_text()
    }

    # Bulk actions write no column that a freeze covers.
    assert silent <= {"bulk.py"}


def test_what_opens_nothing_may_change() -> None:
    user = frozen(people.BuyerFactory.create())

    assert profile.update(user, {"ciudad": "Cali"}, by=BY).ciudad == "Cali"


def test_reset_by_mail_stays_the_owners_way() -> None:
    user = frozen(people.BuyerFactory.create())

    freezes.demand_own_address(user, by=BY)


@pytest.mark.parametrize(("hours", "is_refused"), [(71, True), (73, False)])
def test_reset_goes_to_no_address_that_was_new(hours: int, is_refused: bool) -> None:
    user = people.BuyerFactory.create()
    row = addresses.request_change(user, "new@example.com", AddressChange.Kind.PRIMARY, by=BY)
    AddressChange.objects.filter(pk=row.pk).update(confirmed_at=timezone.now() - dt.timedelta(hours=hours))
    frozen(user)

    if is_refused:
        with pytest.raises(freezes.FactorsFrozen):
            freezes.demand_own_address(user, by=BY)
    else:
        freezes.demand_own_address(user, by=BY)


def test_freeze_ends_by_itself() -> None:
    user = frozen(people.BuyerFactory.create(), now=timezone.now() - dt.timedelta(hours=73))

    freezes.demand_unfrozen(user, by=BY)


def test_second_freeze_makes_the_first_longer() -> None:
    user = frozen(people.BuyerFactory.create(), now=timezone.now() - dt.timedelta(hours=48))
    frozen(user)

    until = freezes.until(user)
    assert until is not None
    assert until > timezone.now() + dt.timedelta(hours=71)


def test_reset_that_falls_due_under_a_freeze_is_stopped() -> None:
    device = people.TotpDeviceFactory.create(user=people.BuyerFactory.create())
    with transaction.atomic():
        reset = factor_resets.request(device.user, ["a", "b"], by=BY)
    frozen(device.user)

    assert factor_resets.carry_out_due(by=BY, now=reset.due_at) == 0
    assert FactorReset.objects.get().cancelled_at is not None
    assert TotpDevice.objects.filter(pk=device.pk).exists()


def test_somebody_above_lifts_it_for_a_reason() -> None:
    user = frozen(people.BuyerFactory.create())
    by = office.acting(office.superuser("users.update.global"))

    freezes.lift(user, reason="spoke to her on the telephone", by=by)

    assert not FactorFreeze.objects.exists()
    with pytest.raises(freezes.NotFrozen):
        freezes.lift(user, reason="spoke to her on the telephone", by=by)


@pytest.mark.parametrize("who", ["oneself", "stranger", "no reason"])
def test_nobody_else_lifts_it(who: str) -> None:
    user = frozen(people.BuyerFactory.create())
    by = {"oneself": office.acting(user), "stranger": BY}.get(who) or office.acting(office.superuser())
    reason = "" if who == "no reason" else "spoke to her on the telephone"

    with pytest.raises((hierarchy.NotAllowed, hierarchy.ReasonMissing)):
        freezes.lift(user, reason=reason, by=by)

    assert freezes.until(user) is not None
