"""Getting back in: two proofs of different kinds, a hold, a link that stops it; and nothing with less."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import approvals, backup_codes, factor_resets, factors, hierarchy, recovery, recovery_approval
from accounts.models import FactorReset, Grant, RecoveryCase, TotpDevice, User
from accounts.tasks import carry_out_factor_resets, purge_recovery
from mestore.lib import actor, errors
from mestore.lib.actor import Actor
from monitoring import delivery
from monitoring.models import AuditEvent
from monitoring.outbox import OutboxMessage
from tests.factories import accounts as people

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
committed = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

BY = Actor(kind="anonymous", address="203.0.113.11")
SYSTEM = actor.system("test")
REASON = "lost the phone on the bus"
CODE = re.compile(r"\b[A-Z2-7]{8}\b")
PASSWORD = {"password": people.PASSWORD}


@pytest.fixture
def user() -> User:
    made: User = people.TotpDeviceFactory.create().user
    return made


def posted() -> list[Any]:
    """Send what waits and return it, oldest first."""
    before = len(mail.outbox)
    for message in OutboxMessage.objects.order_by("created_at", "pk"):
        delivery.send(message.pk)
    return mail.outbox[before:]


def mailed_code() -> str:
    (message,) = posted()
    found = CODE.search(message.body)
    assert found, message.body
    return found[0]


def password_of(user: User, **changes: str) -> dict[str, str]:
    return {"email": user.email, "password": people.PASSWORD} | changes


def give(token: str, method: str, **answer: str) -> recovery.Progress:
    return recovery.prove(token, method=method, answer=answer, by=BY)


def recovered(user: User) -> FactorReset:
    token = recovery.begin(user.email, by=BY)
    give(token, "mailed_code", code=mailed_code())
    reset = give(token, "password", **password_of(user)).reset
    assert reset is not None
    return reset


def due(reset: FactorReset) -> None:
    FactorReset.objects.filter(pk=reset.pk).update(
        due_at=F("due_at") - timedelta(days=2), requested_at=F("requested_at") - timedelta(days=2)
    )


def refused() -> int:
    return AuditEvent.objects.using("audit").filter(type="auth.recovery.refused").count()


# One is not enough


def test_one_proof_begins_nothing(user: User) -> None:
    token = recovery.begin(user.email, by=BY)

    so_far = give(token, "mailed_code", code=mailed_code())

    assert (so_far.proofs, so_far.reset, so_far.is_complete) == (("mailed_code",), None, False)
    assert recovery.progress(token) == so_far
    assert not FactorReset.objects.exists()


def test_the_same_proof_twice_is_one(user: User) -> None:
    first, second, *_rest = backup_codes.regenerate(user, by=BY)
    token = recovery.begin(user.email, by=BY)

    give(token, "backup_code", code=first)
    so_far = give(token, "backup_code", code=second)
    again = give(token, "password", **password_of(user))

    assert so_far.proofs == ("backup_code",)
    assert again.is_complete


def test_mailed_code_works_once(user: User) -> None:
    token = recovery.begin(user.email, by=BY)
    code = mailed_code()
    give(token, "mailed_code", code=code)

    with pytest.raises(recovery.WrongProof):
        give(token, "mailed_code", code=code)


def test_code_of_another_case_is_refused(user: User) -> None:
    first = recovery.begin(user.email, by=BY)
    code = mailed_code()
    second = recovery.begin(user.email, by=BY)

    with pytest.raises(recovery.WrongProof):
        give(second, "mailed_code", code=code)
    assert give(first, "mailed_code", code=code).proofs == ("mailed_code",)


def test_code_copied_to_another_case_by_sql_is_refused(user: User) -> None:
    recovery.begin(user.email, by=BY)
    code = mailed_code()
    source = RecoveryCase.objects.get()
    token = recovery.begin(people.TotpDeviceFactory.create().user.email, by=BY)
    RecoveryCase.objects.exclude(pk=source.pk).update(code_hash=source.code_hash)

    with pytest.raises(recovery.WrongProof):
        give(token, "mailed_code", code=code)


def test_code_grows_old_after_ten_minutes(user: User) -> None:
    token = recovery.begin(user.email, by=BY)
    code = mailed_code()
    RecoveryCase.objects.update(code_expires_at=F("code_expires_at") - timedelta(seconds=601))

    with pytest.raises(recovery.WrongProof):
        give(token, "mailed_code", code=code)


def test_sixth_try_is_refused_even_if_right(user: User) -> None:
    token = recovery.begin(user.email, by=BY)
    code = mailed_code()
    for _attempt in range(5):
        with pytest.raises(recovery.WrongProof):
            give(token, "mailed_code", code="AAAAAAAA" if code != "AAAAAAAA" else "BBBBBBBB")

    with pytest.raises(recovery.RecoveryOver):
        give(token, "mailed_code", code=code)
    assert refused() == 6


def test_case_is_over_after_an_hour(user: User) -> None:
    token = recovery.begin(user.email, by=BY)
    code = mailed_code()
    RecoveryCase.objects.update(
        expires_at=F("expires_at") - timedelta(seconds=3_601),
        created_at=F("created_at") - timedelta(seconds=3_601),
    )

    with pytest.raises(recovery.RecoveryOver):
        give(token, "mailed_code", code=code)
    with pytest.raises(recovery.RecoveryOver):
        recovery.progress(token)


@pytest.mark.parametrize("token", ["", "x", "\udcff", "a" * 4_000])
def test_made_up_tokens_open_nothing(token: str) -> None:
    with pytest.raises(recovery.RecoveryOver):
        give(token, "mailed_code", code="AAAAAAAA")
    with pytest.raises(recovery.RecoveryOver):
        recovery.progress(token)
    with pytest.raises(factor_resets.ResetOver):
        factor_resets.cancel_by_token(token, by=BY)


@pytest.mark.parametrize(
    ("method", "answer", "error"),
    [
        ("", {}, recovery.UnknownProof),
        ("approval", {}, recovery.UnknownProof),
        ("totp", {"code": "123456"}, recovery.UnknownProof),
        ("mailed_code", {}, errors.Unprocessable),
        ("mailed_code", {"code": ""}, errors.Unprocessable),
        ("mailed_code", {"code": 5}, errors.Unprocessable),
        ("backup_code", {"code": "x"}, backup_codes.MalformedBackupCode),
        ("password", {"password": "x"}, errors.Unprocessable),
        ("password", {"email": "a@example.com"}, errors.Unprocessable),
    ],
)
def test_malformed_proof_costs_no_try(user: User, method: str, answer: Any, error: type[Exception]) -> None:
    token = recovery.begin(user.email, by=BY)

    with pytest.raises(error):
        recovery.prove(token, method=method, answer=answer, by=BY)

    assert RecoveryCase.objects.get().attempts == 0


@pytest.mark.parametrize("code", ["ＡＡＡＡＡＡＡＡ", "\x00", "é" * 8])
def test_strange_codes_are_wrong(user: User, code: str) -> None:
    token = recovery.begin(user.email, by=BY)

    with pytest.raises(recovery.WrongProof):
        give(token, "mailed_code", code=code)


def test_password_of_another_account_is_no_proof(user: User) -> None:
    token = recovery.begin(user.email, by=BY)
    other = people.BuyerFactory.create()

    with pytest.raises(recovery.WrongProof):
        give(token, "password", **password_of(other))
    with pytest.raises(recovery.WrongProof):
        give(token, "password", **password_of(user, password="wrong"))


def test_wrong_backup_code_is_no_proof(user: User) -> None:
    codes = backup_codes.regenerate(people.TotpDeviceFactory.create().user, by=BY)
    token = recovery.begin(user.email, by=BY)

    with pytest.raises(recovery.WrongProof):
        give(token, "backup_code", code=codes[0])


def test_used_backup_code_is_no_proof(user: User) -> None:
    code, *_rest = backup_codes.regenerate(user, by=BY)
    give(recovery.begin(user.email, by=BY), "backup_code", code=code)

    with pytest.raises(recovery.WrongProof):
        give(recovery.begin(user.email, by=BY), "backup_code", code=code)


# Strangers


@pytest.mark.parametrize("kind", ["unknown", "without_factor", "closed"])
def test_other_addresses_look_alike_and_lead_nowhere(user: User, kind: str) -> None:
    address = "nobody@example.com"
    if kind != "unknown":
        other = people.BuyerFactory.create(is_active=kind == "without_factor")
        if kind == "closed":
            people.TotpDeviceFactory.create(user=other)
        address = other.email
    with CaptureQueriesContext(connection) as known:
        right = recovery.begin(user.email, by=BY)
    posted()
    with CaptureQueriesContext(connection) as unknown:
        token = recovery.begin(address, by=BY)

    assert len(token) == len(right)
    assert len(known) == len(unknown)
    assert posted() == []
    for method, answer in (
        ("mailed_code", {"code": "AAAAAAAA"}),
        ("backup_code", {"code": "ABCDEFGHIJKLMNOPQ"}),
        ("password", {"email": address, **PASSWORD}),
    ):
        with pytest.raises(recovery.WrongProof):
            give(token, method, **answer)


def test_nothing_given_out_is_in_the_database(user: User) -> None:
    token = recovery.begin(user.email, by=BY)
    code = mailed_code()

    with connection.cursor() as cursor:
        cursor.execute("SELECT c::text FROM accounts_recoverycase c")
        dump = cursor.fetchone()[0]
    for secret in (token, code):
        assert secret not in dump
        assert secret.encode().hex() not in dump


# Two proofs


def test_two_proofs_begin_a_hold_and_tell_the_owner(user: User) -> None:
    reset = recovered(user)

    assert reset.proofs == ["mailed_code", "password"]
    assert reset.due_at - reset.requested_at == timedelta(hours=24)
    assert factor_resets.open_of(user) == reset
    (message,) = posted()
    assert "/admin/recovery/cancel/" in message.body
    assert factors.has_factor(user)
    assert factor_resets.carry_out_due(by=SYSTEM) == 0
    assert str(reset).startswith("factor reset")
    assert str(RecoveryCase.objects.get()).startswith("recovery case")


def test_both_addresses_are_told(user: User) -> None:
    User.objects.filter(pk=user.pk).update(recovery_email="second@example.com")
    token = recovery.begin(user.email, by=BY)
    give(token, "mailed_code", code=mailed_code())
    give(token, "password", **password_of(user))

    assert {address for message in posted() for address in message.to} == {user.email, "second@example.com"}


def test_complete_case_takes_nothing_more(user: User) -> None:
    codes = backup_codes.regenerate(user, by=BY)
    posted()
    token = recovery.begin(user.email, by=BY)
    give(token, "mailed_code", code=mailed_code())
    reset = give(token, "password", **password_of(user)).reset

    with pytest.raises(recovery.RecoveryOver):
        give(token, "backup_code", code=codes[0])
    assert recovery.progress(token).reset == reset


def test_second_recovery_joins_the_reset_that_waits(user: User) -> None:
    reset = recovered(user)
    posted()

    assert recovered(user) == reset
    assert FactorReset.objects.count() == 1


def test_reset_of_a_buyer_goes_to_the_front_end() -> None:
    user = people.TotpDeviceFactory.create(user=people.BuyerFactory.create()).user
    reset = recovered(user)

    (message,) = posted()
    assert "/recovery/cancel?token=" in message.body
    assert reset.due_at - reset.requested_at == timedelta(hours=1)


@committed
def test_second_proof_many_times_at_once_is_one_reset(race: Callable[..., list[Any]]) -> None:
    user = people.TotpDeviceFactory.create().user
    codes = backup_codes.regenerate(user, by=BY)
    posted()
    token = recovery.begin(user.email, by=BY)
    give(token, "mailed_code", code=mailed_code())

    outcomes = race([partial(give, token, "backup_code", code=codes[0])] * 4)

    assert sum(isinstance(outcome, recovery.Progress) for outcome in outcomes) == 1
    assert FactorReset.objects.count() == 1


@committed
def test_one_mailed_code_at_once_is_one_proof(race: Callable[..., list[Any]]) -> None:
    user = people.TotpDeviceFactory.create().user
    token = recovery.begin(user.email, by=BY)
    code = mailed_code()

    outcomes = race([partial(give, token, "mailed_code", code=code)] * 5)

    assert sum(isinstance(outcome, recovery.Progress) for outcome in outcomes) == 1
    assert RecoveryCase.objects.get().proofs == ["mailed_code"]


@pytest.mark.parametrize("closed", [{"is_active": False}, {"is_active": False, "deleted_at": timezone.now()}])
def test_account_that_was_closed_meanwhile_recovers_nothing(user: User, closed: dict[str, Any]) -> None:
    code, *_rest = backup_codes.regenerate(user, by=BY)
    posted()
    token = recovery.begin(user.email, by=BY)
    User.objects.filter(pk=user.pk).update(**closed)

    for method, answer in (("mailed_code", {"code": mailed_code()}), ("backup_code", {"code": code})):
        with pytest.raises(recovery.WrongProof):
            give(token, method, **answer)

    assert backup_codes.remaining(user) == 10
    assert recovery.progress(token).proofs == ()


# After the hold


def test_due_reset_of_an_account_that_was_closed_meanwhile_is_stopped(user: User) -> None:
    reset = recovered(user)
    due(reset)
    User.objects.filter(pk=user.pk).update(is_active=False)

    assert carry_out_factor_resets(0) == 0

    reset.refresh_from_db()
    assert reset.cancelled_at is not None
    assert factors.has_factor(user)


def test_due_reset_removes_every_factor_and_ends_everything(user: User) -> None:
    backup_codes.regenerate(user, by=BY)
    posted()
    reset = recovered(user)
    epoch = User.objects.get(pk=user.pk).auth_epoch
    due(reset)
    posted()

    assert carry_out_factor_resets(0) == 1
    assert carry_out_factor_resets(0) == 0

    assert factors.methods_of(user) == ()
    assert not TotpDevice.objects.filter(user=user).exists()
    assert User.objects.get(pk=user.pk).auth_epoch == epoch + 1
    assert len(posted()) == 1
    assert AuditEvent.objects.filter(type="auth.factor_reset.done").count() == 1
    reset.refresh_from_db()
    assert not reset.is_open
    with pytest.raises(factor_resets.ResetOver):
        factor_resets.cancel(reset, by=SYSTEM)


@committed
def test_two_workers_carry_out_once(race: Callable[..., list[Any]]) -> None:
    user = people.TotpDeviceFactory.create().user
    due(recovered(user))

    assert sorted(race([partial(factor_resets.carry_out_due, by=SYSTEM)] * 2)) == [0, 1]


@committed
def test_cancelled_or_carried_out_never_both(race: Callable[..., list[Any]]) -> None:
    user = people.TotpDeviceFactory.create().user
    reset = recovered(user)
    due(reset)

    outcomes = race(
        [partial(factor_resets.carry_out_due, by=SYSTEM), partial(factor_resets.cancel, reset, by=SYSTEM)]
    )

    carried_out = outcomes[0] == 1
    assert carried_out != isinstance(outcomes[1], FactorReset)
    assert factors.has_factor(user) != carried_out


# "It was not me"


def test_link_stops_the_reset_and_ends_every_session(user: User) -> None:
    recovered(user)
    epoch = User.objects.get(pk=user.pk).auth_epoch
    (message,) = posted()
    token = message.body.split("/admin/recovery/cancel/")[1].split("/")[0]

    reset = factor_resets.cancel_by_token(token, by=BY)

    assert not reset.is_open
    fresh = User.objects.get(pk=user.pk)
    assert fresh.auth_epoch == epoch + 1
    assert fresh.force_password_change  # somebody else knew it
    assert len(posted()) == 1
    due(reset)
    assert factor_resets.carry_out_due(by=SYSTEM) == 0
    assert factors.has_factor(user)
    with pytest.raises(factor_resets.ResetOver):
        factor_resets.cancel_by_token(token, by=BY)


def test_password_that_was_no_proof_need_not_be_changed(user: User) -> None:
    codes = backup_codes.regenerate(user, by=BY)
    posted()
    token = recovery.begin(user.email, by=BY)
    give(token, "mailed_code", code=mailed_code())
    reset = give(token, "backup_code", code=codes[0]).reset
    assert reset is not None

    factor_resets.cancel(reset, by=SYSTEM)

    assert not User.objects.get(pk=user.pk).force_password_change
    assert reset.cancelled_by == "test"


# Two administrators


@pytest.fixture
def asker() -> User:
    made: User = people.SuperuserFactory.create()
    people.grant(made, recovery_approval.PERMISSION)
    return made


@pytest.fixture
def second() -> User:
    made: User = people.SuperuserFactory.create()
    people.grant(made, recovery_approval.PERMISSION)
    return made


def acting(user: User) -> Actor:
    return Actor(kind="user", id=str(user.pk), label=user.email, role=user.user_type)


def test_approval_is_one_proof_and_the_mailed_code_the_other(user: User, asker: User, second: User) -> None:
    request = recovery_approval.ask(user, reason=REASON, by=acting(asker))
    assert not RecoveryCase.objects.exists()

    approvals.approve(request.pk, by=acting(second))

    (message,) = [one for one in posted() if one.to == [user.email]]
    code = CODE.search(message.body)
    assert code
    token = message.body.split("/admin/recovery/")[1].split("/")[0]
    so_far = give(token, "mailed_code", code=code[0])
    assert so_far.proofs == ("approval", "mailed_code")
    assert so_far.is_complete


def test_link_of_a_buyer_leads_to_the_front_end(asker: User, second: User) -> None:
    user = people.TotpDeviceFactory.create(user=people.BuyerFactory.create()).user
    request = recovery_approval.ask(user, reason=REASON, by=acting(asker))
    approvals.approve(request.pk, by=acting(second))

    (message,) = [one for one in posted() if one.to == [user.email]]
    assert "/recovery?token=" in message.body


def test_who_asked_does_not_approve(user: User, asker: User) -> None:
    request = recovery_approval.ask(user, reason=REASON, by=acting(asker))

    with pytest.raises(approvals.NotYours):
        approvals.approve(request.pk, by=acting(asker))
    assert not RecoveryCase.objects.exists()


def test_nobody_asks_for_themselves_or_upwards_or_without_the_permission(user: User, asker: User) -> None:
    admin = people.AdminFactory.create()
    people.grant(admin, recovery_approval.PERMISSION)
    bare = people.SuperuserFactory.create()
    people.TotpDeviceFactory.create(user=asker)

    for target, by in ((asker, asker), (asker, admin), (user, bare)):
        with pytest.raises(hierarchy.NotAllowed):
            recovery_approval.ask(target, reason=REASON, by=acting(by))
    with pytest.raises(hierarchy.ReasonMissing):
        recovery_approval.ask(user, reason="x", by=acting(asker))


def test_who_may_no_longer_ask_is_not_carried_out(user: User, asker: User, second: User) -> None:
    request = recovery_approval.ask(user, reason=REASON, by=acting(asker))
    Grant.objects.filter(user=asker).update(revoked_at=timezone.now())

    with pytest.raises(hierarchy.NotAllowed):
        approvals.approve(request.pk, by=acting(second))
    assert not RecoveryCase.objects.exists()


def test_account_without_a_factor_needs_no_reset(asker: User) -> None:
    with pytest.raises(recovery_approval.NothingToReset):
        recovery_approval.ask(people.AdminFactory.create(), reason=REASON, by=acting(asker))


# Housekeeping


def test_old_cases_are_deleted(user: User) -> None:
    recovery.begin(user.email, by=BY)
    RecoveryCase.objects.update(
        created_at=timezone.now() - timedelta(days=32), expires_at=timezone.now() - timedelta(days=31)
    )
    recovery.begin(user.email, by=BY)

    assert purge_recovery(0) == 1
    assert RecoveryCase.objects.count() == 1
