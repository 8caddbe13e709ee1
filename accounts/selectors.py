"""Reading about accounts: records for lists and charts, each with one statement, none that writes."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from accounts import factors, lockout, roles
from accounts.models import Grant, LockoutCounter, User
from accounts.users import identifier


@dataclass(frozen=True, slots=True)
class RoleCount:
    """How many accounts a role has, and how many of them are open and protected by a second factor."""

    role: str
    accounts: int
    active: int
    with_factor: int

    @property
    def coverage(self) -> float | None:
        """Share of open accounts with a confirmed factor; None when nobody is there to be covered."""
        return self.with_factor / self.active if self.active else None


def by_role() -> list[RoleCount]:
    """Return one record per role, from buyer to machine, also for roles without accounts."""
    rows = (
        User.objects.filter(deleted_at__isnull=True)
        .annotate(has_factor=factors.proved())
        .values("user_type")
        .annotate(
            accounts=Count("pk"),
            active=Count("pk", filter=Q(is_active=True)),
            with_factor=Count("pk", filter=Q(is_active=True, has_factor=True)),
        )
    )
    found = {row["user_type"]: row for row in rows}
    return [
        RoleCount(
            role=str(role),
            accounts=found[role]["accounts"] if role in found else 0,
            active=found[role]["active"] if role in found else 0,
            with_factor=found[role]["with_factor"] if role in found else 0,
        )
        for role in roles.Role
    ]


def staff_without_factor() -> QuerySet[User]:
    """Return the open accounts of the staff that have no confirmed second factor: they cannot enter."""
    return User.objects.filter(user_type__in=roles.STAFF, is_active=True).exclude(factors.proved())


def has_factor(user: User) -> bool:
    """Say whether `user` has a second factor."""
    return factors.has_factor(user)


def locked_now() -> QuerySet[LockoutCounter]:
    """Return the counters that refuse attempts at this moment."""
    return LockoutCounter.objects.filter(locked_until__gt=timezone.now())


def open_grants() -> QuerySet[Grant]:
    """Return the grants that count now, with person and permission."""
    return Grant.objects.filter(
        Q(expires_at__isnull=True) | Q(expires_at__gt=timezone.now()), revoked_at__isnull=True
    ).select_related("user", "permission")


def counters_of(user: User) -> QuerySet[LockoutCounter]:
    """Return the counters that stand under one account."""
    return _named(_names_of(user))


def staff_behind(counter: LockoutCounter) -> User | None:
    """Return the administrator against whose account a counter counts, if it is one's.

    The table has no names: the keys of every member of the staff are made and compared.
    """
    kept = {bytes(key) for key in (counter.key, counter.account_key) if key}
    staff = User.objects.filter(user_type__in=roles.STAFF).iterator()
    return next((user for user in staff if not kept.isdisjoint(_account_keys(user))), None)


def counters_named(text: str) -> QuerySet[LockoutCounter]:
    """Return the counters of what was typed: an address, an account's id, or a network address.

    The table has no names. A counter is found by making the key that it would have.
    """
    name = identifier(text)
    found = User.objects.filter(email_key=name).values_list("pk", flat=True).first() if name else None
    return _named([name, text.strip(), *([str(found)] if found else [])], address=text.strip())


def _names_of(user: User) -> list[str]:
    return [user.email_key or "", str(user.pk)]


def _account_keys(user: User) -> list[bytes]:
    return lockout.keys_of_account(*_names_of(user))


def _named(names: list[str], address: str | None = None) -> QuerySet[LockoutCounter]:
    accounts = lockout.keys_of_account(*names)
    networks = lockout.keys_of_network(address) if address and _is_address(address) else []
    found = Q(pk__in=[*accounts, *networks]) | Q(account_key__in=accounts)
    return LockoutCounter.objects.filter(found).order_by("-failed_at", "kind")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
