"""Passkeys (WebAuthn): register, prove, sign in without a password, suspend, remove.

The authenticator always has to verify its user (PIN, finger, face): a passkey is two factors at once wherever
it is used. Domain and origins come from the settings, never from the request. Every answer uses its challenge
up (`accounts.challenges`), and the stored key is checked against its seal before any signature is.

A counter that goes back means that a copy of the key exists. Which of the two is the owner's nobody can know:
the key is suspended for good, everything the account is signed in with ends, and the owner is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn
from uuid import UUID

import webauthn
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from webauthn.helpers import options_to_json_dict
from webauthn.helpers import structs as w3c

from accounts import challenges, devices, factors, freezes, lockout, passkey_answers
from accounts.models import Passkey, User
from accounts.passkey_answers import Answer, Disproved
from mestore.lib import crypto, errors
from mestore.lib.actor import Actor
from monitoring import audit, delivery, events, metrics

Purpose = challenges.Purpose
MalformedPasskey = passkey_answers.MalformedPasskey

_LONGEST_NAME = 64


class PasskeysOff(errors.NotFound):
    """This installation has no domain that a passkey could belong to."""

    code = "PASSKEYS_OFF"
    message = _("Passkeys are not available here.")


class WrongPasskey(errors.Unauthorized):
    """Unknown, suspended, altered, or the signature is not its own: never told apart."""

    message = _("The passkey was not accepted.")


class RegistrationRefused(errors.BadRequest):
    """The authenticator did not do what was asked for."""

    code = "PASSKEY_REFUSED"
    message = _("The passkey could not be registered.")


class RegistrationOver(errors.Conflict):
    """The request for this registration was answered before, is too old, or was somebody else's."""

    code = "PASSKEY_CHALLENGE_OVER"
    message = challenges.ChallengeOver.message


class AlreadyRegistered(errors.Conflict):
    code = "PASSKEY_KNOWN"
    message = _("This passkey is registered already.")


class TooManyPasskeys(errors.Conflict):
    code = "TOO_MANY_PASSKEYS"
    message = _("No more passkeys can be added. Remove one first.")


class InvalidName(errors.Unprocessable):
    """The name of a passkey is empty, too long or not plain text."""

    def __init__(self) -> None:
        reason = _("Give the device a name of at most %(n)d characters.") % {"n": _LONGEST_NAME}
        super().__init__(details=[errors.FieldError("body -> name", reason, "invalid")])


class NoPasskey(errors.Conflict):
    code = "NO_PASSKEY"
    message = _("The account has no passkey.")


# --- Options, for the browser -----------------------------------------------------------------------------


