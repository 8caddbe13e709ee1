"""Backup codes: ten secrets on paper for the day the phone is gone.

A code is a selector of 4 characters, by which its row is found, and a verifier of 13 (65 random bits), which
is kept only as Argon2id over the keyed pepper. What is hashed names account, generation and selector too: a
row that is copied to another account by SQL opens nothing. Each try costs one hash, right or wrong.

A code works once; a fresh one takes its place at that moment. A new generation ends all codes before it.

A set is made with what takes the place of each code: the replacement's slow hash is stored in advance, so
that a sign-in pays for one hash and not for two. Its text is stored nowhere, not even encrypted: it is a MAC
of the code that it replaces, under the pepper key, and that code is known to its owner only. A replacement
has none prepared: whoever uses one pays for the hash of the next.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Container
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import factors, freezes, suspension
from accounts.hashers import PepperedArgon2Hasher
from accounts.models import BackupCode, BackupCodeSet, User
from mestore.lib import crypto, errors, ids
from mestore.lib.actor import Actor
from monitoring import audit, delivery, events

ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
SELECTOR_LENGTH: Final = 4
VERIFIER_LENGTH: Final = 13
_LONGEST_INPUT = 64
_CODE = re.compile(r"[A-Z2-7]{17}", re.ASCII)
# What people write or read for letters that the alphabet has and digits that it has not.
_ALIKE = str.maketrans({"0": "O", "1": "I", "8": "B", " ": None, "-": None})
_hasher = PepperedArgon2Hasher()


class WrongBackupCode(errors.Unauthorized):
    """The code is wrong, used, or of an earlier set."""

    message = _("The code is not valid.")


class MalformedBackupCode(errors.BadRequest):
    """Not a backup code at all. Costs no attempt."""

    message = _("A backup code has 17 letters and digits.")


@dataclass(frozen=True, slots=True)
class _Hashed:
    """A new code that is not stored yet. Its text is shown once and kept nowhere."""

    text: str
    selector: str
    verifier: str
    next_selector: str = ""
    next_verifier: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A new set of codes, hashed before the transaction that stores it: twenty hashes take two seconds."""

    user: User
    generation: UUID
    codes: tuple[_Hashed, ...]

    def store(self, *, by: Actor) -> list[str]:
        """Put these codes in the place of all earlier ones; return their texts. Runs in a transaction."""
        factors.lock_account(self.user)
        freezes.demand_unfrozen(self.user, by=by)
        code_set, _made = BackupCodeSet.objects.update_or_create(
            user=self.user, defaults={"generation": self.generation, "created_at": timezone.now()}
        )
        code_set.codes.all().delete()
        suspension.forget(self.user)  # guesses at the old codes are void; new ones take another proof
        BackupCode.objects.bulk_create([_row(code_set, code) for code in self.codes])
        _record(events.BACKUP_CODES_MADE, self.user, by, {"codes": len(self.codes)})
        delivery.notify(
            self.user, "backup_codes_made", {"at": code_set.created_at}, by=by, second_address=True
        )
        return [code.text for code in self.codes]


@dataclass(frozen=True, slots=True)
class Match:
    """A right code that is not used up yet, and the one that will take its place."""

    user: User
    code: BackupCode
    replacement: _Hashed
    left: int  # as many as before: one goes, one comes

    def use(self, *, by: Actor) -> str:
        """Use the code up and return its replacement, shown once; in the transaction of what it opens.

        Raises WrongBackupCode for all but one of several at once, and when a newer set was made.
        """
        if not self.code.exchange(_row(self.code.code_set, self.replacement)):
            factors.record_refusal(self.user, factors.BACKUP_CODE, "used", by=by)
            raise WrongBackupCode
        _record(events.BACKUP_CODE_USED, self.user, by, {"code": str(self.code.pk), "left": self.left})
        delivery.notify(
            self.user,
            "backup_code_used",
            {"at": timezone.now(), "left": self.left, "is_low": self.left <= settings.BACKUP_CODES_LOW},
            by=by,
            second_address=True,
            at_once=False,  # a statement less in the step that it would hold up
        )
        return self.replacement.text


def prepare(user: User) -> Prepared:
    """Make a new set for `user`: two hashes a code. Belongs outside of a transaction. Raises
    hashers.HashingBusy.
    """
    generation = ids.uuid7()
    selectors: set[str] = set()
    while len(selectors) < 2 * settings.BACKUP_CODES:
        selectors.add(_random(SELECTOR_LENGTH))
    # Sets have no order that chance chose: which selector comes first must say nothing about the next.
    first, then = sorted(selectors)[::2], sorted(selectors)[1::2]
    codes = (_new(user, generation, one, successor=other) for one, other in zip(first, then, strict=True))
    return Prepared(user, generation, tuple(codes))


def regenerate(user: User, *, by: Actor) -> list[str]:
    """Give `user` a new set and return its codes, shown this once; the earlier set is dead.

    Asks for no factor: whoever calls this has done so. Raises hashers.HashingBusy.
    """
    prepared = prepare(user)
    with transaction.atomic():
        return prepared.store(by=by)


