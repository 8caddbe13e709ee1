"""Locks that people prolong and networks that they shut out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.utils import timezone

from accounts import hierarchy, lock_changes, lockout
from accounts.models import LockoutCounter, User
from mestore.lib.actor import Actor
from mestore.lib.request import UNKNOWN
from monitoring import events
from monitoring.models import AuditEvent
from tests.factories.accounts import AdminFactory, BuyerFactory, SuperuserFactory

# Counters commit on a connection of their own.
pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
ADDRESS, REASON = "203.0.113.9", "seen in the proxy's log"
HOUR = dt.timedelta(hours=1)


def acting(user: User, address: str | None = "198.51.100.1") -> Actor:
    return Actor(kind="user", id=str(user.pk), label=user.email, role=user.user_type, address=address)


def locked(account: str = "victim@example.com", address: str = ADDRESS) -> LockoutCounter:
    for _ in range(5):
        lockout.charge(lockout.attempt("login", account=account, address=address))
    return LockoutCounter.objects.get(kind="login:account")


def refused(address: str, kind: str = "login") -> bool:
    try:
        lockout.refuse_locked(lockout.attempt(kind, account="other@example.com", address=address))
    except lockout.LockedOut:
        return True
    return False


def test_lock_lasts_so_much_longer_and_says_who_wanted_it() -> None:
    counter = locked()
    assert counter.locked_until

    lock_changes.extend(counter, hours=24, reason=REASON, by=acting(AdminFactory.create()))

    now = LockoutCounter.objects.get(pk=counter.pk)
    assert now.locked_until == counter.locked_until + 24 * HOUR
    assert now.window_ends_at == now.locked_until
    assert AuditEvent.objects.filter(type=events.LOCK_EXTENDED).count() == 1


def test_no_lock_lasts_longer_than_a_month_from_now() -> None:
    counter, by = locked(), acting(AdminFactory.create())

    for _ in range(2):
        lock_changes.extend(counter, hours=720, reason=REASON, by=by)

    until = LockoutCounter.objects.get(pk=counter.pk).locked_until
    assert until
    assert until <= timezone.now() + lock_changes.LONGEST


def test_what_is_over_or_only_counted_is_not_prolonged() -> None:
    counter, by = locked(), acting(AdminFactory.create())
    past = timezone.now() - HOUR
    LockoutCounter.objects.using("audit").filter(pk=counter.pk).update(locked_until=past)
    lockout.charge(lockout.attempt("login", account="a@example.com", address="198.51.100.7"))
    counting = LockoutCounter.objects.filter(locked_until=None)[0]

    for one in (counter, counting, LockoutCounter(pk=b"\0" * 32, kind="login:account")):
        with pytest.raises(lock_changes.LockOver):
            lock_changes.extend(one, hours=1, reason=REASON, by=by)
    assert not AuditEvent.objects.filter(type=events.LOCK_EXTENDED).exists()


def test_nobody_keeps_somebody_above_or_themselves_out() -> None:
    superior, admin = SuperuserFactory.create(), AdminFactory.create()
    guards_superior = locked(superior.email_key or "")

    with pytest.raises(hierarchy.NotAllowed):
        lock_changes.extend(guards_superior, hours=1, reason=REASON, by=acting(admin))
    with pytest.raises(hierarchy.NotAllowed):
        lock_changes.extend(guards_superior, hours=1, reason=REASON, by=acting(superior))


@pytest.mark.parametrize("change", ["extend", "block"])
def test_without_reason_or_rank_nothing_changes(change: str) -> None:
    counter, admin = locked(), AdminFactory.create()
    before = LockoutCounter.objects.get(pk=counter.pk).locked_until

    def attempt(by: Actor, reason: str = REASON) -> None:
        if change == "extend":
            lock_changes.extend(counter, hours=1, reason=reason, by=by)
        else:
            lock_changes.block_network("192.0.2.1", hours=1, reason=reason, by=by)

    with pytest.raises(hierarchy.ReasonMissing):
        attempt(acting(admin), reason=" short ")
    for stranger in (
        Actor(kind="anonymous"),
        Actor(kind="user", id="x"),
        acting(AdminFactory.create(is_active=False)),
        Actor(kind="user", id=str(BuyerFactory.create().pk), impersonator=str(admin.pk)),
    ):
        with pytest.raises(hierarchy.NotAllowed):
            attempt(stranger)

    assert LockoutCounter.objects.get(pk=counter.pk).locked_until == before
    assert not refused("192.0.2.1")


@pytest.mark.parametrize("hours", [0, -1, 721])
def test_bounds_of_the_time(hours: int) -> None:
    by = acting(AdminFactory.create())
    with pytest.raises(ValueError, match="between an hour and a month"):
        lock_changes.extend(LockoutCounter(pk=b"\0" * 32), hours=hours, reason=REASON, by=by)
    with pytest.raises(ValueError, match="between an hour and a month"):
        lock_changes.block_network(ADDRESS, hours=hours, reason=REASON, by=by)


def test_blocked_network_is_refused_at_every_door_and_others_are_not() -> None:
    admin = AdminFactory.create()

    counter = lock_changes.block_network(ADDRESS, hours=24, reason=REASON, by=acting(admin))

    assert all(refused(ADDRESS, kind) for kind in ("login", "admin_login", "factor", "register", "reset"))
    assert not refused("203.0.113.10")
    assert (counter.kind, counter.locked_until) == ("block:network", counter.window_ends_at)
    event = AuditEvent.objects.get(type=events.NETWORK_BLOCKED)
    assert ADDRESS not in str(bytes(event.canon))
    lockout.lift_network(ADDRESS, reason=REASON, by=acting(admin))
    assert not refused(ADDRESS)


def test_failure_that_settles_late_does_not_shorten_a_block() -> None:
    counter = lock_changes.block_network(ADDRESS, hours=720, reason=REASON, by=acting(AdminFactory.create()))
    until = counter.locked_until

    for number in range(60):
        lockout.charge(lockout.attempt("login", account=f"a{number}@example.com", address=ADDRESS))

    counter.refresh_from_db()
    assert counter.locked_until == until


def test_a_longer_block_stays_and_an_earned_one_grows() -> None:
    by = acting(AdminFactory.create())
    longer = lock_changes.block_network(ADDRESS, hours=168, reason=REASON, by=by).locked_until

    again = lock_changes.block_network(ADDRESS, hours=1, reason=REASON, by=by)

    assert again.locked_until == longer
    assert LockoutCounter.objects.filter(kind="block:network").count() == 1


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (" 203.0.113.9 ", "203.0.113.9"),
        ("203.0.113.9/32", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2::5", "2001:db8:1:2::77"),
        ("2001:db8:1:2::/64", "2001:db8:1:2:ffff::1"),
    ],
)
def test_network_is_meant_as_failures_are_counted(typed: str, meant: str) -> None:
    lock_changes.block_network(typed, hours=1, reason=REASON, by=acting(AdminFactory.create()))

    assert refused(meant)


@pytest.mark.parametrize(
    "typed",
    ["", "x", "203.0.113.0/24", "0.0.0.0/0", UNKNOWN, "2001:db8::/32", "::/0", "1.2.3", "1.2.3.4.5",
     "fe80::1%eth0/64", "١.٢.٣.٤", "203.0.113.9\x00", "::ffff:203.0.113.0/120", "host.example.com"],
)  # fmt: skip
def test_what_is_not_one_network_is_refused(typed: str) -> None:
    with pytest.raises(lock_changes.NotOneNetwork):
        lock_changes.block_network(typed, hours=1, reason=REASON, by=acting(AdminFactory.create()))

    assert not LockoutCounter.objects.exists()


@pytest.mark.parametrize(
    ("own", "typed"), [("203.0.113.9", "203.0.113.9"), ("2001:db8:1:2::5", "2001:db8:1:2::/64")]
)
def test_nobody_blocks_the_network_they_are_in(own: str, typed: str) -> None:
    with pytest.raises(lock_changes.OwnNetwork):
        lock_changes.block_network(typed, hours=1, reason=REASON, by=acting(AdminFactory.create(), own))


def test_many_who_prolong_at_once_each_add_their_time(race: Callable[..., list[Any]]) -> None:
    counter, admin = locked(), AdminFactory.create()
    assert counter.locked_until

    race([partial(lock_changes.extend, counter, hours=1, reason=REASON, by=acting(admin))] * 4)

    until = LockoutCounter.objects.get(pk=counter.pk).locked_until
    assert until == counter.locked_until + 4 * HOUR
