"""Signing in and out: password, then the second factor where one is due, then a session.

The console and the API share every step. A right password alone opens nothing for staff or for anybody
with a confirmed factor: it yields a `PendingSignIn`, whose token lives five minutes, allows five codes, is
used once, and works only at the entrance that it was made at.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import factors, login, passkeys, users
from accounts.models import User
from accounts.roles import Role
from mestore.lib import crypto, errors, sql
from mestore.lib.actor import Actor
from monitoring import audit, events
from monitoring.metrics import AUTH_ATTEMPTS
from sessions_security import (
    arrivals,
    client_assertions,
    clients,
    dpop,
    factor_proofs,
    keys,
    risk,
    session_check,
    sessions,
    tokens,
)
from sessions_security.models import MachineClient, PendingSignIn, UserSession

Purpose = Literal["api", "admin", "console"]

PASSWORD, CODE, KEY = "pwd", "otp", "key"  # names of RFC 8176, and ours for a machine's key
API_PURPOSES: tuple[Purpose, ...] = ("api", "admin")
CLEAR_SITE_DATA = '"cache", "cookies", "storage"'  # what a browser is asked to forget at sign-out


class MfaRequired(errors.Unauthorized):
    """The password was right; the answer names the token to continue with and the methods that may."""

    code = "MFA_REQUIRED"
    message = _("A second factor is required.")

    def __init__(self, mfa_token: str, methods: Collection[str]) -> None:
        super().__init__(
            extra={
                "mfa_token": mfa_token,
                "methods": list(methods),
                "expires_in": settings.PENDING_SIGN_IN_SECONDS,
            }
        )
        self.mfa_token = mfa_token


class MfaEnrolmentRequired(errors.Forbidden):
    """Staff without a second factor do not get in; the token allows to add the first one (`enrolment`)."""

    code = "MFA_ENROLMENT_REQUIRED"
    message = _("This account must have a second factor before it may sign in.")

    def __init__(self, mfa_token: str, methods: Collection[str]) -> None:
        super().__init__(
            extra={
                "mfa_token": mfa_token,
                "methods": list(methods),
                "expires_in": settings.TOTP_ENROLMENT_SECONDS,
            }
        )
        self.mfa_token = mfa_token


class PasskeyRequired(errors.Forbidden):
    """Superusers sign in with a passkey only, where the settings say so."""

    code = "PASSKEY_REQUIRED"
    message = _("This account signs in with a passkey only.")


class UseAdminLogin(errors.Forbidden):
    """Staff came to the public entrance with the right password."""

    code = "USE_ADMIN_LOGIN"
    message = _("Administrators sign in through the administrators' entrance.")


class NotAdministrator(errors.Forbidden):
    """Somebody else came to the administrators' entrance with the right password."""

    message = _("Administrative privileges are required.")


