"""Signed notes, checkpoints, cosignatures and inclusion proofs as text: the formats of C2SP.

A note is a text and lines of signatures below it (C2SP signed-note). A checkpoint is a note that says of a
log: origin, size, root (tlog-checkpoint). A witness adds a line of its own, with the time at which it saw it
(tlog-cosignature). A proof is leaf index, path and checkpoint in one text (tlog-proof). Ed25519 throughout;
lines of keys that are not known are passed over, as the format demands.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mestore.lib import merkle

PROOF_HEADER: Final = "c2sp.org/tlog-proof@v1"
LARGEST_NOTE: Final = 65_536
MOST_SIGNATURES: Final = 64
MOST_PARTS: Final = 64

_NOTE_SIGNATURE: Final = 0x01
_COSIGNATURE: Final = 0x04
_KEY_ID_BYTES: Final = 4
_TIME_BYTES: Final = 8
_SIGNATURE_BYTES: Final = 64
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_NAME = re.compile(r"[^\s+\x00-\x1f]{1,255}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class NoteError(ValueError):
    """The text is no such note, or nobody known signed it: one class, the sentence says which."""


class NotSigned(NoteError):
    """The note is well formed; who should have signed it did not, or the signature is wrong."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key under its name. `cosigner` says that its lines carry a time (tlog-cosignature)."""

    name: str
    public_key: bytes
    cosigner: bool = False

    @property
    def key_id(self) -> bytes:
        kind = _COSIGNATURE if self.cosigner else _NOTE_SIGNATURE
        named = self.name.encode() + b"\n" + bytes([kind]) + self.public_key
        return hashlib.sha256(named).digest()[:_KEY_ID_BYTES]

    def __str__(self) -> str:
        """As people pass it on: name, key id, and the key with its kind (signed-note's "vkey")."""
        kind = _COSIGNATURE if self.cosigner else _NOTE_SIGNATURE
        return f"{self.name}+{self.key_id.hex()}+{_base64(bytes([kind]) + self.public_key)}"

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """Return the verifier that `str` wrote. Raises NoteError."""
        name, _plus, rest = text.partition("+")
        key_id, _plus, key = rest.partition("+")
        raw = _bytes(key)
        if len(raw) != 33 or raw[0] not in {_NOTE_SIGNATURE, _COSIGNATURE} or not _NAME.fullmatch(name):
            raise NoteError("this is no public key of a log or witness")
        found = cls(name, raw[1:], cosigner=raw[0] == _COSIGNATURE)
        if found.key_id.hex() != key_id:
            raise NoteError("the key's id is not that of its name and key")
        return found


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key under its name; signs notes, or as a witness cosigns checkpoints."""

    name: str
    key: Ed25519PrivateKey
    cosigner: bool = False

    @classmethod
    def of_seed(cls, name: str, seed: bytes, *, cosigner: bool = False) -> Signer:
        """Return the signer of a 32-byte seed. Raises NoteError for a name that no line can carry."""
        if not _NAME.fullmatch(name):
            raise NoteError("a signer's name has neither blanks nor plus signs")
        return cls(name, Ed25519PrivateKey.from_private_bytes(seed), cosigner)

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.name, self.key.public_key().public_bytes_raw(), self.cosigner)

    def line(self, text: str, *, at: int = 0) -> str:
        """Return the signature line below `text`; a cosigner's says `at` (seconds since 1970)."""
        signature = self.key.sign(_message(text, at if self.cosigner else None))
        stamp = at.to_bytes(_TIME_BYTES, "big") if self.cosigner else b""
        return f"\u2014 {self.name} {_base64(self.verifier.key_id + stamp + signature)}\n"


@dataclass(frozen=True, slots=True)
class Signature:
    """One line below a note: whose it says it is, and the bytes."""

    name: str
    key_id: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A text that ends with a newline, and its signature lines."""

    text: str
    signatures: tuple[Signature, ...]

    def times(self, verifier: Verifier) -> list[int]:
        """Return the times of the good lines of `verifier` (0 where its lines carry none).

        Raises NoteError when a line is under its name and key id and does not verify.
        """
        mine = [one for one in self.signatures if (one.name, one.key_id) == (verifier.name, verifier.key_id)]
        return [_verified(self.text, one.value, verifier) for one in mine]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of itself at one size."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the body of the note."""
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"

    def signed(self, signer: Signer) -> str:
        """Return the note, signed."""
        text = self.text()
        return f"{text}\n{signer.line(text)}"


