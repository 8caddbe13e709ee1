#!/usr/bin/env python3
"""Verify that an event is in MeStore's audit log, on any machine, with nothing but Python 3.9 or newer.

    python3 verify_proof.py PROOF.tlog-proof --key 'mestore.example/audit/log-1+1a2b3c4d+A...'

The key is the log's public key as MeStore publishes it: get it once, by a way that you trust, and keep it.
The proof is a text (C2SP tlog-proof, version 1) with the event's bytes, its place, the path and the
checkpoint that the log signed. Printed is what the event says. Exit code 0: proved. 1: not proved. 2: wrong
arguments.

With `--witness KEY` (may be repeated) each of these witnesses must have cosigned the checkpoint. With
`--event FILE` the event's bytes are taken from a file instead of the proof. With `--old` and `--new` (two
checkpoints) PROOF is the `consistency.txt` of an evidence pack: that the log only grew between them.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

HEADER = "c2sp.org/tlog-proof@v1"
NOTE_SIGNATURE, COSIGNATURE = 1, 4
NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


class NotProved(Exception):
    """Why the proof does not hold, in one sentence."""


if TYPE_CHECKING:
    Point = tuple[int, int, int, int]

# --- Ed25519 (RFC 8032, section 5.1), verification only ---------------------------------------------------

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


def _recover(y: int, sign: int) -> int | None:
    """Return x of the point with this y and sign; None when there is none."""
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if square == 0:
        return None if sign else 0
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P:
        return None
    return P - x if x & 1 != sign else x


def _decode(raw: bytes) -> Point | None:
    value = int.from_bytes(raw, "little")
    y = value & ((1 << 255) - 1)
    x = _recover(y, value >> 255)
    return None if x is None else (x, y, 1, x * y % P)


def _add(one: Point, other: Point) -> Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c = 2 * one[3] * other[3] * D % P
    d = 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _multiply(scalar: int, point: Point) -> Point:
    found = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            found = _add(found, point)
        point = _add(point, point)
        scalar >>= 1
    return found


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = _recover(BASE_Y, 0) or 0
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def ed25519_verifies(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether `signature` (64 bytes) is that of `public_key` (32 bytes) over `message`."""
    if len(public_key) != 32 or len(signature) != 64:
        return False
    point, commitment = _decode(public_key), _decode(signature[:32])
    scalar = int.from_bytes(signature[32:], "little")
    if point is None or commitment is None or scalar >= ORDER:
        return False
    digest = hashlib.sha512(signature[:32] + public_key + message).digest()
    challenge = int.from_bytes(digest, "little") % ORDER
    left, right = _multiply(scalar, BASE), _add(commitment, _multiply(challenge, point))
    same_x = (left[0] * right[2] - right[0] * left[2]) % P == 0
    return same_x and (left[1] * right[2] - right[1] * left[2]) % P == 0


# --- Notes, checkpoints and proofs (C2SP signed-note, tlog-checkpoint, tlog-proof) -------------------------


def decode(text: str, what: str) -> bytes:
    """Return the bytes of canonical base64."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raise NotProved(f"{what} is no base64") from None
    if base64.b64encode(raw).decode() != text:
        raise NotProved(f"{what} is no canonical base64")
    return raw


def parse_key(text: str) -> tuple[str, bytes, int, bytes]:
    """Return name, key id, kind and public key of a published key."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    raw = decode(encoded, "the key")
    if len(raw) != 33 or raw[0] not in (NOTE_SIGNATURE, COSIGNATURE) or not name:
        raise NotProved("this is no public key of a log or witness")
    if hashlib.sha256(name.encode() + b"\n" + raw).hexdigest()[:8] != key_id:
        raise NotProved("the key's id is not that of its name and key")
    return name, bytes.fromhex(key_id), raw[0], raw[1:]