class SignInOver(errors.Unauthorized):
    """The pending sign-in is unknown, used, too old, out of attempts, or of another entrance."""

    code = "MFA_TOKEN_INVALID"
    message = _("This sign-in is over. Begin again.")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who is in, with which session and tokens."""

    user: User
    session: UserSession
    tokens: tokens.TokenPair
    replacement_code: str = ""  # after a backup code: the one that took its place


def with_password(
    email: str,
    password: str,
    *,
    purpose: Purpose,
    by: Actor,
    only: Role | None = None,
    bound_key: bytes | None = None,
) -> SignedIn:
    """Sign in at the API. Raises `MfaRequired` when a code is due, and what `check_password` raises.

    With `only`, accounts of other roles get the answer of a wrong password. `bound_key` is the thumbprint of
    the key that the session is bound to from its first moment (`dpop.offered`); so in all that follow.
    """
    user, assessment = _assessed(email, password, purpose=purpose, by=by)
    if only is not None and user.user_type != only:
        assessment.was_right()
        _refuse(user, "role_at_entrance", by)
        raise login.InvalidCredentials
    methods = factors.methods_of(user)
    if user.is_staff or factors.counts(methods):
        assessment.was_right()
        mfa_token = require_second_step(user, purpose=purpose, methods=methods, by=by)
        raise MfaRequired(mfa_token, factors.acceptable(user, methods))
    return open_tokens(user, (PASSWORD,), by=by, bound_key=bound_key, cleared=assessment)


def with_factor(
    mfa_token: str,
    *,
    method: str,
    answer: factor_proofs.Answer,
    by: Actor,
    bound_key: bytes | None = None,
) -> SignedIn:
    """Finish a sign-in at the API. Raises `SignInOver` and what `factor_proofs.verify` raises."""
    pending, proof = prove_second_step(mfa_token, method=method, answer=answer, purposes=API_PURPOSES, by=by)
    keys.ring()  # outside the transaction: a key made on first use must not be rolled back with it
    with transaction.atomic(), audit.together():
        replacement = proof.use(by)
        done = open_tokens(
            pending.user, (PASSWORD, proof.amr), by=by, bound_key=bound_key, pending=pending, proof=proof
        )
    return replace(done, replacement_code=replacement)


def with_client_key(client_id: str, key: str, *, by: Actor, bound_key: bytes | None = None) -> SignedIn:
    """Sign a machine in; it gets no refresh token.

    Raises what `clients.authenticate` raises, and `dpop.InvalidProof` for a client whose tokens must be bound
    and that showed no key.
    """
    return _machine(lambda: clients.authenticate(client_id, key, by=by), by=by, bound_key=bound_key)


def with_client_assertion(
    assertion: str, *, by: Actor, client_id: str | None = None, bound_key: bytes | None = None
) -> SignedIn:
    """Sign a machine in by an assertion that it signed. Raises as `with_client_key` does."""

    def authenticated() -> MachineClient:
        return client_assertions.authenticate(assertion, by=by, client_id=client_id)

    return _machine(authenticated, by=by, bound_key=bound_key)


def newcomer(user: User, *, by: Actor, bound_key: bytes | None = None) -> SignedIn:
    """Sign in an account that was opened in this very request, by the password it was opened with."""
    return open_tokens(user, (PASSWORD,), by=by, bound_key=bound_key)


def sign_out(session: UserSession, *, everywhere: bool, by: Actor) -> int:
    """End this session, or all sessions of its account; return how many ended.

    Whoever acts as somebody else ends that, and none of the account's own sessions.
    """
    everywhere = everywhere and session.impersonator_id is None
    with transaction.atomic():
        audit.record(
            events.SIGNED_OUT, by=by, target=("session", str(session.pk)), data={"everywhere": everywhere}
        )
        if everywhere:
            return sessions.end_everywhere(session.user, by=by, why="sign_out")
        return int(sessions.end(session, by=by, why="sign_out"))


# --- The steps, shared by the API and the console ---------------------------------------------------------


def check_password(email: str, password: str, *, purpose: Purpose, by: Actor) -> User:
    """Return the account at the right entrance, or raise.

    `login.InvalidCredentials` and `login.LockedOut` say nothing about whether the account exists; the wrong
    entrance is named (`UseAdminLogin`, `NotAdministrator`) only after the right password.
    """
    user, assessment = _assessed(email, password, purpose=purpose, by=by)
    assessment.was_right()
    return user


def _assessed(email: str, password: str, *, purpose: Purpose, by: Actor) -> tuple[User, risk.Assessment]:
    """Return the account at the right entrance, and the assessment that let the attempt go on."""
    assessment = risk.Assessment(purpose=purpose, by=by)
    try:
        user = login.check_credentials(email, password, by=by, purpose=purpose, clearance=assessment)
    except errors.MeStoreError as refusal:
        _note_refusal(assessment, email, refusal)
        raise
    if not assessment.is_cleared:
        raise errors.SecurityServiceFailure
    try:
        _refuse_wrong_entrance(user, purpose, by)
    except errors.MeStoreError:
        assessment.was_right()
        raise
    return user, assessment


def _note_refusal(assessment: risk.Assessment, email: str, refusal: errors.MeStoreError) -> None:
    if assessment.was_refused or isinstance(refusal, errors.SecurityServiceFailure):
        return
    if assessment.was_begun and isinstance(refusal, login.InvalidCredentials | login.LockedOut):
        assessment.was_wrong()
    else:
        assessment.was_not_asked(users.identifier(email))


def demand_staff(user: User, *, by: Actor) -> None:
    """Refuse at the console, like a passkey that nobody knows, one whose owner does not belong there."""
    if not user.is_staff:
        _refuse(user, "not_staff", by)
        raise passkeys.WrongPasskey


def require_second_step(
    user: User, *, purpose: Purpose, by: Actor, methods: Collection[str] | None = None
) -> str:
    """Begin the second step, return its token. Raises `MfaEnrolmentRequired` for staff without a factor.

    `methods` is what `factors.methods_of` answered, for callers that asked already.
    """
    methods = factors.methods_of(user) if methods is None else methods
    if user.is_staff and not factors.counts(methods):
        _refuse(user, "no_factor", by)
        mfa_token = _begin(user, purpose, settings.TOTP_ENROLMENT_SECONDS, by)
        raise MfaEnrolmentRequired(mfa_token, factors.acceptable(user, [factors.TOTP, factors.PASSKEY]))
    return _begin(user, purpose, settings.PENDING_SIGN_IN_SECONDS, by)


def prove_second_step(
    mfa_token: str,
    *,
    method: str,
    answer: factor_proofs.Answer,
    purposes: Collection[Purpose],
    by: Actor,
) -> tuple[PendingSignIn, factor_proofs.Proof]:
    """Return the pending sign-in and the proof of its second factor; neither is used up yet.

    Raises `SignInOver`, `PasskeyRequired` and what `factor_proofs.verify` raises. A slip of the finger costs
    no attempt.
    """
    if method not in factor_proofs.second_factors():
        raise factor_proofs.UnknownMethod
    factor_proofs.check(method, answer)
    pending = take_attempt(mfa_token, purposes=purposes)
    if not factors.acceptable(pending.user, [method]):
        _refuse(pending.user, "not_a_passkey", by)
        raise PasskeyRequired
    proof = factor_proofs.verify(pending.user, method, answer, bound_to=f"pending:{pending.pk}", by=by)
    return pending, proof


def pending_of(mfa_token: str, *, purposes: Collection[Purpose]) -> PendingSignIn:
    """Return a pending sign-in that still has an attempt, its account loaded. Raises `SignInOver`."""
    pending = (
        PendingSignIn.objects.select_related("user")
        .filter(
            token_hash=_token_hash(mfa_token),
            purpose__in=purposes,
            used_at=None,
            expires_at__gt=timezone.now(),
            attempts__lt=settings.PENDING_SIGN_IN_ATTEMPTS,
        )
        .first()
    )
    if pending is None or not _still_holds(pending):
        raise SignInOver
    return pending


def _begin(user: User, purpose: Purpose, seconds: int, by: Actor) -> str:
    mfa_token = secrets.token_urlsafe(32)
    now = timezone.now()
    with transaction.atomic():
        pending = PendingSignIn(
            user=user,
            token_hash=crypto.digest(mfa_token.encode()),
            purpose=purpose,
            auth_epoch=user.auth_epoch,
            created_at=now,
            expires_at=now + timedelta(seconds=seconds),
        )
        pending.save(force_insert=True)
        audit.record(
            events.SIGN_IN_FACTOR_REQUIRED, by=by, target=("user", str(user.pk)), subject=str(user.pk),
            data={"purpose": purpose},
        )  # fmt: skip
    return mfa_token


def is_pending(mfa_token: str, *, purpose: Purpose) -> bool:
    """Say whether this token still has an attempt, without using one up."""
    return PendingSignIn.objects.filter(
        token_hash=_token_hash(mfa_token),
        purpose=purpose,
        used_at=None,
        expires_at__gt=timezone.now(),
        attempts__lt=settings.PENDING_SIGN_IN_ATTEMPTS,
    ).exists()


def take_attempt(mfa_token: str, *, purposes: Collection[Purpose]) -> PendingSignIn:
    """Use up one attempt of a pending sign-in and return it, its account loaded. Raises `SignInOver`.

    The attempt is counted before the code is looked at and commits on its own, so that neither a failure
    later in the request nor parallel requests give more than five.
    """
    with session_check.database_guard():
        row = sql.fetch_one(
            _TAKE_ATTEMPT, (_token_hash(mfa_token), settings.PENDING_SIGN_IN_ATTEMPTS, list(purposes))
        )
    pending = _pending(row) if row else None
    if pending is None or not _still_holds(pending):
        AUTH_ATTEMPTS.labels(outcome="refused", factor="totp").inc()
        raise SignInOver
    return pending


def claim(pending: PendingSignIn) -> None:
    """Use the pending sign-in, once. Runs in the transaction that starts the session. Raises `SignInOver`."""
    if not PendingSignIn.objects.filter(pk=pending.pk, used_at=None).update(used_at=timezone.now()):
        raise SignInOver


def _still_holds(pending: PendingSignIn) -> bool:
    return pending.auth_epoch == pending.user.auth_epoch and pending.user.may_sign_in


def _pending(row: Sequence[Any]) -> PendingSignIn:
    pending = session_check.load(PendingSignIn, _PENDING_FIELDS, row[: len(_PENDING_FIELDS)])
    pending.user = session_check.load(User, _USER_FIELDS, row[len(_PENDING_FIELDS) :])
    return pending


_PENDING_FIELDS = ("id", "user_id", "purpose", "auth_epoch")
_USER_FIELDS = (
    "id", "email", "password", "user_type", "nombre", "is_active", "account_verified", "auth_epoch",
    "deleted_at", "source", "external_reference", "language", "recovery_email", "force_password_change",
    "locked_until",
)  # fmt: skip
# The columns stand in the order of the two lists above. One statement counts the attempt and reads for whom.
_TAKE_ATTEMPT = """
    UPDATE sessions_security_pendingsignin p SET attempts = p.attempts + 1
    FROM accounts_user u
    WHERE p.token_hash = %s AND p.used_at IS NULL AND p.expires_at > statement_timestamp()
    AND p.attempts < %s AND p.purpose = ANY(%s) AND u.id = p.user_id
    RETURNING p.id, p.user_id, p.purpose, p.auth_epoch,
    u.id, u.email, u.password, u.user_type, u.nombre, u.is_active, u.account_verified, u.auth_epoch,
    u.deleted_at, u.source, u.external_reference, u.language, u.recovery_email, u.force_password_change,
    u.locked_until
