"""The witness: a small program elsewhere that remembers how large the log was, and lets it only grow.

It is asked over HTTP (C2SP tlog-witness): `POST /add-checkpoint` with the size it saw last, the proof that
the log has only grown since, and the new checkpoint. It answers with its cosignature, or refuses a log that
shrank or forked. `GET /checkpoint/<sha256 of the origin>` gives what it cosigned last, so that an auditor
need not ask the log's own database.

It needs neither the service's settings nor its database, only a key of its own, the public keys of the logs
that it watches, and a folder: `python -m monitoring.witness --help`, or `manage.py audit_witness`. What it
remembers is on the disk before it answers.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import hashlib
import os
import re
import signal
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from mestore.lib import merkle, notes
from mestore.lib.notes import Checkpoint, NoteError, NotSigned, Signer, Verifier

LARGEST_BODY: Final = 65_536
MOST_PROOF_LINES: Final = 63
REQUEST_SECONDS: Final = 10.0
TEXT: Final = "text/plain; charset=utf-8"
SIZE_TEXT: Final = "text/x.tlog.size"
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})", re.ASCII)


class StoreDamaged(RuntimeError):
    """What the witness remembered cannot be read: it cosigns nothing rather than begin anew."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered: an HTTP status, a body, and its type."""

    status: int
    body: str = ""
    content_type: str = TEXT


class Store:
    """The newest cosigned checkpoint of each log, a file each, in a folder that one process holds."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._lock = (folder / "lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise StoreDamaged("another witness holds this folder") from None

    def close(self) -> None:
        self._lock.close()

    def note(self, origin: str) -> str:
        """Return the last note; "" for a log that was never seen. Raises StoreDamaged."""
        try:
            return self._file(origin).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise StoreDamaged("a remembered checkpoint cannot be read") from error

    def keep(self, origin: str, note: str) -> None:
        """Remember `note`; on the disk when this returns."""
        file = self._file(origin)
        beside = file.with_suffix(".new")
        with beside.open("w", encoding="utf-8") as out:
            out.write(note)
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
        directory = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _file(self, origin: str) -> Path:
        return self._folder / f"{name_of(origin)}.checkpoint"


def name_of(origin: str) -> str:
    """Return by what a log is named in files and addresses."""
    return hashlib.sha256(origin.encode()).hexdigest()


class Witness:
    """Watches the logs whose public keys it was given, and no others."""

    def __init__(
        self, signer: Signer, logs: Sequence[Verifier], store: Store, now: Callable[[], float] = time.time
    ) -> None:
        self._signer, self._store, self._now = signer, store, now
        self._logs = {log.name: log for log in logs}
        self._one_at_a_time = threading.Lock()

    @property
    def key(self) -> Verifier:
        return self._signer.verifier

    def add_checkpoint(self, body: str) -> Reply:
        """Answer a request to cosign, as the standard says for each case. Raises StoreDamaged."""
        try:
            old, proof, note = _parse(body)
            origin = note.partition("\n")[0]
            log = self._logs.get(origin)
            if log is None:
                return Reply(404, "this log is not watched\n")
            new = notes.checkpoint_of(note, log=log)
        except NotSigned as error:
            return Reply(403, f"{error}\n")
        except NoteError as error:
            return Reply(400, f"{error}\n")
        if old > new.size:
            return Reply(400, "the old size is larger than the checkpoint's\n")
        with self._one_at_a_time:
            return self._judge(new, old, proof, note)

    def checkpoint(self, name: str) -> Reply:
        """Answer what was cosigned last of the log with this name (`name_of`)."""
        for origin in self._logs:
            if name_of(origin) == name and (note := self._store.note(origin)):
                return Reply(200, note)
        return Reply(404, "nothing was cosigned under this name\n")

    def _judge(self, new: Checkpoint, old: int, proof: Sequence[bytes], note: str) -> Reply:
        seen = self._seen(new.origin)
        if old != seen.size:
            return Reply(409, f"{seen.size}\n", SIZE_TEXT)
        if new.size == seen.size and new.root != seen.root:
            return Reply(409, f"{seen.size}\n", SIZE_TEXT)
        try:
            merkle.verify_consistency(old, new.size, proof, seen.root, new.root)
        except merkle.ProofError as error:
            return Reply(422, f"{error}\n")
        text = notes.parse(note).text
        line = self._signer.line(text, at=int(self._now()))
        # Remembered first: a cosignature that left while its memory was lost could be contradicted.
        self._store.keep(new.origin, f"{_without_others(note, self._logs[new.origin])}{line}")
        return Reply(200, line)

    def _seen(self, origin: str) -> Checkpoint:
        note = self._store.note(origin)
        if not note:
            return Checkpoint(origin, 0, merkle.EMPTY_ROOT)
        try:
            found = notes.checkpoint_of(note, log=self._logs[origin])
            if not notes.cosigned_at(note, [self.key]):
                raise StoreDamaged("a remembered checkpoint does not carry our own cosignature")
        except NoteError as error:
            raise StoreDamaged("a remembered checkpoint does not verify") from error
        return found


def _parse(body: str) -> tuple[int, list[bytes], str]:
    head, blank, note = body.partition("\n\n")
    lines = head.split("\n")
    first = _OLD.fullmatch(lines[0])
    if not blank or first is None or len(lines) - 1 > MOST_PROOF_LINES:
        raise NoteError("the request has another form")
    return int(first[1]), [_hash(line) for line in lines[1:]], note


def _hash(line: str) -> bytes:
    try:
        raw = base64.b64decode(line, validate=True)
    except ValueError:
        raise NoteError("a line of the request's path is no base64") from None
    if len(raw) != merkle.HASH_BYTES:
        raise NoteError("a hash has 32 bytes")
    return raw


def _without_others(note: str, log: Verifier) -> str:
    """Return the note with the log's own lines only: what others put below it is not ours to keep."""
    parsed = notes.parse(note)
    mine = [one for one in parsed.signatures if (one.name, one.key_id) == (log.name, log.key_id)]
    lines = "".join(
        f"\u2014 {one.name} {base64.b64encode(one.key_id + one.value).decode('ascii')}\n" for one in mine
    )
    return f"{parsed.text}\n{lines}"


