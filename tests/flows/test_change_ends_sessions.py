"""What changes who somebody is or what they may do is felt on the very next request, and by known devices."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.test import Client
from django.utils import timezone

from accounts import devices, factor_resets, factors, password_change, role_changes
from accounts.models import KnownDevice, TotpDevice, User
from accounts.roles import Role
from mestore.lib import actor
from mestore.lib.actor import Actor
from monitoring import events
from monitoring.models import AuditEvent
from sessions_security import own_factors, session_check, sessions, signin, stepup
from sessions_security.models import StepUpProof, UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

ME = "/api/v1/auth/me"
NEW = "a quite different sentence 7"
Change = Callable[[User], object]


def by_shell(user: User) -> None:
    user.set_password(NEW)
    user.save()


def factor_removed_by_reset(user: User) -> None:
    with transaction.atomic():
        factors.remove_all(user)
        User.objects.filter(pk=user.pk).update(auth_epoch=F("auth_epoch") + 1)


CHANGES: dict[str, Change] = {
    "password_by_view": lambda user: password_change.change(
        user, current=people.PASSWORD, new=NEW, by=made.HERE
    ),
    "password_by_shell": by_shell,
    "password_by_sql": lambda user: User.objects.filter(pk=user.pk).update(password="!other"),
    "role_raised": lambda user: User.objects.filter(pk=user.pk).update(user_type=str(Role.SUPERUSER)),
    "role_lowered": lambda user: User.objects.filter(pk=user.pk).update(user_type=str(Role.BUYER)),
    "clearance": lambda user: User.objects.filter(pk=user.pk).update(security_clearance_level=1),
    "closed": lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
    "deleted": lambda user: User.objects.filter(pk=user.pk).update(
        is_active=False, deleted_at=timezone.now()
    ),
    "factors_reset": factor_removed_by_reset,
}


@pytest.fixture
def admin() -> User:
    made_user: User = people.AdminFactory.create()
    return made_user


def uses(user: User) -> list[Callable[[], int]]:
    """Return requests with a token, a cookie and a refresh token of `user`; each says the status."""
    _session, pair = made.tokens_of(user)
    _browser, cookie = made.cookie_of(user)
    client = Client()
    client.cookies.load(made.cookies(cookie))
    bearer = {"Authorization": f"Bearer {pair.access_token}"}

    def refresh() -> int:
        body = {"refresh_token": pair.refresh_token}
        answer = Client().post("/api/v1/auth/refresh-token", body, content_type="application/json")
        return int(answer.status_code)

    return [
        lambda: int(Client().get(ME, headers=bearer).status_code),
        lambda: int(client.get(ME).status_code),
        refresh,
    ]


@pytest.mark.parametrize("name", CHANGES)
def test_change_ends_cookie_token_and_refresh_on_the_very_next_request(admin: User, name: str) -> None:
    with_token, with_cookie, refresh = uses(admin)
    assert (with_token(), with_cookie()) == (200, 200)

    CHANGES[name](admin)

    assert (with_token(), with_cookie(), refresh()) == (401, 401, 401)


def test_new_hash_of_the_same_password_ends_nothing(admin: User) -> None:
    with_token, with_cookie, refresh = uses(admin)

    User.objects.filter(pk=admin.pk).update(password="!anew", password_rehashed_at=timezone.now())

    assert (with_token(), with_cookie(), refresh()) == (200, 200, 200)


# What one does to one's own factors: the present session stays, the others end


class Owner:
    """Somebody with a second factor, in one session with a fresh proof, known on two browsers."""

    def __init__(self) -> None:
        self.device: TotpDevice = people.TotpDeviceFactory.create(user=people.BuyerFactory.create())
        self.user: User = self.device.user
        by = made.HERE
        self.here = devices.remember(self.user, by=by)
        self.elsewhere = devices.remember(self.user, by=by)
        self.others = [made.session_of(self.user), made.session_of(self.user, kind="cookie")]
        self.session = made.session_of(self.user, amr=("pwd", "otp"))
        digest = hashlib.sha256(self.here.encode()).hexdigest()
        self.by: Actor = sessions.acting(replace(by, device=digest), self.session)
        self.prove(self.device.persistent_id)

    def prove(self, factor: str) -> None:
        earlier = self.session.created_at
        StepUpProof.objects.update_or_create(
            session=self.session, factor=factor,
            defaults={"method": "totp", "bound_at": earlier, "proved_at": timezone.now()},
        )  # fmt: skip

    def known(self) -> set[str]:
        kept = {bytes(row.token_hash) for row in KnownDevice.objects.filter(user=self.user)}
        both = {"here": self.here, "elsewhere": self.elsewhere}
        return {name for name, token in both.items() if hashlib.sha256(token.encode()).digest() in kept}

    def ended(self) -> tuple[bool, bool]:
        """Say whether the present session ended, and whether all others did."""
        self.session.refresh_from_db()
        others = UserSession.objects.filter(pk__in=[one.pk for one in self.others], revoked_at=None)
        return self.session.revoked_at is not None, not others.exists()


def forgotten() -> int:
    return AuditEvent.objects.filter(type="auth.device.forgotten").count()


def test_new_factor_ends_the_others_and_keeps_this_one() -> None:
    owner = Owner()
    began = own_factors.enrol_totp(owner.session, name="Tablet", by=owner.by)
    device = TotpDevice.objects.get(pk=began.device.pk)
    TotpDevice.objects.filter(pk=device.pk).update(bound_session=owner.session.pk)

    own_factors.confirm_totp(
        owner.session, device_id=str(device.pk), code=people.code_of(device), by=owner.by
    )

    assert owner.ended() == (False, True)
    assert owner.known() == {"here", "elsewhere"}


def test_removed_factor_ends_the_others_and_forgets_their_browsers() -> None:
    owner = Owner()
    spare = people.TotpDeviceFactory.create(user=owner.user)

    own_factors.remove_device(owner.session, device_id=str(spare.pk), by=owner.by)

    assert owner.ended() == (False, True)
    assert owner.known() == {"here"}
    assert forgotten() == 1


def test_new_backup_codes_end_the_others() -> None:
    owner = Owner()

    own_factors.make_backup_codes(owner.session, by=owner.by)

    assert owner.ended() == (False, True)


def test_refused_change_ends_nothing_and_forgets_nothing() -> None:
    owner = Owner()
    StepUpProof.objects.all().delete()

    with pytest.raises(stepup.StepUpRequired):
        own_factors.make_backup_codes(owner.session, by=owner.by)

    assert owner.ended() == (False, False)
    assert owner.known() == {"here", "elsewhere"}


# Known devices


def test_own_new_password_keeps_the_browser_it_was_chosen_in_and_no_other() -> None:
    owner = Owner()

    password_change.change(owner.user, current=people.PASSWORD, new=NEW, by=owner.by)

    assert owner.known() == {"here"}


def test_password_by_a_link_forgets_every_browser() -> None:
    owner = Owner()
    stranger = replace(made.HERE, device=owner.by.device)

    with transaction.atomic():
        assert password_change.write(owner.user, "!hashed", event=events.PASSWORD_RESET_DONE, by=stranger)

    assert owner.known() == set()


@pytest.mark.parametrize("ending", ["carried_out", "cancelled"])
def test_reset_of_all_factors_forgets_every_browser_and_so_does_its_end(ending: str) -> None:
    owner = Owner()
    reset = factor_resets.request(owner.user, ["password", "email"], by=owner.by)

    if ending == "cancelled":
        factor_resets.cancel(reset, by=owner.by)
    else:
        assert factor_resets.carry_out_due(by=actor.system("test"), now=reset.due_at) == 1

    assert owner.known() == set()
    assert session_check.by_token(owner.session.pk, owner.user.pk, address="127.0.0.1") is None


def test_other_role_forgets_every_browser() -> None:
    owner = Owner()

    role_changes.change(owner.user.pk, Role.VENDOR, reason="opens a shop", by=actor.system("test"))

    assert owner.known() == set()


def test_signing_out_everywhere_forgets_every_browser_and_here_alone_none() -> None:
    owner = Owner()

    signin.sign_out(owner.others[0], everywhere=False, by=owner.by)
    assert owner.known() == {"here", "elsewhere"}

    signin.sign_out(owner.session, everywhere=True, by=owner.by)
    assert owner.known() == set()


def test_administrator_who_changes_somebody_keeps_nothing_of_theirs() -> None:
    owner = Owner()
    admin = people.AdminFactory.create()
    by = replace(owner.by, id=str(admin.pk))

    with transaction.atomic():
        assert devices.distrust(owner.user, by=by, keep_own=True) == 2

    assert owner.known() == set()


def test_who_acts_as_somebody_keeps_nothing_of_theirs() -> None:
    owner = Owner()

    with transaction.atomic():
        devices.distrust(owner.user, by=replace(owner.by, impersonator="somebody"), keep_own=True)

    assert owner.known() == set()


def test_nothing_to_forget_is_not_recorded_and_others_keep_theirs() -> None:
    owner, stranger = Owner(), people.BuyerFactory.create()

    with transaction.atomic():
        assert devices.distrust(stranger, by=owner.by, keep_own=False) == 0

    assert forgotten() == 0
    assert owner.known() == {"here", "elsewhere"}


def test_settings_name_the_policy_of_every_role_that_can_sign_in() -> None:
    assert set(settings.SESSION_POLICY) == set(settings.SESSION_CHANGE_POLICY) == {str(role) for role in Role}