"""


def open_tokens(
    user: User,
    amr: Collection[str],
    *,
    by: Actor,
    bound_key: bytes | None = None,
    cleared: risk.Assessment | None = None,
    pending: PendingSignIn | None = None,
    proof: factor_proofs.Proof | None = None,
) -> SignedIn:
    """Start a token session for whoever proved to be `user`, by the factors that `amr` names.

    `cleared` is the assessment of the password, where no second step came between; `pending` is the sign-in
    that waited for one, and is used up here. Raises `SignInOver` when somebody was faster.
    """
    keys.ring()
    with transaction.atomic(savepoint=False):
        session = sessions.start(user, kind="token", amr=tuple(amr), by=by, bound_key=bound_key, proof=proof)
        if cleared is not None and factors.has_factor(user):
            # It came since the password was found to be enough. The account is held now: none comes any more.
            raise sessions.AccountChanged
        if not arrivals.note(session, by=by, cleared=cleared, pending=pending.pk if pending else None):
            raise SignInOver
        return SignedIn(user, session, tokens.issue_pair(session))


def _machine(authenticate: Callable[[], MachineClient], *, by: Actor, bound_key: bytes | None) -> SignedIn:
    try:
        client = authenticate()
        if client.requires_dpop and bound_key is None:
            clients.refuse(client, "unbound", by)
            raise dpop.InvalidProof
    except errors.MeStoreError:
        AUTH_ATTEMPTS.labels(outcome="refused", factor="key").inc()
        raise
    keys.ring()
    with transaction.atomic():
        session = sessions.start(
            client.user,
            kind="token",
            amr=(KEY,),
            by=by,
            client=client,
            announce=events.TOKEN_ISSUED,
            bound_key=bound_key,
        )
        issued = tokens.issue_access(session)
    AUTH_ATTEMPTS.labels(outcome="accepted", factor="key").inc()
    return SignedIn(client.user, session, issued)


def _refuse_wrong_entrance(user: User, purpose: Purpose, by: Actor) -> None:
    if user.user_type == Role.SYSTEM:
        _refuse(user, "machine_with_password", by)
        raise login.InvalidCredentials
    if purpose == "api" and user.is_staff:
        _refuse(user, "staff_at_public_entrance", by)
        raise UseAdminLogin
    if purpose != "api" and not user.is_staff:
        _refuse(user, "not_staff", by)
        raise NotAdministrator


def _refuse(user: User, why: str, by: Actor) -> UUID:
    return audit.record_refusal(
        events.SIGN_IN_REFUSED, by=by, target=("user", str(user.pk)), subject=str(user.pk), data={"why": why},
        may_wait=user.user_type in {Role.BUYER, Role.VENDOR},
    )  # fmt: skip


def _token_hash(mfa_token: str) -> bytes:
    return crypto.digest(mfa_token.encode("utf-8", "surrogatepass"))