# --- The process ------------------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    """One request; anything unexpected is a 500 without words, and nothing is cosigned."""

    witness: Witness
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "witness", ""
    timeout = REQUEST_SECONDS

    def do_POST(self) -> None:
        self._answer(self._add)

    def do_GET(self) -> None:
        self._answer(self._get)

    def _add(self) -> Reply:
        length = self.headers.get("Content-Length", "")
        if self.path != "/add-checkpoint":
            return Reply(404)
        if not length.isdecimal() or not length.isascii() or int(length) > LARGEST_BODY:
            self.close_connection = True
            return Reply(413 if length.isdecimal() else 411)
        try:
            return self.witness.add_checkpoint(self.rfile.read(int(length)).decode())
        except UnicodeDecodeError:
            return Reply(400)

    def _get(self) -> Reply:
        if self.path == "/key":
            return Reply(200, f"{self.witness.key}\n")
        return self.witness.checkpoint(self.path.removeprefix("/checkpoint/"))

    def _answer(self, act: Callable[[], Reply]) -> None:
        try:
            reply = act()
        except StoreDamaged as error:
            self.log_error("%s", error)
            reply = Reply(500)
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body.encode())))
        self.end_headers()
        self.wfile.write(reply.body.encode())

    def log_message(self, template: str, *values: Any) -> None:
        sys.stderr.write(f"{self.address_string()} {template % values}\n".replace("\x1b", ""))


@contextlib.contextmanager
def serving(
    witness: Witness, address: tuple[str, int], *, certificate: str = "", key: str = ""
) -> Iterator[ThreadingHTTPServer]:
    """Serve the witness at `address`, in threads, until the block ends; over TLS with a certificate."""

    class Handler(_Handler):
        pass

    Handler.witness = witness
    server = ThreadingHTTPServer(address, Handler)
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate, key or None)
        # The handshake belongs to the connection's own thread: one silent client must not hold the others.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what both ways to start the witness ask for."""
    parser.add_argument("--name", required=True, help="the witness's name, for example its host name")
    parser.add_argument("--key-file", required=True, type=Path, help="file with its Ed25519 seed, base64")
    parser.add_argument("--new-key", action="store_true", help="make the key file, print the public key, end")
    parser.add_argument("--store", type=Path, help="folder for what it remembers; on a disk of its own")
    parser.add_argument("--log", action="append", default=[], help="public key of a log to watch; repeatable")
    parser.add_argument("--listen", default="127.0.0.1:8444", help="address:port (default %(default)s)")
    parser.add_argument("--certificate", default="", help="PEM file with certificate chain: serve TLS")
    parser.add_argument("--certificate-key", default="", help="PEM file with its private key")


def start(given: argparse.Namespace, say: Callable[[str], object]) -> None:
    """Run the witness until SIGTERM or SIGINT. Raises NoteError, StoreDamaged, OSError, ValueError."""
    if given.new_key:
        _make_key(given.key_file)
    seed = base64.b64decode(given.key_file.read_text(encoding="ascii").strip(), validate=True)
    signer = Signer.of_seed(given.name, seed, cosigner=True)
    if given.new_key:
        say(str(signer.verifier))
        return
    if not given.log or given.store is None:
        raise ValueError("name at least one log, and the folder for what the witness remembers")
    host, _colon, port = given.listen.rpartition(":")
    store = Store(given.store)
    witness = Witness(signer, [Verifier.parse(log) for log in given.log], store)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_args: stop.set())
    with (
        contextlib.closing(store),
        serving(
            witness, (host, int(port)), certificate=given.certificate, key=given.certificate_key
        ) as server,
    ):
        say(f"witness {signer.verifier} at {host}:{server.server_address[1]}")
        stop.wait()


def _make_key(file: Path) -> None:
    """Write a new key, readable by its owner only; an existing one is never replaced."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(base64.b64encode(os.urandom(32)).decode("ascii") + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the witness without the service; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.witness", description=__doc__)
    add_arguments(parser)
    given = parser.parse_args(arguments)

    def say(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    try:
        start(given, say)
    except (NoteError, StoreDamaged, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
