"""Signed notes, checkpoints, cosignatures and proofs: a published example, and what must be refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mestore.lib import merkle, notes
from mestore.lib.notes import Checkpoint, NoteError, Proof, Signer, Verifier

ORIGIN = "mestore.example/log-1"
LOG = Signer.of_seed(ORIGIN, bytes(range(32)))
STRANGER = Signer.of_seed(ORIGIN, bytes(32))
WITNESS = Signer.of_seed("witness.example/w1", bytes([7]) * 32, cosigner=True)
LEAVES = [merkle.leaf_hash(bytes([number])) for number in range(5)]
ROOT = merkle.root(LEAVES)
CHECKPOINT = Checkpoint(ORIGIN, 5, ROOT)
NOTE = CHECKPOINT.signed(LOG)


def proof(index: int = 3, extra: bytes = b"") -> Proof:
    path = merkle.inclusion_proof(index, 5, lambda begin, end: merkle.root(LEAVES[begin:end]))
    return Proof(index, tuple(path), NOTE, extra)


def test_published_key_verifies_the_published_note() -> None:
    key = Verifier.parse("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
    note = notes.parse(PUBLISHED)

    assert note.times(key) == [0]
    assert str(key) == "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    with pytest.raises(NoteError, match="does not verify"):
        notes.parse(PUBLISHED.replace("This", "That", 1)).times(key)


PUBLISHED = """\
This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
"""


def test_checkpoint_comes_back_as_it_was_signed() -> None:
    assert notes.checkpoint_of(NOTE, log=LOG.verifier) == CHECKPOINT
    assert NOTE.split("\n")[:3] == [ORIGIN, "5", base64.b64encode(ROOT).decode()]


def test_the_empty_log_has_a_checkpoint() -> None:
    empty = Checkpoint(ORIGIN, 0, merkle.EMPTY_ROOT)
    assert notes.checkpoint_of(empty.signed(LOG), log=LOG.verifier) == empty


def test_a_stranger_under_the_same_name_signs_nothing() -> None:
    with pytest.raises(NoteError, match="did not sign"):
        notes.checkpoint_of(CHECKPOINT.signed(STRANGER), log=LOG.verifier)


def test_a_log_does_not_sign_for_another_origin() -> None:
    other = Checkpoint("mestore.example/log-2", 5, ROOT)
    with pytest.raises(NoteError, match="did not sign"):
        notes.checkpoint_of(other.signed(LOG), log=LOG.verifier)


def test_a_witness_says_when_and_its_line_is_no_signature_of_the_log() -> None:
    note = notes.with_line(NOTE, WITNESS.line(CHECKPOINT.text(), at=1_700_000_000))

    assert notes.cosigned_at(note, [WITNESS.verifier]) == {WITNESS.name: 1_700_000_000}
    assert notes.cosigned_at(NOTE, [WITNESS.verifier]) == {}
    assert notes.checkpoint_of(note, log=LOG.verifier) == CHECKPOINT
    alone = CHECKPOINT.text() + "\n" + WITNESS.line(CHECKPOINT.text(), at=1)
    with pytest.raises(NoteError, match="did not sign"):
        notes.checkpoint_of(alone, log=LOG.verifier)


def test_the_time_of_a_witness_is_signed() -> None:
    line = WITNESS.line(CHECKPOINT.text(), at=1_700_000_000)
    name, encoded = line.split(" ")[1:]
    raw = bytearray(base64.b64decode(encoded))
    raw[11] ^= 1
    moved = f"\u2014 {name} {base64.b64encode(raw).decode()}\n"

    with pytest.raises(NoteError, match="does not verify"):
        notes.cosigned_at(notes.with_line(NOTE, moved), [WITNESS.verifier])


def test_lines_of_unknown_keys_are_passed_over() -> None:
    other = Signer.of_seed("somebody.example", bytes([9]) * 32)
    assert notes.checkpoint_of(notes.with_line(NOTE, other.line("x\n")), log=LOG.verifier) == CHECKPOINT


@pytest.mark.parametrize("extra", [b"", b"what the reader needs"])
def test_proof_comes_back_and_verifies(extra: bytes) -> None:
    for index in range(5):
        found = notes.parse_proof(proof(index, extra).text())
        assert found == proof(index, extra)
        assert notes.verify_proof(found, LEAVES[index], log=LOG.verifier) == CHECKPOINT
        with pytest.raises(merkle.ProofError):
            notes.verify_proof(found, LEAVES[(index + 1) % 5], log=LOG.verifier)


def test_a_proof_of_one_leaf_has_no_path() -> None:
    alone = Proof(0, (), Checkpoint(ORIGIN, 1, LEAVES[0]).signed(LOG))
    assert notes.verify_proof(notes.parse_proof(alone.text()), LEAVES[0], log=LOG.verifier).size == 1


@given(st.integers(0, 8 * len(proof().text().encode()) - 1))
def test_one_bit_anywhere_in_a_proof_is_noticed(bit: int) -> None:
    raw = bytearray(proof().text().encode())
    raw[bit // 8] ^= 1 << bit % 8

    with pytest.raises((NoteError, merkle.ProofError, UnicodeDecodeError)):
        notes.verify_proof(notes.parse_proof(raw.decode()), LEAVES[3], log=LOG.verifier)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nothing", ""),
        ("no signature", CHECKPOINT.text()),
        ("no newline at the end", NOTE[:-1]),
        ("an empty line more", NOTE + "\n"),
        ("a tab", NOTE.replace("\n5\n", "\n5\t\n")),
        ("a carriage return", NOTE.replace("\n", "\r\n")),
        ("a hyphen for the dash", NOTE.replace("\u2014", "-")),
        ("a signature of nothing", CHECKPOINT.text() + f"\n\u2014 {ORIGIN} \n"),
        ("a signature without value", CHECKPOINT.text() + f"\n\u2014 {ORIGIN} AAAAAA==\n"),
        ("too many signatures", NOTE + LOG.line(CHECKPOINT.text()) * 64),
        ("too long", NOTE + LOG.line("x\n") * 1_000),
    ],
    ids=lambda value: value if len(value) < 40 else "",
)
def test_what_is_no_note(name: str, text: str) -> None:
    with pytest.raises(NoteError):
        notes.checkpoint_of(text, log=LOG.verifier)


@pytest.mark.parametrize(
    "body",
    [
        f"{ORIGIN}\n05\nX\n",
        f"{ORIGIN}\n-5\nX\n",
        f"{ORIGIN}\n5\n",
        f"{ORIGIN}\n٥\nX\n",
        f"{ORIGIN}\n5\nAAAA\n",
    ],
    ids=["leading zero", "negative", "no root", "other digits", "short root"],
)
def test_what_is_no_checkpoint_although_signed(body: str) -> None:
    body = body.replace("X", base64.b64encode(ROOT).decode())
    with pytest.raises(NoteError):
        notes.checkpoint_of(f"{body}\n{LOG.line(body)}", log=LOG.verifier)


@pytest.mark.parametrize(
    "text",
    [
        "", "index 3\n\n" + NOTE, proof().text().replace("@v1", "@v2"),
        proof().text().replace("index 3", "index 03"),
        proof().text().replace("index 3", "index"), proof().text().replace("index 3", "number 3"),
        f"{notes.PROOF_HEADER}\n\n{NOTE}", proof().text().replace("\n\n", "\n"),
        Proof(3, tuple([ROOT] * 65), NOTE).text(), proof().text() + "x" * 70_000,
        proof().text().replace("index 3\n", "index 3\nAAAA\n"),
    ],
    ids=["empty", "no header", "other version", "leading zero", "no number", "other word", "no index",
         "no empty line", "path too long", "too long", "short hash"],
)  # fmt: skip
def test_what_is_no_proof(text: str) -> None:
    with pytest.raises(NoteError):
        notes.parse_proof(text)


@pytest.mark.parametrize("name", ["", "with blank", "with+plus", "line\nbreak"])
def test_names_that_no_line_can_carry(name: str) -> None:
    with pytest.raises(NoteError):
        Signer.of_seed(name, bytes(32))


@pytest.mark.parametrize(
    "text",
    ["", "name", "name+00000000", "name+00000000+AAAA", str(LOG.verifier)[:-4], f"{LOG.verifier}=",
     str(LOG.verifier).replace("log-1", "log-2")],
)  # fmt: skip
def test_what_is_no_public_key(text: str) -> None:
    with pytest.raises(NoteError):
        Verifier.parse(text)


@pytest.mark.parametrize("signer", [LOG, WITNESS], ids=["log", "witness"])
def test_public_keys_come_back(signer: Signer) -> None:
    assert Verifier.parse(str(signer.verifier)) == signer.verifier


def test_one_key_as_log_and_as_witness_has_two_ids() -> None:
    assert Verifier("n", bytes(32)).key_id != Verifier("n", bytes(32), cosigner=True).key_id


def test_base64_that_is_spelled_another_way_is_refused() -> None:
    # The last character before the padding carries bits that nobody reads.
    root = base64.b64encode(ROOT).decode()
    other = root[:-2] + chr(ord(root[-2]) + 1) + "="
    assert base64.b64decode(other) == ROOT
    body = CHECKPOINT.text().replace(root, other)
    with pytest.raises(NoteError, match="canonical"):
        notes.checkpoint_of(f"{body}\n{LOG.line(body)}", log=LOG.verifier)
