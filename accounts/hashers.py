"""Argon2id over a keyed pepper: what is stored is worth nothing without a key that is not in the database.

`HMAC-SHA256(pepper key, password)` goes into Argon2id. The stored form names the pepper key and every
parameter, so both can be changed and old hashes still verify, and are renewed at the next sign-in:

    argon2id-peppered$<pepper key id>$v=19$m=65536,t=3,p=1$<salt>$<hash>
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
import sys
import threading
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from argon2.low_level import ARGON2_VERSION, Type, hash_secret_raw
from django.conf import settings
from django.contrib.auth.hashers import BasePasswordHasher, mask_hash
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from mestore.lib import crypto, errors

if TYPE_CHECKING:
    from mestore.lib.errors import Text

MAXIMUM_BYTES = 4096
_SALT_BYTES = 16
_HASH_BYTES = 32
_PLACES_PER_SLOT = 3  # hashed, waiting, and one more for known devices
WAIT_SECONDS = 3.0
_NICENESS = 10  # about a tenth of a core that others want too: sign-ins are slow then, not shut out
_STORED = re.compile(
    r"argon2id-peppered\$(?P<key_id>[^$]{1,64})\$v=(?P<version>\d{1,3})"
    r"\$m=(?P<memory>\d{1,8}),t=(?P<time>\d{1,3}),p=(?P<lanes>\d{1,3})"
    r"\$(?P<salt>[A-Za-z0-9+/=]{8,128})\$(?P<digest>[A-Za-z0-9+/=]{16,128})"
)


class HashingBusy(errors.SecurityServiceFailure):
    """Every hashing slot of this process is taken and the queue is full. Says nothing about any account."""

    message = _("Too many people are signing in at once. Try again in a moment.")
    default_retry_after = 2


class UnhashablePasswordError(ValueError):
    """The password is too long for a hash or is not text; no account can have it."""


@dataclass(frozen=True, slots=True)
class _Cost:
    time: int
    memory_kib: int
    lanes: int


@dataclass(frozen=True, slots=True)
class _Stored:
    key_id: str
    version: int
    cost: _Cost
    salt: bytes
    digest: bytes


class Capacity:
    """So many hashes at once, as many waiting, and a refusal beyond it.

    A hash takes 64 MiB and a core for a tenth of a second; without a bound a burst of sign-ins would take the
    memory, the threads and the time of every other request. Whoever comes is admitted or refused at once,
    before anything is asked of the database, so the refusal is the same for known and unknown accounts and
    costs next to nothing. Some places are for known devices alone, which are served first: strangers cannot
    keep them out.

    Hashes run in threads of their own that yield the processor to everything else (`_yield_to_others`).
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._lock = threading.Lock()
        self._free = slots
        self._inside = 0
        self._known: deque[threading.Event] = deque()
        self._others: deque[threading.Event] = deque()
        self._mine = threading.local()
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="hash", initializer=_yield_to_others)

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._known) + len(self._others)

    @contextmanager
    def admitted(self, *, known: bool = False) -> Iterator[None]:
        """Keep a place for one hash after another, `known` for who comes on a known device.

        Raises HashingBusy when every place is taken. A thread that has a place needs no second one.
        """
        if getattr(self._mine, "has_place", False):
            yield
            return
        with self._lock:
            if self._inside >= self.slots * (_PLACES_PER_SLOT if known else _PLACES_PER_SLOT - 1):
                raise HashingBusy
            self._inside += 1
        self._mine.has_place, self._mine.is_known = True, known
        try:
            yield
        finally:
            self._mine.has_place = False
            with self._lock:
                self._inside -= 1

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one slot. Raises HashingBusy when every place is taken or the wait is too long."""
        with self.admitted():
            self._take()
            try:
                yield
            finally:
                self._give_back()

    def run(self, work: Callable[[], bytes]) -> bytes:
        """Return what `work` gives, computed in a slot with low priority. Raises as `slot` does."""
        with self.slot():
            return self._threads.submit(work).result()

    def _take(self) -> None:
        turn = threading.Event()
        queue = self._known if self._mine.is_known else self._others
        with self._lock:
            if self._free:
                self._free -= 1
                return
            queue.append(turn)
        if turn.wait(WAIT_SECONDS):
            return
        with self._lock:
            if not turn.is_set():
                queue.remove(turn)
                raise HashingBusy

    def _give_back(self) -> None:
        """Hand the slot to who waits longest, known devices first."""
        with self._lock:
            queue = self._known or self._others
            if queue:
                queue.popleft().set()
            else:
                self._free += 1


def _yield_to_others() -> None:
    """Lower the priority of this thread: a hash takes the time that nothing else wants.

    On Linux priorities belong to threads, and anybody may lower one (setpriority(2)); where that is refused
    or not so, hashes compete as equals, bounded all the same.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


_capacities: dict[int, Capacity] = {}
os.register_at_fork(after_in_child=_capacities.clear)  # threads do not survive a fork


def capacity() -> Capacity:
    """Return this process's hashing slots (setting HASH_CONCURRENCY)."""
    slots = int(settings.HASH_CONCURRENCY)
    found = _capacities.get(slots)
    # setdefault is atomic: two first callers get the same object.
    return found if found is not None else _capacities.setdefault(slots, Capacity(slots))


