"""The verifier that strangers run: alone, with the standard library, on a file and a key."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from mestore.lib import merkle, notes
from mestore.lib.notes import Checkpoint, Proof, Signer

SCRIPT = Path(settings.BASE_DIR, "docs", "verify_proof.py")
ORIGIN = "mestore.example/audit/log-1"
LOG = Signer.of_seed(ORIGIN, bytes(range(32)))
WITNESS = Signer.of_seed("witness.example/w1", bytes([7]) * 32, cosigner=True)
EVENTS = [json.dumps({"v": 1, "id": number}).encode() for number in range(5)]
LEAVES = [merkle.leaf_hash(event) for event in EVENTS]
CHECKPOINT = Checkpoint(ORIGIN, 5, merkle.root(LEAVES))
NOTE = CHECKPOINT.signed(LOG)


def proof(index: int = 3, note: str = NOTE) -> str:
    path = merkle.inclusion_proof(index, 5, lambda begin, end: merkle.root(LEAVES[begin:end]))
    return Proof(index, tuple(path), note, extra=EVENTS[index]).text()


def run(folder: Path, text: str | bytes, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a folder of its own, without site packages and without this project."""
    file = folder / "event.tlog-proof"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT), str(file), "--key", str(LOG.verifier), *arguments],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False, env={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = spec_from_file_location("verify_proof", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_proof_is_accepted_and_the_event_printed(tmp_path: Path) -> None:
    done = run(tmp_path, proof())

    assert done.returncode == 0, done.stderr
    assert f"proved: leaf 3 of a log of 5, signed by {ORIGIN}" in done.stdout
    assert json.loads(done.stdout.partition("\n")[2]) == {"v": 1, "id": 3}


def test_a_witness_that_is_asked_for_must_have_cosigned(tmp_path: Path) -> None:
    cosigned = notes.with_line(NOTE, WITNESS.line(CHECKPOINT.text(), at=1_700_000_000))
    key = str(WITNESS.verifier)

    assert "cosigned by witness.example/w1" in run(tmp_path, proof(note=cosigned), "--witness", key).stdout
    assert run(tmp_path, proof(), "--witness", key).returncode == 1


@pytest.mark.parametrize("other", ["changed", "event of another leaf", "stranger", "cut", "bytes", "empty"])
def test_what_is_not_proved(tmp_path: Path, other: str) -> None:
    stranger = Signer.of_seed(ORIGIN, bytes(32))
    texts: dict[str, str | bytes] = {
        "changed": proof().replace("index 3", "index 2"),
        "event of another leaf": Proof(3, (), NOTE, extra=EVENTS[2]).text(),
        "stranger": proof(note=CHECKPOINT.signed(stranger)),
        "cut": proof()[:-30],
        "bytes": b"\xff\xfe" * 100,
        "empty": "",
    }
    done = run(tmp_path, texts[other])

    assert done.returncode == 1
    assert done.stderr.startswith("NOT PROVED:")
    assert done.stdout == ""


def test_wrong_arguments(tmp_path: Path) -> None:
    assert run(tmp_path, proof(), "--nothing").returncode == 2


@given(st.integers(0, 8 * len(proof().encode()) - 1))
def test_one_bit_anywhere_is_noticed(script: ModuleType, bit: int) -> None:
    raw = bytearray(proof().encode())
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises((script.NotProved, UnicodeDecodeError)):
        script.verify(raw.decode(), str(LOG.verifier))


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_signatures_are_judged_as_the_library_judges_them(
    script: ModuleType, seed: bytes, message: bytes
) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = key.public_key().public_bytes_raw(), key.sign(message)

    assert script.ed25519_verifies(public, message, signature)
    assert not script.ed25519_verifies(public, message + b"x", signature)
    assert not script.ed25519_verifies(public, message, signature[:32] + bytes(32))
    assert not script.ed25519_verifies(public, message, signature[:-1])


def test_published_vectors_of_ed25519(script: ModuleType) -> None:
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    signature = bytes.fromhex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b"
    )
    assert script.ed25519_verifies(public, b"", signature)
    larger = int.from_bytes(signature[32:], "little") + script.ORDER
    # The same signature with a larger scalar would be a second one for the same message.
    assert not script.ed25519_verifies(public, b"", signature[:32] + larger.to_bytes(32, "little"))


@pytest.mark.parametrize("raw", [bytes([1] + [0] * 30 + [128]), b"\xff" * 32, bytes([2] + [0] * 31)])
def test_what_is_no_point_is_refused(script: ModuleType, raw: bytes) -> None:
    assert not script.ed25519_verifies(raw, b"", raw + bytes(32))


# --- That the log only grew --------------------------------------------------------------------------------

MANY = [merkle.leaf_hash(bytes([number])) for number in range(20)]


def note_of(size: int, leaves: list[bytes] | None = None) -> str:
    return Checkpoint(ORIGIN, size, merkle.root((leaves or MANY)[:size])).signed(LOG)


def growth(old: int, new: int) -> str:
    path = merkle.consistency_proof(old, new, lambda begin, end: merkle.root(MANY[begin:end]))
    lines = [f"old {old}", f"new {new}", "", *(base64.b64encode(part).decode() for part in path)]
    return "".join(f"{line}\n" for line in lines)


def test_growth_is_proved_between_all_sizes(script: ModuleType) -> None:
    for old in range(1, len(MANY) + 1):
        for new in range(old, len(MANY) + 1):
            said = script.verify_growth(growth(old, new), str(LOG.verifier), note_of(old), note_of(new))
            assert said == (old, new)


def test_log_that_was_rewritten_between_two_checkpoints_is_not_proved(script: ModuleType) -> None:
    forged = [b"x" * 32, *MANY[1:]]
    for old in range(1, len(MANY)):
        for new in range(old + 1, len(MANY) + 1):
            for before, after in (
                (note_of(old, forged), note_of(new)), (note_of(old), note_of(new, forged)),
                (note_of(new), note_of(old)),
            ):  # fmt: skip
                with pytest.raises(script.NotProved):
                    script.verify_growth(growth(old, new), str(LOG.verifier), before, after)


def test_growth_with_a_hash_too_many_or_too_few_is_not_proved(script: ModuleType) -> None:
    whole = growth(7, 20).splitlines(keepends=True)
    for cut in ("".join(whole[:-1]), "".join([*whole, whole[-1]]), "".join(whole[:3]), "", "old 7\n"):
        with pytest.raises(script.NotProved):
            script.verify_growth(cut, str(LOG.verifier), note_of(7), note_of(20))


def test_growth_is_verified_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text(note_of(7), encoding="utf-8")
    (tmp_path / "new.txt").write_text(note_of(20), encoding="utf-8")
    named = ("--old", str(tmp_path / "old.txt"), "--new", str(tmp_path / "new.txt"))

    good, swapped, half = (
        run(tmp_path, growth(7, 20), *arguments) for arguments in (named, (*named[:3], named[1]), named[:2])
    )

    assert (good.returncode, swapped.returncode, half.returncode) == (0, 1, 2)
    assert "the log of 20 leaves begins with that of 7" in good.stdout