def check(user: User, text: str, *, by: Actor) -> Match:
    """Return the code of `user` that `text` is, not used up yet. Belongs outside of a transaction.

    Raises MalformedBackupCode (no attempt spent), WrongBackupCode, lockout.LockedOut, hashers.HashingBusy.
    """
    selector, verifier = parse(text)
    attempt = factors.open_attempt(user, factors.BACKUP_CODE, by=by)
    known = _of(user)
    code = next((one for one in known if one.selector == selector), None)
    if not _matches(user, code, verifier):
        factors.refuse(user, factors.BACKUP_CODE, attempt, error=WrongBackupCode(), by=by)
    assert code is not None  # noqa: S101 - for the type checker: nothing matches no row
    if code.used_at is not None:
        # Whoever repeats a right code did not guess it: refused, but not charged.
        factors.record_refusal(user, factors.BACKUP_CODE, "used", by=by)
        raise WrongBackupCode
    factors.accept(factors.BACKUP_CODE, attempt)
    left = sum(one.used_at is None for one in known)
    taken = {one.selector for one in known} | {one.next_selector for one in known}
    return Match(user, code, _replacement(user, code, verifier, taken), left)


def find_right(user: User | None, text: str) -> BackupCode | None:
    """Return the code of `user` that `text` is, or None, for callers that count attempts themselves.

    Costs one hash, also for nobody. Raises MalformedBackupCode, hashers.HashingBusy.
    """
    selector, verifier = parse(text)
    known = _of(user) if user is not None else []
    code = next((one for one in known if one.selector == selector), None)
    return code if _matches(user, code, verifier) else None


def parse(text: object) -> tuple[str, str]:
    """Return selector and verifier of what was typed: case, spaces, hyphens and 0, 1, 8 do not matter.

    Raises MalformedBackupCode; spends nothing.
    """
    # Only ASCII is folded: other alphabets have letters that become one of ours when they are made capital.
    if not isinstance(text, str) or not text.isascii() or len(text) > _LONGEST_INPUT:
        raise MalformedBackupCode
    plain = folded(text)
    if _CODE.fullmatch(plain) is None:
        raise MalformedBackupCode
    return plain[:SELECTOR_LENGTH], plain[SELECTOR_LENGTH:]


def folded(text: str) -> str:
    """Return ASCII text as the alphabet writes it."""
    return text.upper().translate(_ALIKE)


def remaining(user: User) -> int:
    """Return how many codes `user` can still use."""
    return _unused(user).count()


def is_low(user: User) -> bool:
    """Say whether so few codes are left that `user` should make new ones."""
    return remaining(user) <= settings.BACKUP_CODES_LOW


def count_under(pepper_key_id: str) -> int:
    """Return how many unused codes still need this pepper key: they cannot be hashed again by themselves."""
    return BackupCode.objects.filter(
        used_at=None,
        generation=F("code_set__generation"),
        verifier__startswith=f"{_hasher.algorithm}${pepper_key_id}$",
    ).count()


def _unused(user: User) -> QuerySet[BackupCode]:
    return BackupCode.objects.filter(code_set__user=user, generation=F("code_set__generation"), used_at=None)


def _of(user: User) -> list[BackupCode]:
    """Return the codes of the newest set, used ones too: ten, and one more for each use."""
    mine = BackupCode.objects.select_related("code_set").filter(code_set__user=user)
    return list(mine.filter(generation=F("code_set__generation")))


def _matches(user: User | None, code: BackupCode | None, verifier: str) -> bool:
    if user is None or code is None:
        _hasher.burn(verifier)
        return False
    return _hasher.verify(_bound(user, code.generation, code.selector, verifier), code.verifier)


def _replacement(user: User, code: BackupCode, verifier: str, taken: Container[str]) -> _Hashed:
    """Return what takes the place of `code`: prepared with it, or made now for one hash."""
    if code.next_verifier:
        made_with = _hasher.decode(code.next_verifier)
        key_id, salt = str(made_with["pepper_key"]), str(made_with["salt"])
        if key_id in settings.MESTORE_PEPPER_KEYS:
            own = _bound(user, code.generation, code.selector, verifier)
            text = _shown(code.next_selector, _following(own, salt, key_id))
            return _Hashed(text, code.next_selector, code.next_verifier)
    selector = _random(SELECTOR_LENGTH)
    while selector in taken:
        selector = _random(SELECTOR_LENGTH)
    return _new(user, code.generation, selector)


def _new(user: User, generation: UUID, selector: str, *, successor: str = "") -> _Hashed:
    """Make one code; with the selector `successor` also the hash of the one that will take its place."""
    verifier = _random(VERIFIER_LENGTH)
    own = _bound(user, generation, selector, verifier)
    stored, following = _hasher.encode(own, _hasher.salt()), ""
    if successor:
        salt = _hasher.salt()
        text = _bound(user, generation, successor, _following(own, salt))
        following = _hasher.encode(text, salt)
    return _Hashed(_shown(selector, verifier), selector, stored, successor, following)


def _following(own: str, salt: str, key_id: str | None = None) -> str:
    """Return the verifier that follows the code `own`: only that code and the pepper together tell it."""
    _key_id, raw = crypto.pepper(f"backup-code-successor:{salt}:{own}", key_id)
    return base64.b32encode(raw).decode("ascii")[:VERIFIER_LENGTH]


def _shown(selector: str, verifier: str) -> str:
    plain = selector + verifier
    return f"{plain[:4]}-{plain[4:8]}-{plain[8:12]}-{plain[12:]}"


def _bound(user: User, generation: UUID, selector: str, verifier: str) -> str:
    return f"backup-code:{user.pk}:{generation}:{selector}:{verifier}"


def _row(code_set: BackupCodeSet, code: _Hashed) -> BackupCode:
    return BackupCode(
        code_set=code_set,
        generation=code_set.generation,
        selector=code.selector,
        verifier=code.verifier,
        next_selector=code.next_selector,
        next_verifier=code.next_verifier,
    )


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _position in range(length))


def _record(event: str, user: User, by: Actor, data: dict[str, object]) -> None:
    audit.record(event, by=by, target=("user", str(user.pk)), data=data, subject=str(user.pk))
