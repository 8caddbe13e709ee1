"""The witness cosigns a log that only grew. Shrunk, forked, forged, raced, restarted, damaged: refused."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mestore.lib import merkle, notes
from mestore.lib.notes import Checkpoint, Signer
from monitoring import witness
from monitoring.witness import Reply, Store, StoreDamaged, Witness

ORIGIN = "mestore.example/audit/log-1"
LOG = Signer.of_seed(ORIGIN, bytes(range(32)))
OTHER = Signer.of_seed("other.example/log", bytes([3]) * 32)
SIGNER = Signer.of_seed("witness.example/w1", bytes([7]) * 32, cosigner=True)
NOW = 1_700_000_000
LEAVES = [merkle.leaf_hash(bytes([number])) for number in range(40)]
FORKED = [*LEAVES[:5], merkle.leaf_hash(b"another"), *LEAVES[6:]]


def over(leaves: list[bytes]) -> merkle.RangeHash:
    return lambda begin, end: merkle.root(leaves[begin:end])


def asking(
    old: int,
    new: int,
    leaves: list[bytes] = LEAVES,
    *,
    signer: Signer = LOG,
    proof: list[bytes] | None = None,
) -> str:
    path = merkle.consistency_proof(old, new, over(leaves)) if proof is None else proof
    lines = "".join(f"{base64.b64encode(part).decode()}\n" for part in path)
    note = Checkpoint(signer.name, new, merkle.root(leaves[:new])).signed(signer)
    return f"old {old}\n{lines}\n{note}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with contextlib.closing(Store(tmp_path / "store")) as found:
        yield found


@pytest.fixture
def watching(store: Store) -> Witness:
    return Witness(SIGNER, [LOG.verifier], store, now=lambda: NOW)


def seen_size(found: Witness) -> int:
    reply = found.checkpoint(witness.name_of(ORIGIN))
    return notes.checkpoint_of(reply.body, log=LOG.verifier).size if reply.status == 200 else 0


def test_a_log_that_grows_is_cosigned_each_time(watching: Witness) -> None:
    for old, new in ((0, 1), (1, 7), (7, 8), (8, 8), (8, 40)):
        reply = watching.add_checkpoint(asking(old, new))
        assert reply.status == 200
        note = asking(old, new).partition("\n\n")[2] + reply.body
        assert notes.cosigned_at(note, [SIGNER.verifier]) == {SIGNER.name: NOW}

    kept = watching.checkpoint(witness.name_of(ORIGIN))
    assert notes.checkpoint_of(kept.body, log=LOG.verifier).size == 40
    assert notes.cosigned_at(kept.body, [SIGNER.verifier]) == {SIGNER.name: NOW}


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("shrunk", asking(8, 8).replace("old 8", "old 5"), 409),
        ("shrunk, old size admitted", asking(5, 5), 409),
        (
            "a smaller checkpoint",
            asking(8, 8).split("\n\n")[0] + "\n\n" + asking(0, 5).split("\n\n", 1)[1],
            400,
        ),
        ("begun anew", asking(0, 20), 409),
        ("forked", asking(8, 20, FORKED), 422),
        ("forked at the same size", asking(8, 8, FORKED), 409),
        ("no proof", asking(8, 20, proof=[]), 422),
        ("a proof for nothing", asking(8, 8, proof=[LEAVES[0]]), 422),
        ("signed by somebody else", asking(8, 20, signer=Signer.of_seed(ORIGIN, bytes(32))), 403),
        ("another log", asking(8, 20, signer=OTHER), 404),
        ("changed after signing", asking(8, 20).replace("\n20\n", "\n21\n"), 403),
        ("nothing", "", 400),
        ("no old size", asking(8, 20).replace("old 8\n", ""), 400),
        ("leading zero", asking(8, 20).replace("old 8", "old 08"), 400),
        ("too many lines", asking(8, 20, proof=[LEAVES[0]] * 64), 400),
        ("no base64", asking(8, 20).replace("old 8\n", "old 8\n!!!!\n"), 400),
        ("a short hash", asking(8, 20).replace("old 8\n", "old 8\nAAAA\n"), 400),
        ("no checkpoint", "old 8\n\nhello\n", 404),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 and "\n" not in value else "",
)
def test_what_is_refused(watching: Witness, name: str, body: str, status: int) -> None:
    watching.add_checkpoint(asking(0, 8))

    reply = watching.add_checkpoint(body)

    assert reply.status == status, reply
    assert SIGNER.name not in reply.body
    assert seen_size(watching) == 8
    if status == 409:
        assert reply == Reply(409, "8\n", witness.SIZE_TEXT)


def test_after_a_restart_it_knows_what_it_saw(tmp_path: Path) -> None:
    for old, new in ((0, 8), (8, 20)):
        with contextlib.closing(Store(tmp_path / "store")) as store:
            again = Witness(SIGNER, [LOG.verifier], store, now=lambda: NOW)
            assert again.add_checkpoint(asking(old, new)).status == 200
    with contextlib.closing(Store(tmp_path / "store")) as store:
        assert Witness(SIGNER, [LOG.verifier], store).add_checkpoint(asking(8, 20)).status == 409


def test_two_histories_at_once_one_is_cosigned(watching: Witness) -> None:
    """Of simultaneous forks one wins; the witness never has signed both."""
    barrier = threading.Barrier(8)

    def ask(number: int) -> Reply:
        barrier.wait(120)
        return watching.add_checkpoint(asking(0, 20, LEAVES if number % 2 else FORKED))

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(ask, range(8)))

    assert sorted(reply.status for reply in replies) == [200] + [409] * 7


@pytest.mark.parametrize("damage", ["cut", "foreign", "without cosignature", "bytes", "folder"])
def test_a_damaged_memory_cosigns_nothing(watching: Witness, tmp_path: Path, damage: str) -> None:
    watching.add_checkpoint(asking(0, 8))
    (file,) = (tmp_path / "store").glob("*.checkpoint")
    note = file.read_text(encoding="utf-8")
    if damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(
            {
                "cut": note[:-20].encode(),
                "foreign": note.replace("\n8\n", "\n0\n").encode(),
                "without cosignature": "\n".join([*note.split("\n")[:-2], ""]).encode(),
                "bytes": b"\xff" * 50,
            }[damage]
        )
    with pytest.raises(StoreDamaged):
        watching.add_checkpoint(asking(8, 20))


def test_one_folder_has_one_witness(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreDamaged):
        Store(tmp_path / "store")


def test_lines_of_others_are_not_kept(watching: Witness) -> None:
    stranger = Signer.of_seed("stranger.example", bytes([9]) * 32, cosigner=True)
    body = asking(0, 8)
    watching.add_checkpoint(body + stranger.line(notes.parse(body.partition("\n\n")[2]).text, at=1))

    assert "stranger" not in watching.checkpoint(witness.name_of(ORIGIN)).body


# --- Over HTTP --------------------------------------------------------------------------------------------


@pytest.fixture
def port(watching: Witness) -> Iterator[int]:
    with witness.serving(watching, ("127.0.0.1", 0)) as server:
        yield int(server.server_address[1])


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_over_http(port: int) -> None:
    assert ask(port, "GET", f"/checkpoint/{witness.name_of(ORIGIN)}")[0] == 404
    assert ask(port, "POST", "/add-checkpoint", asking(0, 8).encode())[0] == 200
    assert ask(port, "POST", "/add-checkpoint", asking(0, 8).encode()) == (409, "8\n")
    assert ask(port, "GET", "/key") == (200, f"{SIGNER.verifier}\n")
    status, note = ask(port, "GET", f"/checkpoint/{witness.name_of(ORIGIN)}")
    assert status == 200
    assert notes.checkpoint_of(note, log=LOG.verifier).size == 8


@pytest.mark.parametrize(
    ("path", "body", "length", "status"),
    [
        ("/other", b"x", "1", 404), ("/add-checkpoint", b"\xff\xff", "2", 400),
        ("/add-checkpoint", b"", "0", 400),
        ("/add-checkpoint", b"x", "99999999", 413), ("/add-checkpoint", b"x", "many", 411),
        ("/add-checkpoint", b"x", "-5", 411), ("/checkpoint/../../etc/passwd", b"", "0", 404),
    ],
)  # fmt: skip
def test_bad_requests(port: int, path: str, body: bytes, length: str, status: int) -> None:
    assert ask(port, "POST", path, body, **{"Content-Length": length})[0] == status
    assert ask(port, "POST", "/add-checkpoint", asking(0, 8).encode())[0] == 200


def test_one_silent_client_does_not_hold_the_others(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as silent:
        silent.sendall(b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
        assert ask(port, "POST", "/add-checkpoint", asking(0, 8).encode())[0] == 200


def finished(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env={}, capture_output=True, text=True, timeout=300, check=False)


def test_the_program_alone(tmp_path: Path) -> None:
    """Without the service's environment: key, start, answer, stop."""
    key, store = str(tmp_path / "key"), str(tmp_path / "store")
    command = [sys.executable, "-m", "monitoring.witness", "--name", "w.example/w1", "--key-file", key]
    options = ["--store", store, "--log", str(LOG.verifier), "--listen", "127.0.0.1:0"]
    made, again = finished([*command, "--new-key"]), finished([*command, "--new-key"])
    assert made.stdout.startswith("w.example/w1+")
    assert (again.returncode, Path(key).stat().st_mode & 0o777) == (2, 0o600)

    running = subprocess.Popen(
        [*command, *options], env={}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert running.stdout is not None
        port = int(running.stdout.readline().rsplit(":", 1)[1])
        assert ask(port, "POST", "/add-checkpoint", asking(0, 8).encode())[0] == 200
        held = finished([*command, *options])
        assert (held.returncode, "another witness" in held.stderr) == (2, True)
    finally:
        running.terminate()
        assert running.wait(120) == 0


@pytest.mark.parametrize("arguments", [[], ["--log", "nonsense"], ["--log", str(LOG.verifier)]])
def test_a_witness_that_would_watch_nothing_does_not_start(tmp_path: Path, arguments: list[str]) -> None:
    key = tmp_path / "key"
    assert witness.main(["--name", "w", "--key-file", str(key), "--new-key"]) == 0
    store = ["--store", str(tmp_path / "s")] if arguments == ["--log", "nonsense"] else []
    assert witness.main(["--name", "w", "--key-file", str(key), *store, *arguments]) == 2
