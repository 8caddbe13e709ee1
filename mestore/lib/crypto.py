"""Secrets at rest: sealing, blind indexes, message authentication, the password pepper.

Nothing is invented here: AES-256-GCM and HKDF come from `cryptography`, HMAC and SHA-256 from the standard
library. Keys come from two rings in the settings, `MESTORE_MASTER_KEYS` and `MESTORE_PEPPER_KEYS` (id -> 32
bytes; the first is current, the last is the oldest). No master key is used directly: each purpose has its own
derived key, so that a value sealed for one purpose opens for no other.

A sealed value is ``version (1) | length of key id (1) | key id | nonce (12) | ciphertext and tag``. The
header, the purpose and what the value is bound to (`row_binding`) are authenticated: a value copied to
another row does not open.

Rotation: put a new key first in the ring, `rewrap` what is stored, then drop the old key. Blind indexes are
made with the *oldest* key of the ring, so adding a key changes none of them and an equality lookup goes on
working; before the oldest key is dropped, each index is rewritten to the next of `blind_indexes`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from functools import lru_cache
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from mestore.lib import errors

_VERSION = 1
_NONCE = 12
_TAG = 16
_KEY = 32


class Unreadable(errors.InternalError):
    """A sealed value does not open (altered, cut, moved, its key gone): one sentence for all reasons."""

    message = _("A protected value cannot be read.")


class KeyUnknown(Unreadable):
    """A sealed value names a key that is not in the ring: rotated away, or not given to this process yet."""


def seal(plaintext: bytes, *, purpose: str, bound_to: bytes) -> bytes:
    """Encrypt under the current master key, for one purpose and one place."""
    key_id, master = _current(settings.MESTORE_MASTER_KEYS)
    header = _header(key_id)
    nonce = secrets.token_bytes(_NONCE)
    associated = row_binding(header, purpose, bound_to)
    return header + nonce + _cipher(master, purpose).encrypt(nonce, plaintext, associated)


def unseal(sealed: bytes | memoryview, *, purpose: str, bound_to: bytes) -> bytes:
    """The plaintext of a sealed value. Raises `Unreadable`, whatever the reason; `KeyUnknown` is one."""
    key_id, header, nonce, body = _split(bytes(sealed))
    master = settings.MESTORE_MASTER_KEYS.get(key_id)
    if master is None:
        raise KeyUnknown
    try:
        return _cipher(master, purpose).decrypt(nonce, body, row_binding(header, purpose, bound_to))
    except InvalidTag:
        raise Unreadable from None


def rewrap(sealed: bytes | memoryview, *, purpose: str, bound_to: bytes) -> bytes | None:
    """The same value under the current key, or None when it is there already. Raises `Unreadable`."""
    plaintext = unseal(sealed, purpose=purpose, bound_to=bound_to)
    if _split(bytes(sealed))[0] == _current(settings.MESTORE_MASTER_KEYS)[0]:
        return None
    return seal(plaintext, purpose=purpose, bound_to=bound_to)


def key_id_of(sealed: bytes | memoryview) -> str:
    """The id of the master key that a value is sealed under. Raises `Unreadable` when the form is wrong."""
    return _split(bytes(sealed))[0]


class DataKey(bytes):
    """A data key with its cipher: made once, and gone with the key. Raises ValueError but for 32 bytes."""

    cipher: AESGCM

    def __new__(cls, key: bytes) -> DataKey:
        made = super().__new__(cls, _checked(key))
        made.cipher = AESGCM(key)
        return made


def seal_with(key: bytes, plaintext: bytes, *, bound_to: bytes) -> bytes:
    """Encrypt under a given 32-byte data key (a person's own key, itself sealed elsewhere)."""
    nonce = os.urandom(_NONCE)
    return _DATA_HEADER + nonce + _cipher_of(key).encrypt(nonce, plaintext, _data_binding(bound_to))


def unseal_with(key: bytes, sealed: bytes | memoryview, *, bound_to: bytes) -> bytes:
    """The plaintext of what `seal_with` made. Raises `Unreadable`."""
    sealed = bytes(sealed)
    header, nonce, body = sealed[:1], sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
    if header != _DATA_HEADER or len(body) < _TAG:
        raise Unreadable
    try:
        return _cipher_of(key).decrypt(nonce, body, _data_binding(bound_to))
    except InvalidTag:
        raise Unreadable from None


def blind_index(value: str, *, purpose: str) -> bytes:
    """32 bytes by which an encrypted value can be found without being shown; made with the oldest key."""
    return blind_indexes(value, purpose=purpose)[0]


def blind_indexes(value: str, *, purpose: str) -> tuple[bytes, ...]:
    """The index under every key of the ring, oldest first: what to look for while indexes are rewritten."""
    ring: Mapping[str, bytes] = settings.MESTORE_MASTER_KEYS
    data = _encode(value)
    return tuple(
        hmac.digest(_derive(key, "index", purpose), data, "sha256") for key in reversed([*ring.values()])
    )


def mac(data: bytes, *, purpose: str) -> bytes:
    """HMAC-SHA256 of `data` under the current key of this purpose."""
    master = next(iter(settings.MESTORE_MASTER_KEYS.values()))
    made = _keyed(master, purpose).copy()
    made.update(data)
    return made.finalize()


def verify_mac(data: bytes, tag: bytes | memoryview, *, purpose: str) -> bool:
    """Whether `tag` was made by `mac` for the same data and purpose, with any key still in the ring."""
    ring: Mapping[str, bytes] = settings.MESTORE_MASTER_KEYS
    given = bytes(tag)
    # Every key is tried, also after a match: the time says nothing about which key it was.
    matches = [
        equal(hmac.digest(_derive(key, "mac", purpose), data, "sha256"), given) for key in ring.values()
    ]
    return any(matches)


def pepper(password: str, key_id: str | None = None) -> tuple[str, bytes]:
    """The keyed digest of a password, for the slow hash to work on, and the id of the key used.

    Without `key_id` the current pepper key is used. Raises `Unreadable` when the key is not in the ring.
    """
    ring: Mapping[str, bytes] = settings.MESTORE_PEPPER_KEYS
    if key_id is None:
        key_id, _key = _current(ring)
    key = ring.get(key_id)
    if key is None:
        raise Unreadable
    return key_id, hmac.digest(_checked(key), _encode(password), "sha256")


def equal(a: bytes | str, b: bytes | str) -> bool:
    """Compare two secrets in a time that does not tell where they differ."""
    left = _encode(a) if isinstance(a, str) else a
    right = _encode(b) if isinstance(b, str) else b
    return hmac.compare_digest(left, right)


def digest(data: bytes) -> bytes:
    """SHA-256, for values that are random already (tokens, session keys); `mac` is for guessable ones."""
    return hashlib.sha256(data).digest()


def row_binding(*parts: str | bytes | UUID | int) -> bytes:
    """One byte string for a list of parts that no other list gives: each part has its type and length."""
    out: list[bytes] = []
    for part in parts:
        if isinstance(part, str):
            heads, data = _TEXT, part.encode() if part.isascii() else _encode(part)
        elif type(part) is int:  # not bool: True would be bound like 1
            heads, data = _NUMBER, b"%d" % part
        elif isinstance(part, UUID):
            heads, data = _UUID, part.bytes
        elif isinstance(part, bytes):
            heads, data = _BYTES, part
        else:
            raise TypeError(f"cannot bind to a {type(part).__name__}")
        size = len(data)
        out += (heads[size] if size < _SHORT else heads[0][:1] + size.to_bytes(4, "big"), data)
    return b"".join(out)


# Whatever is sealed or signed is bound to some parts, and nearly all are short: their heads (a letter for the
# type, and the length) are made once.
_SHORT = 256
_TEXT, _BYTES, _UUID, _NUMBER = (
    [kind + size.to_bytes(4, "big") for size in range(_SHORT)] for kind in (b"s", b"b", b"u", b"i")
)


def _encode(text: str) -> bytes:
    # A lone surrogate can arrive in a password; it gets bytes of its own instead of an exception.
    return text.encode("utf-8", "surrogatepass")


def _current(ring: Mapping[str, bytes]) -> tuple[str, bytes]:
    return next(iter(ring.items()))


def _header(key_id: str) -> bytes:
    name = key_id.encode("utf-8")
    return bytes([_VERSION, len(name)]) + name


def _split(sealed: bytes) -> tuple[str, bytes, bytes, bytes]:
    """Key id, header, nonce, body. Raises `Unreadable` when the form is wrong."""
    if len(sealed) < 2 or sealed[0] != _VERSION:
        raise Unreadable
    end = 2 + sealed[1]
    if len(sealed) < end + _NONCE + _TAG:
        raise Unreadable
    try:
        key_id = sealed[2:end].decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable from None
    return key_id, sealed[:end], sealed[end : end + _NONCE], sealed[end + _NONCE :]


@lru_cache(maxsize=256)
def _cipher(master: bytes, purpose: str) -> AESGCM:
    return AESGCM(_derive(master, "seal", purpose))


def _cipher_of(key: bytes) -> AESGCM:
    return key.cipher if isinstance(key, DataKey) else AESGCM(_checked(key))


_DATA_HEADER = bytes([_VERSION])
_FOR_DATA = row_binding("data key", _DATA_HEADER)


def _data_binding(bound_to: bytes) -> bytes:
    # What `row_binding` gives for all three parts: it writes one after the other.
    return _FOR_DATA + row_binding(bound_to)


@lru_cache(maxsize=256)
def _keyed(master: bytes, purpose: str) -> HMAC:
    """The MAC of nothing yet, to go on from with a copy: preparing a key costs as much as a short text."""
    return HMAC(_derive(master, "mac", purpose), SHA256())


@lru_cache(maxsize=512)
def _derive(master: bytes, use: str, purpose: str) -> bytes:
    info = row_binding("mestore", _VERSION, use, purpose)
    return HKDF(algorithm=SHA256(), length=_KEY, salt=None, info=info).derive(_checked(master))


def _checked(key: bytes) -> bytes:
    if len(key) != _KEY:
        raise ValueError("a key must have 32 bytes")
    return key
