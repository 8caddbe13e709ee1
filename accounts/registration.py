"""Opening an account of one's own: buyers and vendors, nobody else.

A registration that is refused because the address is taken says so (the shipped front ends expect it); with
`REGISTRATION_HIDE_EXISTING` both get the same answer after the same work, and the owner of the address is
told by mail. Accounts that one network may open are limited, and so are tries on one address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone, translation
from django.utils.translation import gettext_lazy as _

from accounts import consent_texts, consents, lockout, passwords, users
from accounts.models import Consent, IdentityCard, User, VendorProfile
from accounts.roles import Role
from mestore.lib import errors, throttle
from mestore.lib.actor import Actor
from mestore.lib.request import network_of
from monitoring import audit, delivery, events

REGISTER = "register"
"""The budget of tries on an address."""
ROLES = (Role.BUYER, Role.VENDOR)


class EmailRegistered(errors.BadRequest):
    """Somebody has an account with this address."""

    message = _("The e-mail address is registered already. Sign in or use another one.")


class InvalidRegistration(errors.BadRequest):
    """What cannot be told apart without telling about other people: a card number that is taken."""

    message = _("The registration data are not valid.")


@dataclass(frozen=True, slots=True)
class Shop:
    """What a vendor tells about their business."""

    business_name: str = ""
    city: str = ""
    business_type: str = ""
    primary_category: str = ""
    terms_accepted: bool = False


@dataclass(frozen=True, slots=True)
class Registration:
    """What somebody gives to open an account. `person` holds columns of User that anybody may choose."""

    email: str
    password: str = field(repr=False)
    role: Role = Role.BUYER
    person: Mapping[str, str] = field(default_factory=dict, repr=False)
    cedula: str = field(default="", repr=False)
    shop: Shop = Shop()
    # What was said about which text (`accounts.consent_texts`); the others are asked about later.
    consents: Mapping[str, bool] = field(default_factory=dict)


def register(given: Registration, *, by: Actor) -> User | None:
    """Open an account and welcome its owner by mail; return it, or None where nobody is to know.

    None comes only with REGISTRATION_HIDE_EXISTING, whether there is a new account or not. Raises
    ValueError for a role that is not open to strangers, and users.InvalidEmail,
    passwords.UnacceptablePassword, breached.PasswordListAway, EmailRegistered, InvalidRegistration,
    lockout.LockedOut, errors.TooManyRequests, hashers.HashingBusy.
    """
    if given.role not in ROLES:
        raise ValueError(f"nobody registers as {given.role}")
    key = users.normalise_email(given.email)
    words = passwords.context(key, *given.person.values(), given.shop.business_name)
    passwords.check_new(given.password, context=words)
    attempt = lockout.attempt(REGISTER, account=key, address=by.address)
    lockout.refuse_locked(attempt)
    _bound_network(by)
    # Hashed before anybody looks whether the address is free: the time tells nothing.
    stored = passwords.hashed(given.password)
    hidden: bool = settings.REGISTRATION_HIDE_EXISTING
    user = _open(given, stored, by=by)
    if user is None or hidden:
        lockout.charge(attempt)
    if user is None:
        _tell_owner(key, hidden=hidden, by=by)
        if not hidden:
            raise EmailRegistered
    return None if hidden else user


def _bound_network(by: Actor) -> None:
    limit = throttle.Limit("register-network", settings.REGISTRATIONS_PER_HOUR, 3_600)
    decision = throttle.hit([(limit, network_of(by.address or ""))])
    if not decision.allowed:
        raise errors.TooManyRequests(retry_after=decision.retry_after)


def _open(given: Registration, stored: str, *, by: Actor) -> User | None:
    """Write the account and all that belongs to it; None when the address is taken."""
    fields: dict[str, Any] = {
        **given.person,
        "password_changed_at": timezone.now(),
        "language": translation.get_language() or "",
    }
    try:
        with transaction.atomic():
            user = User.objects.create_account(
                email=given.email, role=given.role, password_hash=stored, fields=fields
            )
            if given.cedula:
                _write_card(user, given.cedula)
            if given.role is Role.VENDOR:
                _open_shop(user, given.shop)
            audit.record(
                events.USER_REGISTERED,
                by=by,
                target=("user", str(user.pk)),
                data={"role": user.user_type},
                personal={"email": user.email},
                subject=str(user.pk),
            )
            _keep_consents(user, given, by=by)
            delivery.notify(user, "welcome", {}, by=by)
    except IntegrityError as error:
        if "email_key" in str(error):
            return None
        if "number_index" in str(error):
            raise InvalidRegistration from error
        raise
    return user


def _keep_consents(user: User, given: Registration, *, by: Actor) -> None:
    said = dict(given.consents)
    channel = Consent.Channel.REGISTRATION
    if given.role is Role.VENDOR:
        channel = Consent.Channel.VENDOR_REGISTRATION
        if given.shop.terms_accepted:
            said[consent_texts.VENDOR_TERMS] = True
    consents.record_registration(user, said, channel=channel, by=by)


def _write_card(user: User, number: str) -> None:
    card = IdentityCard(user=user)
    card.write(number)
    card.save(force_insert=True)


def _open_shop(user: User, shop: Shop) -> None:
    approved: bool = settings.VENDOR_AUTO_APPROVE
    VendorProfile.objects.create(
        user=user,
        vendor_status=VendorProfile.Status.APPROVED if approved else VendorProfile.Status.PENDING_APPROVAL,
        business_name=shop.business_name,
        city=shop.city,
        business_type=shop.business_type,
        primary_category=shop.primary_category,
        terms_accepted_at=timezone.now() if shop.terms_accepted else None,
    )


def _tell_owner(key: str, *, hidden: bool, by: Actor) -> None:
    """Record that the address was taken; where the answer hides it, let its owner know instead."""
    owner = User.objects.filter(email_key=key).first()
    audit.record_refusal(
        events.REGISTRATION_REFUSED,
        by=by,
        target=("user", str(owner.pk)) if owner is not None else None,
        data={"why": "taken"},
    )
    if hidden and owner is not None:
        with transaction.atomic():
            delivery.notify(owner, "already_registered", {}, by=by)
