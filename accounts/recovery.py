"""Getting back in without one's second factor: two proofs of different kinds, then a reset that waits.

The proofs: a code mailed to the account's own address, a saved backup code, the password, the approval of two
administrators. One of them is never enough. A case is opened for every address, known or not, with the same
work and the same answer; what differs is whether a message is sent.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import backup_codes, factor_resets, factors, login, users
from accounts.models import FactorReset, RecoveryCase, User
from mestore.lib import crypto, errors, ids, sql, throttle
from mestore.lib.actor import Actor
from mestore.lib.request import network_of
from monitoring import audit, delivery, events

MAILED_CODE: Final = "mailed_code"
BACKUP_CODE: Final = "backup_code"
PASSWORD: Final = "password"  # noqa: S105 - the name of a proof
APPROVAL: Final = "approval"
NEEDED: Final = 2

_CODE_LENGTH = 8  # 40 bits, five tries, ten minutes
_PURPOSE = "recovery-code"
_KEEP = dt.timedelta(days=30)


class RecoveryOver(errors.Unauthorized):
    """The case is unknown, too old, complete or out of tries."""

    code = "RECOVERY_OVER"
    message = _("This recovery is over. Begin again.")


class WrongProof(errors.Unauthorized):
    """The proof is wrong, used or too old."""

    message = _("This could not be confirmed.")


class UnknownProof(errors.Unprocessable):
    message = _("There is no such way to confirm who you are.")

    def __init__(self) -> None:
        super().__init__(details=[errors.FieldError("body -> method", self.message, "invalid_choice")])


@dataclass(frozen=True, slots=True)
class Opened:
    """A new case, the token that its person goes on with, and the code to be mailed."""

    case: RecoveryCase
    token: str
    code: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a case is: the proofs given, and with the second one the reset that waits."""

    proofs: tuple[str, ...]
    reset: FactorReset | None

    @property
    def is_complete(self) -> bool:
        return self.reset is not None


@dataclass(frozen=True, slots=True)
class _Question:
    case: RecoveryCase
    answer: Mapping[str, Any]
    by: Actor