class PepperedArgon2Hasher(BasePasswordHasher):
    """Django's hasher protocol over the above. Nothing here raises on what a client can send."""

    algorithm = "argon2id-peppered"
    library = "argon2"

    def salt(self) -> str:
        return _b64(secrets.token_bytes(_SALT_BYTES))

    def encode(self, password: str, salt: str) -> str:
        """Return the stored form. Raises UnhashablePasswordError and HashingBusy."""
        text = _hashable(password)
        cost = _current_cost()
        key_id, peppered = crypto.pepper(text)
        raw_salt = _unb64(salt)
        digest = _derive(peppered, raw_salt, cost, _HASH_BYTES)
        parameters = f"m={cost.memory_kib},t={cost.time},p={cost.lanes}"
        return f"{self.algorithm}${key_id}$v={ARGON2_VERSION}${parameters}${_b64(raw_salt)}${_b64(digest)}"

    def verify(self, password: str, encoded: str) -> bool:
        """Say whether `password` made `encoded`, in constant time over the digest. Raises HashingBusy."""
        stored = _parse(encoded)
        try:
            text = _hashable(password)
        except UnhashablePasswordError:
            return False
        if stored is None or stored.key_id not in settings.MESTORE_PEPPER_KEYS:
            self.burn(text)
            return False
        _key_id, peppered = crypto.pepper(text, stored.key_id)
        digest = _derive(peppered, stored.salt, stored.cost, len(stored.digest))
        return crypto.equal(digest, stored.digest)

    def burn(self, password: str) -> None:
        """Do the work of a verification for an account that does not exist. Raises HashingBusy."""
        try:
            text = _hashable(password)
        except UnhashablePasswordError:
            return
        _key_id, peppered = crypto.pepper(text)
        digest = _derive(peppered, secrets.token_bytes(_SALT_BYTES), _current_cost(), _HASH_BYTES)
        crypto.equal(digest, bytes(_HASH_BYTES))

    def must_update(self, encoded: str) -> bool:
        """Say whether `encoded` was made with other parameters or another pepper key than today's."""
        stored = _parse(encoded)
        return (
            stored is None
            or stored.cost != _current_cost()
            or stored.version != ARGON2_VERSION
            or stored.key_id != next(iter(settings.MESTORE_PEPPER_KEYS))
        )

    def harden_runtime(self, password: str, encoded: str) -> None:
        """Nothing to add: the renewal at sign-in brings an old hash to today's cost."""

    def decode(self, encoded: str) -> dict[str, object]:
        """Return the parts of `encoded`. Raises ValueError when it is not ours."""
        stored = _parse(encoded)
        if stored is None:
            raise ValueError("not an argon2id-peppered hash")
        return {
            "algorithm": self.algorithm,
            "pepper_key": stored.key_id,
            "memory_cost": stored.cost.memory_kib,
            "time_cost": stored.cost.time,
            "parallelism": stored.cost.lanes,
            "salt": _b64(stored.salt),
            "hash": _b64(stored.digest),
        }

    def safe_summary(self, encoded: str) -> dict[Text, Any]:
        parts = self.decode(encoded)
        return {
            gettext_noop("algorithm"): parts["algorithm"],
            gettext_noop("pepper key"): parts["pepper_key"],
            gettext_noop("memory cost"): parts["memory_cost"],
            gettext_noop("time cost"): parts["time_cost"],
            gettext_noop("parallelism"): parts["parallelism"],
            gettext_noop("hash"): mask_hash(str(parts["hash"])),
        }


def _hashable(password: str) -> str:
    # Lone surrogates (a JSON escape can carry them) are no text; the length is in bytes, as the work is.
    try:
        size = len(password.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise UnhashablePasswordError("not text") from error
    if size > MAXIMUM_BYTES:
        raise UnhashablePasswordError("too long")
    # The same accented letter comes as one or as two code points, depending on the keyboard. Nothing else of
    # a password is changed.
    return unicodedata.normalize("NFC", password)


def _current_cost() -> _Cost:
    return _Cost(
        time=settings.ARGON2_TIME_COST,
        memory_kib=settings.ARGON2_MEMORY_KIB,
        lanes=settings.ARGON2_PARALLELISM,
    )


def _derive(secret: bytes, salt: bytes, cost: _Cost, length: int) -> bytes:
    work = partial(
        hash_secret_raw,
        secret=secret,
        salt=salt,
        time_cost=cost.time,
        memory_cost=cost.memory_kib,
        parallelism=cost.lanes,
        hash_len=length,
        type=Type.ID,
        version=ARGON2_VERSION,
    )
    return capacity().run(work)


def _parse(encoded: str) -> _Stored | None:
    found = _STORED.fullmatch(encoded)
    if found is None:
        return None
    try:
        salt, digest = _unb64(found["salt"]), _unb64(found["digest"])
    except binascii.Error:
        return None
    cost = _Cost(time=int(found["time"]), memory_kib=int(found["memory"]), lanes=int(found["lanes"]))
    return _Stored(found["key_id"], int(found["version"]), cost, salt, digest)


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii").rstrip("=")


def _unb64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