def signed_at(text: str, lines: list[str], key: str) -> int | None:
    """Return when `key` signed (0: its lines carry no time); None when it did not. A bad line is refused."""
    name, key_id, kind, public_key = parse_key(key)
    found: int | None = None
    for line in lines:
        dash, _, rest = line.partition(" ")
        signer, _, encoded = rest.partition(" ")
        raw = decode(encoded, "a signature")
        if dash != "\u2014" or len(raw) <= 4:
            raise NotProved("a line below the checkpoint is no signature")
        if (signer, raw[:4]) != (name, key_id):
            continue
        at, message = 0, text.encode()
        stamp = 8 if kind == COSIGNATURE else 0
        if stamp:
            at = int.from_bytes(raw[4:12], "big")
            message = f"cosignature/v1\ntime {at}\n".encode() + message
        if not ed25519_verifies(public_key, message, raw[4 + stamp :]):
            raise NotProved(f"the signature of {name} does not verify")
        found = at if found is None else max(found, at)
    return found


def parse_checkpoint(note: str) -> tuple[str, list[str], str, int, bytes]:
    """Return text, signature lines, origin, size and root of a checkpoint."""
    text, blank, below = note.rpartition("\n\n")
    text += "\n"
    said = text.split("\n")
    if not blank or not note.endswith("\n") or len(said) < 4 or not NUMBER.fullmatch(said[1]):
        raise NotProved("the proof carries no checkpoint")
    root = decode(said[2], "the root")
    return text, below.split("\n")[:-1], said[0], int(said[1]), root


def parse_proof(text: str) -> tuple[int, list[bytes], bytes, str]:
    """Return index, path, extra data and checkpoint of a proof."""
    head, blank, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or lines.pop(0) != HEADER:
        raise NotProved("this is no proof of a transparency log")
    extra = b""
    if lines and lines[0].startswith("extra "):
        extra = decode(lines.pop(0)[6:], "the event")
    word, _, number = lines.pop(0).partition(" ") if lines else ("", "", "")
    if word != "index" or not NUMBER.fullmatch(number) or len(lines) > 64:
        raise NotProved("the proof does not say which leaf it is about")
    path = [decode(line, "a hash of the path") for line in lines]
    return int(number), path, extra, checkpoint


