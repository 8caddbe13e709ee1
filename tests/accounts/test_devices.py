"""Known devices: of one account, kept as digests, at most ten, forgotten by their owner or by time."""

from __future__ import annotations

import datetime as dt
import hashlib

import pytest
from django.conf import settings
from django.utils import timezone

from accounts import devices, tasks
from accounts.login import InvalidCredentials, LockedOut, check_credentials
from accounts.models import KnownDevice, User
from mestore.lib import errors, ids
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from tests.factories.accounts import PASSWORD, BuyerFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

STRANGER = Actor(kind="anonymous", address="198.51.100.9")
BY = Actor(kind="anonymous", address="203.0.113.7", agent="Firefox")


def on(token: str) -> Actor:
    """The person behind a browser with this cookie."""
    return Actor(
        kind="anonymous", address="203.0.113.7", agent="Firefox",
        device=hashlib.sha256(token.encode()).hexdigest(),
    )  # fmt: skip


@pytest.fixture
def user() -> User:
    made: User = BuyerFactory.create()
    return made


def lock_out(user: User) -> None:
    for _guess in range(settings.LOGIN_LIMITS["login"]["account"]):
        with pytest.raises(InvalidCredentials):
            check_credentials(user.email, "guess", by=STRANGER, purpose="api")


def test_token_has_256_bits_and_only_its_digest_is_kept(user: User) -> None:
    token = devices.remember(user, by=BY)

    row = KnownDevice.objects.get()
    assert len(token) == 43
    assert bytes(row.token_hash) == hashlib.sha256(token.encode()).digest()
    assert (row.name, row.address) == ("Firefox", "203.0.113.7")
    assert token not in str(KnownDevice.objects.values())


def test_strangers_do_not_keep_the_owner_out_of_a_known_device(user: User) -> None:
    token = devices.remember(user, by=BY)
    lock_out(user)

    with pytest.raises(LockedOut):
        check_credentials(user.email, PASSWORD, by=BY, purpose="api")
    assert check_credentials(user.email, PASSWORD, by=on(token), purpose="api") == user


def test_known_device_of_somebody_else_is_no_lane(user: User) -> None:
    token = devices.remember(BuyerFactory.create(), by=BY)
    lock_out(user)

    with pytest.raises(LockedOut):
        check_credentials(user.email, PASSWORD, by=on(token), purpose="api")


@pytest.mark.parametrize("end", ["revoked", "all", "expired", "invented"])
def test_device_that_is_over_is_no_lane(user: User, end: str) -> None:
    token = devices.remember(user, by=BY)
    if end == "revoked":
        devices.revoke(user, KnownDevice.objects.get().pk, by=BY)
    elif end == "all":
        assert devices.revoke_all(user, by=BY) == 1
    elif end == "expired":
        moment = timezone.now()
        KnownDevice.objects.update(created_at=moment - dt.timedelta(2), expires_at=moment)
    else:
        token = "A" * 43
    lock_out(user)

    assert devices.lane_of(by=on(token), user=user) is None
    with pytest.raises(LockedOut):
        check_credentials(user.email, PASSWORD, by=on(token), purpose="api")


def test_known_device_has_a_budget_like_an_account(user: User) -> None:
    token = devices.remember(user, by=BY)
    for _guess in range(settings.LOGIN_LIMITS["login"]["account"]):
        with pytest.raises(InvalidCredentials):
            check_credentials(user.email, "guess", by=on(token), purpose="api")

    with pytest.raises(LockedOut):
        check_credentials(user.email, PASSWORD, by=on(token), purpose="api")
    assert check_credentials(user.email, PASSWORD, by=STRANGER, purpose="api") == user


def test_coming_back_is_noted_and_prolongs(user: User) -> None:
    token = devices.remember(user, by=BY)
    later = timezone.now() + dt.timedelta(days=100)

    assert devices.seen(user, by=on(token), now=later)

    row = KnownDevice.objects.get()
    assert row.last_used_at == later
    assert row.expires_at > later + dt.timedelta(days=179)
    assert not devices.seen(user, by=BY)
    assert not devices.seen(BuyerFactory.create(), by=on(token))


def test_no_more_than_ten_and_those_that_came_back_stay(user: User) -> None:
    kept = devices.remember(user, by=BY)
    devices.seen(user, by=on(kept))
    first = devices.remember(user, by=BY)

    for _sign_in in range(settings.KNOWN_DEVICES + 2):
        newest = devices.remember(user, by=BY)

    assert KnownDevice.objects.filter(user=user).count() == settings.KNOWN_DEVICES
    assert devices.lane_of(by=on(kept), user=user)
    assert devices.lane_of(by=on(newest), user=user)
    assert devices.lane_of(by=on(first), user=user) is None


def test_list_is_of_one_account_newest_first(user: User) -> None:
    devices.remember(BuyerFactory.create(), by=BY)
    moment = timezone.now()
    for days in (3, 1, 2):
        devices.remember(user, by=BY, now=moment - dt.timedelta(days=days))

    assert [(moment - row.created_at).days for row in devices.of(user)] == [1, 2, 3]


def test_nobody_forgets_a_device_of_somebody_else(user: User) -> None:
    devices.remember(user, by=BY)
    device = KnownDevice.objects.get()

    for owner, which in ((BuyerFactory.create(), device.pk), (user, ids.uuid7())):
        with pytest.raises(errors.NotFound):
            devices.revoke(owner, which, by=BY)
    devices.revoke(user, device.pk, by=BY)

    assert AuditEvent.objects.filter(type="auth.device.forgotten", target_id=str(user.pk)).count() == 1


def test_devices_that_stay_away_are_deleted(user: User) -> None:
    devices.remember(user, by=BY, now=timezone.now() - dt.timedelta(days=181))
    devices.remember(user, by=BY)

    assert tasks.purge_links() == 1
    assert KnownDevice.objects.count() == 1


def test_no_cookie_costs_no_statement(user: User, django_assert_num_queries: object) -> None:
    with django_assert_num_queries(0):  # type: ignore[operator] # a fixture
        assert devices.lane_of(by=BY, email_key=user.email_key) is None
