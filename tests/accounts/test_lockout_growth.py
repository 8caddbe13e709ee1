"""Locks that follow each other grow, networks are shut out in the end, pairs bound slow guessing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.db.models import F

from accounts import lockout, selectors
from accounts.lockout import FACTOR, LOGIN, LockedOut
from accounts.models import LockoutCounter
from mestore.lib import actor, ids
from monitoring.models import AuditEvent
from tests.factories.accounts import BuyerFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

ADDRESS = "203.0.113.7"
NAME = "ana@example.com"
BY = actor.system("test")
HOUR, DAY = 3_600, 86_400


def attempt(kind: str = LOGIN, account: str = NAME, address: str | None = None, **more: Any) -> Any:
    return lockout.attempt(kind, account=account, address=address, **more)


def let_pass(seconds: int) -> None:
    """Move every counter into the past, as time would."""
    step = dt.timedelta(seconds=seconds)
    LockoutCounter.objects.using("audit").update(
        window_ends_at=F("window_ends_at") - step,
        locked_until=F("locked_until") - step,
        failed_at=F("failed_at") - step,
        locks_end_at=F("locks_end_at") - step,
    )


def locked_for(this: lockout.Attempt) -> int:
    """Seconds until an attempt may begin; 0 when it may now."""
    try:
        lockout.refuse_locked(this)
    except LockedOut as refused:
        return int(refused.headers["Retry-After"])
    return 0


def lock(this: lockout.Attempt) -> lockout.Failure:
    """Fail until a lock begins."""
    while True:
        failure = lockout.charge(this)
        if failure.began_lock:
            return failure


def lock_network(address: str = ADDRESS, kind: str = LOGIN) -> None:
    for _failure in range(settings.LOGIN_LIMITS[kind]["network"]):
        lockout.charge(attempt(kind, account=str(ids.uuid7()), address=address))


def test_each_lock_is_longer_than_the_one_before_up_to_a_bound() -> None:
    base = settings.LOGIN_LIMITS[LOGIN]["lock_seconds"]
    seen = []
    for _lock in range(6):
        failure = lock(attempt())
        seconds = locked_for(attempt())
        assert abs(failure.retry_after - seconds) <= 60
        seen.append(round(seconds / base))
        let_pass(seconds + 1)

    assert seen == [1, 2, 4, 8, 24, 24]


def test_a_day_without_a_lock_forgets_the_earlier_ones() -> None:
    base = settings.LOGIN_LIMITS[LOGIN]["lock_seconds"]
    lock(attempt())
    let_pass(base + DAY + 1)

    lock(attempt())

    assert locked_for(attempt()) <= base


def test_a_right_answer_forgets_the_earlier_locks() -> None:
    base = settings.LOGIN_LIMITS[LOGIN]["lock_seconds"]
    lock(attempt())
    let_pass(base + 1)
    lockout.settle(attempt())

    lock(attempt())

    assert locked_for(attempt()) <= base


def test_memory_of_locks_outlives_the_purge_and_then_goes() -> None:
    base = settings.LOGIN_LIMITS[LOGIN]["lock_seconds"]
    lock(attempt())
    let_pass(base + 1)
    assert lockout.remove_ended() == 0

    let_pass(DAY)
    assert lockout.remove_ended() == 1


@pytest.mark.parametrize("kind", sorted(settings.NEVER_ESCALATED))
def test_doors_that_count_requests_never_grow(kind: str) -> None:
    base = settings.LOGIN_LIMITS[kind]["lock_seconds"]
    for _lock in range(3):
        lock(attempt(kind))
        assert base - 2 <= locked_for(attempt(kind)) <= base
        let_pass(base + 1)
    for _lock in range(settings.NETWORK_VIOLATIONS + 1):
        lock_network(kind=kind)
        let_pass(base + 1)

    assert not LockoutCounter.objects.using("audit").filter(kind="violations:network").exists()


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_a_lock_that_many_cause_at_once_grows_once(race: Callable[..., list[Any]]) -> None:
    race([partial(lockout.charge, attempt())] * 12)

    row = LockoutCounter.objects.get(kind="login:account")
    assert row.locks == 1


def violate(address: str = ADDRESS) -> None:
    """Have a network locked as often as it may be; its locks are waited for."""
    for _lock in range(settings.NETWORK_VIOLATIONS):
        lock_network(address)
        LockoutCounter.objects.using("audit").filter(kind="login:network").delete()


def test_network_that_was_locked_too_often_is_shut_out_of_every_door() -> None:
    violate()

    for kind in settings.LOGIN_LIMITS:
        assert DAY - 5 <= locked_for(attempt(kind, account="somebody", address=ADDRESS)) <= DAY
    assert not locked_for(attempt(address="203.0.113.8"))
    with pytest.raises(LockedOut):
        lockout.settle(attempt(address=ADDRESS))


def test_four_locks_of_a_network_shut_nothing() -> None:
    for _lock in range(settings.NETWORK_VIOLATIONS - 1):
        lock_network()
        LockoutCounter.objects.using("audit").filter(kind="login:network").delete()

    assert not locked_for(attempt(FACTOR, address=ADDRESS))


def test_repeated_blocks_take_up_to_seven_days() -> None:
    seen = []
    for _block in range(5):
        violate()
        seconds = locked_for(attempt(address=ADDRESS))
        seen.append(round(seconds / DAY))
        let_pass(seconds + 1)

    assert seen == [1, 2, 4, 7, 7]


def test_slow_guessing_from_one_network_ends_within_a_day() -> None:
    budget, told = settings.LOGIN_LIMITS[LOGIN]["pair"], 0
    for _hour in range(24):
        for _guess in range(4):
            if not locked_for(attempt(address=ADDRESS)):
                lockout.charge(attempt(address=ADDRESS))
                told += 1
        let_pass(HOUR + 1)
        if told >= budget:
            break

    assert told == budget
    kinds = LockoutCounter.objects.using("audit").filter(locks__gt=0).values_list("kind", flat=True)
    assert list(kinds) == ["login:pair"]


def test_right_answer_forgets_the_pair_of_its_own_network_only() -> None:
    lockout.charge(attempt(address=ADDRESS))
    lockout.charge(attempt(address="203.0.113.8"))

    lockout.settle(attempt(address=ADDRESS))

    assert LockoutCounter.objects.using("audit").filter(kind="login:pair").count() == 1


def test_pairs_of_parts_that_join_to_the_same_text_are_apart() -> None:
    one = attempt(account="alice9", address="1.2.3.4")
    other = attempt(account="alice", address="91.2.3.4")

    assert one.pair_key != other.pair_key


def test_known_device_is_counted_in_place_of_the_account() -> None:
    device = ids.uuid7()
    lock(attempt(address="198.51.100.1"))

    mine = attempt(address=ADDRESS, device=device)
    assert not locked_for(mine)
    lockout.settle(mine)
    assert locked_for(attempt())

    lock(mine)
    assert locked_for(mine)
    assert not locked_for(attempt(address=ADDRESS, device=ids.uuid7()))
    assert not LockoutCounter.objects.using("audit").filter(kind="login:pair", failures__gt=5).exists()


def test_locks_of_the_network_count_on_a_known_device_too() -> None:
    lock_network()

    assert locked_for(attempt(address=ADDRESS, device=ids.uuid7()))


def test_lifting_an_account_reaches_its_pairs_and_devices_at_every_door() -> None:
    user = BuyerFactory.create()
    name = str(user.email_key)
    for kind in ("login", "otp"):
        lock(attempt(kind, account=name, address=ADDRESS))
    for kind in (FACTOR, "change_password"):
        lock(attempt(kind, account=str(user.pk)))
    lock(attempt(account=name, device=ids.uuid7()))
    other = attempt(account="other@example.com")
    lock(other)
    assert {row.kind for row in selectors.counters_of(user).using("audit")} == {
        "login:account", "login:pair", "login:device", "otp:account", "otp:pair", "factor:account",
        "change_password:account",
    }  # fmt: skip

    assert lockout.lift_account(user, reason="called", by=BY) == 7

    assert not selectors.counters_of(user).using("audit").exists()
    assert locked_for(other)


def test_lifting_a_network_opens_every_door_and_is_recorded() -> None:
    violate()
    assert {row.kind for row in selectors.counters_named(ADDRESS).using("audit")} == {"violations:network"}

    assert lockout.lift_network(ADDRESS, reason="an office", by=BY) == 1

    assert not locked_for(attempt(address=ADDRESS))
    event = AuditEvent.objects.get(type="auth.lock_lifted")
    assert (event.target_type, event.target_id) == ("network", ADDRESS)