def registration_options(user: User, *, bound_to: str) -> dict[str, Any]:
    """Return what `navigator.credentials.create` needs. Raises PasskeysOff."""
    _demand_domain()
    options = webauthn.generate_registration_options(
        rp_id=settings.WEBAUTHN_RP_ID,
        rp_name=settings.WEBAUTHN_RP_NAME,
        user_id=_handle_of(user),
        user_name=str(user),
        user_display_name=user.get_full_name() or str(user),
        challenge=challenges.issue(Purpose.REGISTER, bound_to=bound_to),
        timeout=_timeout(),
        authenticator_selection=w3c.AuthenticatorSelectionCriteria(
            resident_key=w3c.ResidentKeyRequirement.PREFERRED,
            user_verification=w3c.UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=_descriptors(Passkey.objects.filter(user=user)),
        supported_pub_key_algs=passkey_answers.ALGORITHMS,
    )
    return options_to_json_dict(options)


def assertion_options(purpose: Purpose, *, bound_to: str, user: User | None = None) -> dict[str, Any]:
    """Return what `navigator.credentials.get` needs; without `user` any passkey of this domain may answer.

    Raises PasskeysOff, NoPasskey when `user` has none.
    """
    _demand_domain()
    allowed = _descriptors(of(user)) if user is not None else []
    if user is not None and not allowed:
        raise NoPasskey
    options = webauthn.generate_authentication_options(
        rp_id=settings.WEBAUTHN_RP_ID,
        challenge=challenges.issue(purpose, bound_to=bound_to),
        timeout=_timeout(),
        allow_credentials=allowed,
        user_verification=w3c.UserVerificationRequirement.REQUIRED,
    )
    return options_to_json_dict(options)


# --- Answers ----------------------------------------------------------------------------------------------


def check_registration(user: User, name: str, given: object, *, bound_to: str, by: Actor) -> Passkey:
    """Return the passkey that an answer registers, not stored yet. Belongs outside of a transaction.

    Raises InvalidName, MalformedPasskey, RegistrationOver, RegistrationRefused.
    """
    name = _named(name)
    answer = passkey_answers.read(given)
    try:
        challenges.consume(answer.challenge, Purpose.REGISTER, bound_to=bound_to)
        verified = passkey_answers.registration(answer)
    except challenges.ChallengeOver:
        factors.record_refusal(user, factors.PASSKEY, "challenge_over", by=by)
        raise RegistrationOver from None
    except Disproved:
        factors.record_refusal(user, factors.PASSKEY, "registration", by=by)
        raise RegistrationRefused from None
    passkey = Passkey(
        user=user,
        name=name,
        credential_id=verified.credential_id,
        public_key=verified.credential_public_key,
        sign_count=verified.sign_count,
        aaguid=UUID(verified.aaguid),
        backup_eligible=verified.credential_device_type is w3c.CredentialDeviceType.MULTI_DEVICE,
        backed_up=verified.credential_backed_up,
        transports=answer.transports,
        bound_session=by.session_id,
        bound_address=by.address or "",
    )
    passkey.seal = passkey.make_seal()
    return passkey


def add(passkey: Passkey, *, by: Actor) -> None:
    """Store a checked passkey and tell its owner. Raises TooManyPasskeys, AlreadyRegistered."""
    with transaction.atomic():
        factors.lock_account(passkey.user)
        freezes.demand_unfrozen(passkey.user, by=by)
        if Passkey.objects.filter(user=passkey.user).count() >= settings.PASSKEYS:
            raise TooManyPasskeys
        try:
            with transaction.atomic():
                passkey.save(force_insert=True)
        except IntegrityError:
            raise AlreadyRegistered from None
        nature = {"aaguid": str(passkey.aaguid), "device_bound": passkey.is_device_bound}
        _record(events.FACTOR_ENROLLED, passkey, by, **nature)
        _tell(passkey, "factor_added", by)


def prove(user: User, given: object, purpose: Purpose, *, bound_to: str, by: Actor) -> Passkey:
    """Return the passkey of `user` that made this answer. Belongs outside of a transaction.

    Raises MalformedPasskey, challenges.ChallengeOver (no attempt spent: whoever repeats an answer did not
    guess it), WrongPasskey, lockout.LockedOut.
    """
    answer = passkey_answers.read(given)
    try:
        challenges.consume(answer.challenge, purpose, bound_to=bound_to)
    except challenges.ChallengeOver:
        factors.record_refusal(user, factors.PASSKEY, "challenge_over", by=by)
        raise
    attempt = factors.open_attempt(user, factors.PASSKEY, by=by)
    passkey = of(user).select_related("user").filter(credential_id=answer.credential_id).first()
    try:
        verified = _believed(passkey, answer, by)
    except Disproved:
        factors.refuse(user, factors.PASSKEY, attempt, error=WrongPasskey(), by=by)
    used = _use(verified, by)
    factors.accept(factors.PASSKEY, attempt)
    return used


def sign_in(given: object, *, bound_to: str, by: Actor) -> Passkey:
    """Return the passkey that signs its owner in, without a name or a password before it.

    The caller decides whether that account may use its door. Belongs outside of a transaction. Raises
    MalformedPasskey, challenges.ChallengeOver, WrongPasskey, lockout.LockedOut.
    """
    answer = passkey_answers.read(given)
    # Charged to where it comes from alone: an account's own budget would let strangers lock its owner out.
    attempt = lockout.attempt(lockout.PASSKEY, account=f"from {by.address}", address=by.address)
    try:
        challenges.consume(answer.challenge, Purpose.SIGN_IN, bound_to=bound_to)
        lockout.refuse_locked(attempt)
    except challenges.ChallengeOver:
        _record_stranger(None, "challenge_over", by)
        raise
    except lockout.LockedOut:
        _record_stranger(None, "locked", by)
        raise
    usable = Passkey.objects.select_related("user").filter(suspended_at=None)
    passkey = usable.filter(credential_id=answer.credential_id).first()
    # Nobody gave a name before: the authenticator itself has to say whose key it used.
    is_named = answer.user_handle is not None and passkey is not None and passkey.user.may_sign_in
    try:
        verified = _believed(passkey if is_named else None, answer, by)
    except Disproved:
        _refuse_stranger(passkey, attempt, by)
    used = _use(verified, by)
    lockout.settle(attempt)
    metrics.AUTH_ATTEMPTS.labels(outcome="accepted", factor=factors.PASSKEY).inc()
    return used


# --- What an account has ----------------------------------------------------------------------------------


def of(user: User) -> QuerySet[Passkey]:
    """Return the passkeys of `user` that count, oldest first."""
    return Passkey.objects.filter(user=user, suspended_at=None).order_by("created_at", "pk")


def device_bound(user: User) -> set[str]:
    """Return the framework's names of those passkeys of `user` whose key cannot leave its authenticator."""
    candidates = of(user).filter(backup_eligible=False)
    return {passkey.persistent_id for passkey in candidates if passkey.is_intact()}


def remove(passkey: Passkey, *, by: Actor) -> None:
    """Take a passkey off its account. Raises factors.LastFactor for the only factor of the staff,
    errors.NotFound when it is gone already.
    """
    with transaction.atomic():
        factors.lock_account(passkey.user)
        freezes.demand_unfrozen(passkey.user, by=by)
        if not Passkey.objects.filter(pk=passkey.pk).delete()[0]:
            raise errors.NotFound
        factors.settle_removal(passkey.user)
        _record(events.FACTOR_REMOVED, passkey, by)
        _tell(passkey, "factor_removed", by)


def reseal(batch: int = 1_000) -> int:
    """Seal passkeys under the current key that are sealed under an older one; return how many moved.

    Each use does it for its own key; this is for the others, before the older key is dropped. A row that is
    not intact is left as it is.
    """
    moved = 0
    for passkey in Passkey.objects.order_by("pk").iterator(chunk_size=batch):
        seal = passkey.make_seal()
        if passkey.is_intact() and not crypto.equal(seal, bytes(passkey.seal)):
            moved += Passkey.objects.filter(pk=passkey.pk, seal=passkey.seal).update(seal=seal)
    return moved


# --- How an answer is believed ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Use:
    passkey: Passkey
    sign_count: int
    may_be_synchronised: bool
    is_synchronised: bool


def _believed(passkey: Passkey | None, answer: Answer, by: Actor) -> _Use:
    """Return what the key signed. Raises Disproved."""
    if passkey is None:
        raise Disproved
    if not passkey.is_intact():
        audit.record_refusal(
            events.PASSKEY_ALTERED, by=by, target=("user", str(passkey.user_id)),
            subject=str(passkey.user_id), data={"device": str(passkey.pk)},
        )  # fmt: skip
        raise Disproved
    proved = passkey_answers.assertion(
        answer, public_key=bytes(passkey.public_key), owner=_handle_of(passkey.user)
    )
    return _Use(
        passkey,
        sign_count=proved.new_sign_count,
        may_be_synchronised=proved.credential_device_type is w3c.CredentialDeviceType.MULTI_DEVICE,
        is_synchronised=proved.credential_backed_up,
    )


def _use(use: _Use, by: Actor) -> Passkey:
    """Note a use whose signature was right; suspend a key that is not what it was. Raises WrongPasskey."""
    passkey = use.passkey
    if use.may_be_synchronised != passkey.backup_eligible:
        _suspend(passkey, Passkey.Reason.NATURE, by)
    if not passkey.claim(use.sign_count, backed_up=use.is_synchronised):
        _suspend(passkey, Passkey.Reason.COUNTER, by)
    return passkey


def _suspend(passkey: Passkey, why: Passkey.Reason, by: Actor) -> NoReturn:
    """Stop the key and all that its account is signed in with, commit that, and raise WrongPasskey."""
    with transaction.atomic(durable=True):
        if passkey.suspend(why):
            User.objects.filter(pk=passkey.user_id).update(auth_epoch=F("auth_epoch") + 1)
            devices.distrust(passkey.user, by=by, keep_own=False)
            _record(events.PASSKEY_SUSPENDED, passkey, by, why=str(why))
            _tell(passkey, "passkey_suspended", by)
    factors.record_refusal(passkey.user, factors.PASSKEY, "suspended", by=by)
    raise WrongPasskey


def _refuse_stranger(passkey: Passkey | None, attempt: lockout.Attempt, by: Actor) -> NoReturn:
    failure = lockout.charge(attempt)
    _record_stranger(passkey, "wrong", by)
    if failure.beyond_budget:
        raise lockout.LockedOut(retry_after=failure.retry_after)
    raise WrongPasskey


def _record_stranger(passkey: Passkey | None, reason: str, by: Actor) -> None:
    if passkey is not None:
        factors.record_refusal(passkey.user, factors.PASSKEY, reason, by=by)
        return
    outcome = "locked" if reason == "locked" else "refused"
    metrics.AUTH_ATTEMPTS.labels(outcome=outcome, factor=factors.PASSKEY).inc()
    audit.record_refusal(events.FACTOR_REFUSED, by=by, data={"factor": factors.PASSKEY, "reason": reason})


# --- Small things -----------------------------------------------------------------------------------------


def _demand_domain() -> None:
    if not settings.WEBAUTHN_RP_ID or not settings.WEBAUTHN_ORIGINS:
        raise PasskeysOff


def _timeout() -> int:
    return int(settings.PASSKEY_CHALLENGE_SECONDS) * 1_000


def _handle_of(user: User) -> bytes:
    """What an authenticator keeps to tell accounts apart; nothing personal."""
    return UUID(str(user.pk)).bytes


def _named(name: str) -> str:
    name = name.strip()
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise InvalidName
    return name


def _descriptors(passkeys: QuerySet[Passkey]) -> list[w3c.PublicKeyCredentialDescriptor]:
    return [
        w3c.PublicKeyCredentialDescriptor(
            id=bytes(credential_id), transports=[w3c.AuthenticatorTransport(way) for way in ways] or None
        )
        for credential_id, ways in passkeys.values_list("credential_id", "transports")
    ]


def _record(event: str, passkey: Passkey, by: Actor, **data: Any) -> None:
    owner = str(passkey.user_id)
    named = {"factor": factors.PASSKEY, "device": str(passkey.pk)}
    audit.record(event, by=by, target=("user", owner), subject=owner, data={**named, **data})


def _tell(passkey: Passkey, template: str, by: Actor) -> None:
    context = {"name": passkey.name, "at": timezone.now()}
    delivery.notify(passkey.user, template, context, by=by, second_address=True)