def begin(email: str, *, by: Actor) -> str:
    """Open a case for whoever has this address and return its token; mail a code to the stored address.

    What comes back says nothing about whether there is such an account, nor whether it has a factor. Raises
    errors.TooManyRequests, for known and unknown names alike.
    """
    name = users.identifier(email)
    _limit(name, by)
    found = User.objects.filter(email_key=name, is_active=True, deleted_at__isnull=True).first()
    has_factor = factors.has_factor(found or User(pk=ids.uuid7()))
    user = found if has_factor else None
    target = (
        ("user", str(user.pk))
        if user is not None
        else ("unknown_name", crypto.mac(name.encode(), purpose="unknown-name").hex())
    )
    with transaction.atomic():
        opened = open_case(user, [])
        until = opened.case.code_expires_at
        audit.record(events.RECOVERY_BEGUN, by=by, target=target, data={"case": str(opened.case.pk)})
        context = {"code": opened.code, "minutes": settings.RECOVERY_CODE_SECONDS // 60}
        if user is not None:
            delivery.notify(user, "recovery_code", context, by=by, expires_at=until)
        else:
            delivery.decoy("recovery_code", context, by=by, expires_at=until)
    return opened.token


def prove(token: str, *, method: str, answer: Mapping[str, Any], by: Actor) -> Progress:
    """Give one proof: `answer` holds `code`, or `email` and `password`. The second kind begins the reset.

    One of five tries is used up, which commits on its own. Belongs outside of a transaction. Raises
    UnknownProof and backup_codes.MalformedBackupCode (no try used), RecoveryOver, WrongProof,
    lockout.LockedOut, hashers.HashingBusy.
    """
    try:
        check, look = _PROOFS[method]
    except KeyError:
        raise UnknownProof from None
    check(answer)
    case = _take_attempt(token, by)
    try:
        use = look(_Question(case, answer, by))
    except login.InvalidCredentials:
        use = None
    if use is None or case.user is None or not _is_open(case.user):
        raise _refused(case, method, by)
    return _keep(case, method, use, by)


def open_case(user: User | None, proofs: list[str], *, code_seconds: int | None = None) -> Opened:
    """Open a case with what is proved already; who calls this mails the code. Runs in a transaction."""
    now = timezone.now()
    token, code = secrets.token_urlsafe(32), _random_code()
    case = RecoveryCase(
        user=user,
        token_hash=_hash(token),
        proofs=proofs,
        created_at=now,
        expires_at=now + dt.timedelta(seconds=settings.RECOVERY_SECONDS),
        code_expires_at=now + dt.timedelta(seconds=code_seconds or settings.RECOVERY_CODE_SECONDS),
    )
    case.code_hash = crypto.mac(_bound(case, code), purpose=_PURPOSE)
    case.save(force_insert=True)
    return Opened(case, token, code)


def methods() -> list[str]:
    """Return the proofs that a person can give by themselves."""
    return list(_PROOFS)


def progress(token: str) -> Progress:
    """Return how far the case of `token` is. Raises RecoveryOver."""
    case = RecoveryCase.objects.select_related("user").filter(token_hash=_hash(token)).first()
    if case is None or case.expires_at <= timezone.now():
        raise RecoveryOver
    reset = factor_resets.open_of(case.user) if case.user is not None and case.completed_at else None
    return Progress(tuple(case.proofs), reset)


def remove_ended(batch: int = 1_000) -> int:
    """Delete cases that ended a month ago, a batch at a time. Returns how many went."""
    old = RecoveryCase.objects.filter(expires_at__lt=timezone.now() - _KEEP).order_by("expires_at")
    return RecoveryCase.objects.filter(pk__in=old.values("pk")[:batch]).delete()[0]


def _limit(name: str, by: Actor) -> None:
    network = network_of(by.address) if by.address else ""
    whom = {"pair": crypto.row_binding(network, name).hex(), "account": name}
    decision = throttle.hit(
        [
            (throttle.Limit(f"recovery-{scope}-{seconds}s", limit, seconds), whom[scope])
            for scope, table in settings.RECOVERY_RATE_LIMITS.items()
            for limit, seconds in table
        ]
    )
    if not decision.allowed:
        raise errors.TooManyRequests(retry_after=decision.retry_after)


_TAKE_ATTEMPT = """
    UPDATE accounts_recoverycase SET attempts = attempts + 1
    WHERE token_hash = %s AND completed_at IS NULL AND expires_at > statement_timestamp() AND attempts < %s
    RETURNING id
"""


def _take_attempt(token: str, by: Actor) -> RecoveryCase:
    row = sql.fetch_one(_TAKE_ATTEMPT, (_hash(token), settings.RECOVERY_ATTEMPTS))
    if row is None:
        audit.record_refusal(events.RECOVERY_REFUSED, by=by, data={"why": "over"})
        raise RecoveryOver
    return RecoveryCase.objects.select_related("user").get(pk=row[0])


def _is_open(user: User) -> bool:
    # Asked with every proof: an account that was closed since the case began recovers nothing.
    return user.is_active and user.deleted_at is None


def _keep(case: RecoveryCase, method: str, use: Callable[[], bool], by: Actor) -> Progress:
    """Use the proof up and write it down; the second kind completes the case."""
    with transaction.atomic():
        held = RecoveryCase.objects.select_for_update(no_key=True).get(pk=case.pk)
        if held.completed_at is not None:
            raise RecoveryOver
        if not use():
            raise _refused(case, method, by)
        user = case.user
        assert user is not None  # noqa: S101 - for the type checker: `prove` refused nobody's case
        proofs = sorted({*held.proofs, method})
        complete = len(proofs) >= NEEDED
        RecoveryCase.objects.filter(pk=case.pk).update(
            proofs=proofs,
            completed_at=timezone.now() if complete else None,
            code_hash=None if method == MAILED_CODE else held.code_hash,
        )
        _record(events.RECOVERY_PROVED, case, user.pk, by, {"proofs": proofs})
        reset = factor_resets.request(user, proofs, by=by) if complete else None
    return Progress(tuple(proofs), reset)


def _mailed_code(asked: _Question) -> Callable[[], bool] | None:
    case = asked.case
    if case.code_hash is None or case.code_expires_at is None or case.code_expires_at <= timezone.now():
        return None
    given = _bound(case, _plain(asked.answer["code"]))
    if not crypto.verify_mac(given, case.code_hash, purpose=_PURPOSE):
        return None
    # Still there when the case is locked: one of several at once finds it.
    return lambda: RecoveryCase.objects.filter(pk=case.pk, code_hash__isnull=False).exists()


def _backup_code(asked: _Question) -> Callable[[], bool] | None:
    code = backup_codes.find_right(asked.case.user, asked.answer["code"])
    return code.claim if code is not None else None


def _password(asked: _Question) -> Callable[[], bool] | None:
    found = login.check_credentials(
        asked.answer["email"], asked.answer["password"], purpose="api", by=asked.by
    )
    return (lambda: True) if found.pk == asked.case.user_id else None


def _check_code(answer: Mapping[str, Any]) -> None:
    _demand_text(answer, "code")


def _check_backup_code(answer: Mapping[str, Any]) -> None:
    backup_codes.parse(answer.get("code"))


def _check_password(answer: Mapping[str, Any]) -> None:
    _demand_text(answer, "email")
    _demand_text(answer, "password")


_PROOFS: dict[
    str,
    tuple[Callable[[Mapping[str, Any]], None], Callable[[_Question], Callable[[], bool] | None]],
] = {
    MAILED_CODE: (_check_code, _mailed_code),
    BACKUP_CODE: (_check_backup_code, _backup_code),
    PASSWORD: (_check_password, _password),
}


def _demand_text(answer: Mapping[str, Any], name: str) -> None:
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise errors.Unprocessable(
            details=[errors.FieldError(f"body -> {name}", _("This field is required."), "required")]
        )


def _refused(case: RecoveryCase, method: str, by: Actor) -> WrongProof:
    who = str(case.user_id) if case.user_id else None
    audit.record_refusal(
        events.RECOVERY_REFUSED,
        by=by,
        target=("user", who) if who else None,
        subject=who,
        data={"why": "wrong", "case": str(case.pk), "method": method},
    )
    return WrongProof()


def _record(event: str, case: RecoveryCase, user: UUID, by: Actor, data: dict[str, object]) -> None:
    audit.record(
        event, by=by, target=("user", str(user)), subject=str(user), data={"case": str(case.pk), **data}
    )


def _random_code() -> str:
    return "".join(secrets.choice(backup_codes.ALPHABET) for _position in range(_CODE_LENGTH))


def _plain(code: str) -> str:
    return backup_codes.folded(code) if code.isascii() else ""


def _bound(case: RecoveryCase, code: str) -> bytes:
    return crypto.row_binding("recovery", case.pk, str(case.user_id), code)


def _hash(token: str) -> bytes:
    return crypto.digest(token.encode("utf-8", "surrogatepass"))