@dataclass(frozen=True, slots=True)
class Proof:
    """That a leaf is in the tree of a checkpoint: everything but the leaf."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: str
    extra: bytes = b""

    def text(self) -> str:
        """Return the proof as a `.tlog-proof` file holds it."""
        extra = f"extra {_base64(self.extra)}\n" if self.extra else ""
        path = "".join(f"{_base64(part)}\n" for part in self.path)
        return f"{PROOF_HEADER}\n{extra}index {self.index}\n{path}\n{self.checkpoint}"


def parse(note: str) -> Note:
    """Return text and signatures of a note. Raises NoteError."""
    if len(note) > LARGEST_NOTE or _CONTROL.search(note) or not note.endswith("\n"):
        raise NoteError("this is no note")
    text, blank, below = note.rpartition("\n\n")
    lines = below.split("\n")[:-1]
    if not blank or not text or not 1 <= len(lines) <= MOST_SIGNATURES:
        raise NoteError("a note has a text, an empty line and signatures")
    return Note(text + "\n", tuple(_signature(line) for line in lines))


def checkpoint_of(note: str, *, log: Verifier) -> Checkpoint:
    """Return what a checkpoint says when `log` signed it. Raises NoteError otherwise."""
    parsed = parse(note)
    found = _checkpoint(parsed.text)
    if found.origin != log.name or not parsed.times(log):
        raise NotSigned("the log did not sign this checkpoint")
    return found


def with_line(note: str, line: str) -> str:
    """Return the note with one more signature line."""
    return note + line


def parse_proof(text: str) -> Proof:
    """Return what a `.tlog-proof` says; nothing of it is verified. Raises NoteError."""
    if len(text) > LARGEST_NOTE:
        raise NoteError("this is no proof")
    head, blank, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or lines.pop(0) != PROOF_HEADER:
        raise NoteError("this is no proof")
    extra = b""
    if lines and lines[0].startswith("extra "):
        extra = _bytes(lines.pop(0).removeprefix("extra "))
    word, _blank, number = lines.pop(0).partition(" ") if lines else ("", "", "")
    if word != "index" or not _NUMBER.fullmatch(number) or len(lines) > MOST_PARTS:
        raise NoteError("the proof does not say which leaf it is about")
    path = tuple(_hash(line) for line in lines)
    return Proof(int(number), path, checkpoint, extra)


def verify_proof(proof: Proof, leaf: bytes, *, log: Verifier) -> Checkpoint:
    """Return the checkpoint when the proof shows that `leaf` (a leaf hash) is in it.

    Raises NotSigned when the log did not sign it, merkle.ProofError when the path does not lead there.
    """
    found = checkpoint_of(proof.checkpoint, log=log)
    merkle.verify_inclusion(leaf, proof.index, found.size, proof.path, found.root)
    return found


def cosigned_at(note: str, witnesses: Sequence[Verifier]) -> dict[str, int]:
    """Return when each of `witnesses` cosigned the note, by name; those that did not are missing.

    Raises NoteError when a line of a known witness does not verify.
    """
    parsed = parse(note)
    found = {witness.name: parsed.times(witness) for witness in witnesses}
    return {name: max(times) for name, times in found.items() if times}


def _verified(text: str, value: bytes, verifier: Verifier) -> int:
    stamp = _TIME_BYTES if verifier.cosigner else 0
    if len(value) != stamp + _SIGNATURE_BYTES:
        raise NotSigned("a signature of a known key has another length")
    at = int.from_bytes(value[:stamp], "big")
    message = _message(text, at if verifier.cosigner else None)
    try:
        Ed25519PublicKey.from_public_bytes(verifier.public_key).verify(value[stamp:], message)
    except InvalidSignature:
        raise NotSigned("a signature of a known key does not verify") from None
    return at


def _message(text: str, at: int | None) -> bytes:
    """What is signed: the text itself; by a witness, the text below two lines that say so and when."""
    return (text if at is None else f"cosignature/v1\ntime {at}\n{text}").encode()


def _checkpoint(text: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) < 4 or "" in lines[:-1] or not _NUMBER.fullmatch(lines[1]):
        raise NoteError("this note is no checkpoint")
    return Checkpoint(lines[0], int(lines[1]), _hash(lines[2]))


def _signature(line: str) -> Signature:
    dash, _blank, rest = line.partition(" ")
    name, _blank, encoded = rest.partition(" ")
    raw = _bytes(encoded)
    if dash != "\u2014" or not _NAME.fullmatch(name) or len(raw) <= _KEY_ID_BYTES:
        raise NoteError("a line below the note is no signature")
    return Signature(name, raw[:_KEY_ID_BYTES], raw[_KEY_ID_BYTES:])


def _hash(text: str) -> bytes:
    raw = _bytes(text)
    if len(raw) != merkle.HASH_BYTES:
        raise NoteError("a hash has 32 bytes")
    return raw


def _bytes(text: str) -> bytes:
    """Return what strict base64 says; two spellings of the same bytes are one too many."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteError("this is no base64") from None
    if _base64(raw) != text:
        raise NoteError("this is no canonical base64")
    return raw


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