def root_from(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """Return the root that the path leads to (RFC 9162, section 2.1.3.2)."""
    if not 0 <= index < size or any(len(part) != 32 for part in path):
        raise NotProved("the log has no such leaf")
    at, last, folded = index, size - 1, leaf
    for part in path:
        if last == 0:
            raise NotProved("the path is too long")
        if at & 1 or at == last:
            folded = hashlib.sha256(b"\x01" + part + folded).digest()
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            folded = hashlib.sha256(b"\x01" + folded + part).digest()
        at, last = at >> 1, last >> 1
    if last != 0:
        raise NotProved("the path is too short")
    return folded


def verify(
    proof: str, key: str, witnesses: Sequence[str] = (), event: bytes | None = None
) -> tuple[bytes, int, int, dict[str, int]]:
    """Return the event's bytes, its index, the size of the log and the times of the witnesses.

    Raises NotProved.
    """
    index, path, extra, note = parse_proof(proof)
    event = extra if event is None else event
    text, lines, origin, size, root = parse_checkpoint(note)
    if origin != parse_key(key)[0] or signed_at(text, lines, key) is None:
        raise NotProved("the log did not sign this checkpoint")
    seen: dict[str, int] = {}
    for witness in witnesses:
        at = signed_at(text, lines, witness)
        if at is None:
            raise NotProved(f"the witness {parse_key(witness)[0]} did not cosign this checkpoint")
        seen[parse_key(witness)[0]] = at
    if root_from(hashlib.sha256(b"\x00" + event).digest(), index, size, path) != root:
        raise NotProved("the event is not what the log says")
    return event, index, size, seen


def demand_growth(old: int, new: int, path: list[bytes], old_root: bytes, new_root: bytes) -> None:
    """Check that the log of `new` leaves begins with that of `old` (RFC 9162, section 2.1.4.2)."""
    if not 0 < old <= new or any(len(part) != 32 for part in path):
        raise NotProved("the log never had these sizes in this order")
    if old == new:
        if path or old_root != new_root:
            raise NotProved("one size has two roots")
        return
    if old & (old - 1) == 0:
        path = [old_root, *path]
    if not path or _both_roots(old - 1, new - 1, path) != (old_root, new_root):
        raise NotProved("the log does not begin with what it was")


def _both_roots(at: int, last: int, path: list[bytes]) -> tuple[bytes, bytes]:
    """Return the older and the newer root that the path leads to; `at` and `last` are their last leaves."""
    while at & 1:
        at, last = at >> 1, last >> 1
    before = after = path[0]
    for part in path[1:]:
        if last == 0:
            raise NotProved("the proof is too long")
        if at & 1 or at == last:
            before = hashlib.sha256(b"\x01" + part + before).digest()
            after = hashlib.sha256(b"\x01" + part + after).digest()
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            after = hashlib.sha256(b"\x01" + after + part).digest()
        at, last = at >> 1, last >> 1
    if last != 0:
        raise NotProved("the proof is too short")
    return before, after


def verify_growth(proof: str, key: str, old_note: str, new_note: str) -> tuple[int, int]:
    """Return the sizes of two checkpoints that `key` signed when the proof shows that the log only grew.

    Raises NotProved.
    """
    sizes, roots = [], []
    for note in (old_note, new_note):
        text, lines, origin, size, root = parse_checkpoint(note)
        if origin != parse_key(key)[0] or signed_at(text, lines, key) is None:
            raise NotProved("the log did not sign this checkpoint")
        sizes.append(size)
        roots.append(root)
    head, _, below = proof.partition("\n\n")
    if head.split("\n") != [f"old {sizes[0]}", f"new {sizes[1]}"]:
        raise NotProved("the proof is about other sizes than the checkpoints")
    path = [decode(line, "a hash of the proof") for line in below.split("\n") if line]
    demand_growth(sizes[0], sizes[1], path, roots[0], roots[1])
    return sizes[0], sizes[1]


def _read(name: str) -> str:
    return Path(name).read_text(encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify what the command line names; return the exit code."""
    parser = argparse.ArgumentParser(description="Verify that an event is in the audit log, offline.")
    parser.add_argument("proof", help="the .tlog-proof file")
    parser.add_argument("--key", required=True, help="the log's public key: name+id+key")
    parser.add_argument("--witness", action="append", default=[], help="a witness that must have cosigned")
    parser.add_argument("--event", help="file with the event's bytes; default: those in the proof")
    parser.add_argument("--old", help="an earlier checkpoint: PROOF is then a proof that the log only grew")
    parser.add_argument("--new", help="the later checkpoint, for --old")
    given = parser.parse_args(arguments)
    if bool(given.old) != bool(given.new):
        parser.error("--old and --new belong together")
    try:
        if given.old:
            before, after = verify_growth(_read(given.proof), given.key, _read(given.old), _read(given.new))
            print(f"proved: the log of {after} leaves begins with that of {before}")
            return 0
        proof = Path(given.proof).read_text(encoding="utf-8")
        event = Path(given.event).read_bytes() if given.event else None
        found, index, size, seen = verify(proof, given.key, given.witness, event)
        said = json.loads(found)
    except (NotProved, OSError, ValueError) as error:
        print("NOT PROVED:", error, file=sys.stderr)
        return 1
    print(f"proved: leaf {index} of a log of {size}, signed by {parse_key(given.key)[0]}")
    for name, at in seen.items():
        print(f"cosigned by {name} at {datetime.fromtimestamp(at, timezone.utc).isoformat()}")
    print(json.dumps(said, indent=2, sort_keys=True, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
