"""The demo's witness of the audit log: a process of its own, with a key and a memory of its own.

On one machine it guards against nobody who holds the machine; it shows how it is done. It knows none of the
demo's secrets: only the public key of the log.
"""

from __future__ import annotations

import base64
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from mestore.demo.installation import ROOT
from mestore.lib.notes import Signer
from mestore.servers import ports
from mestore.servers.storage import write_private

HOST = "127.0.0.1"
NAME = "witness.demo"
LOGS = (1, 2, 3)
"""Whoever tries out the ceremony of a new log need not restart it."""


@dataclass(frozen=True, slots=True)
class Witness:
    """Where the witness listens, who it is, and how it is started."""

    address: str
    key: str
    command: list[str]

    @property
    def configured(self) -> str:
        """What MESTORE_AUDIT_WITNESSES says of it."""
        return f"http://{self.address} {self.key}"


def prepare(folder: Path, *, origin: str, signing_key: str) -> Witness:
    """Make the witness's key and folder, unless they are there, and choose a free port for it."""
    home = folder / "witness"
    home.mkdir(mode=0o700, exist_ok=True)
    key_file = home / "key"
    if not key_file.is_file():
        write_private(key_file, base64.b64encode(secrets.token_bytes(32)) + b"\n")
    signer = Signer.of_seed(NAME, base64.b64decode(key_file.read_text()), cosigner=True)
    seed = base64.b64decode(signing_key)
    address = f"{HOST}:{ports.free()}"
    command = [
        sys.executable, "-m", "monitoring.witness", "--name", NAME, "--key-file", str(key_file),
        "--store", str(home / "memory"), "--listen", address,
    ]  # fmt: skip
    for number in LOGS:
        command += ["--log", str(Signer.of_seed(f"{origin}/log-{number}", seed).verifier)]
    return Witness(address, str(signer.verifier), command)


def environment() -> dict[str, str]:
    """Return all that the witness's process inherits: nothing of the service."""
    kept = ("PATH", "HOME", "LANG", "VIRTUAL_ENV")
    inherited = {name: os.environ[name] for name in kept if name in os.environ}
    return inherited | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
