"""The demo's folder: its keys, what was prepared, and the environment of every process that works on it."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mestore import servers
from mestore.demo import keys
from mestore.servers.storage import write_private

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_FOLDER = ROOT / ".demo"
STATE = "state.json"
ORIGIN = "localhost/audit"
# The last of them: a demo of an older schema is migrated, one of this schema starts without asking.
MIGRATED_PACKAGES = ("accounts", "finance", "monitoring", "sessions_security")


@dataclass
class State:
    """What the folder remembers between two starts."""

    keys: dict[str, str] = field(default_factory=keys.generate)
    people: dict[str, Any] = field(default_factory=dict)
    schema: str = ""

    def save(self, folder: Path) -> None:
        content = {"keys": self.keys, "people": self.people, "schema": self.schema}
        write_private(folder / STATE, json.dumps(content, indent=1).encode())


def load(folder: Path) -> State:
    """The folder's state, new (and saved) when there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / STATE
    if file.is_file():
        return State(**json.loads(file.read_text()))
    state = State()
    state.save(folder)
    return state


def delete(folder: Path) -> None:
    """Remove a stopped demo with its data. A folder that is no demo's is left alone."""
    if folder.is_dir() and (folder / STATE).is_file():
        servers.remove(folder)
        shutil.rmtree(folder)


def environment(folder: Path, state: State, addresses: dict[str, str], port: int) -> dict[str, str]:
    """The variables of the settings for this demo."""
    return (
        state.keys
        | addresses
        | {
            "MESTORE_ENV": "demo",
            "MESTORE_PUBLIC_URL": f"http://localhost:{port}",
            "MESTORE_ALLOWED_HOSTS": "localhost,127.0.0.1",
            "MESTORE_STATIC_ROOT": str(folder / "static"),
            "MESTORE_AUDIT_ORIGIN": ORIGIN,
            "MESTORE_AUDIT_RECEIPTS": str(folder / "receipts.jsonl"),
            "MESTORE_AUDIT_SPOOL": str(folder / "spool"),
            "MESTORE_AUDIT_ANCHOR_DIR": str(folder / "anchors"),
        }
    )


def process_environment(variables: dict[str, str]) -> dict[str, str]:
    """`variables` on top of our own environment, in which nothing may contradict them."""
    replaced = set(variables) | {f"{name}_FILE" for name in variables} | {"REDIS_URL", "REDIS_URL_FILE"}
    inherited = {name: value for name, value in os.environ.items() if name not in replaced}
    return inherited | variables | {"DJANGO_SETTINGS_MODULE": "mestore.settings", "PYTHONUNBUFFERED": "1"}


def write_env_file(folder: Path, variables: dict[str, str]) -> Path:
    """Write the file that lets any other command work on the running demo; only its owner may read it."""
    file = folder / "env"
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in sorted(variables.items())]
    write_private(file, "".join(lines).encode())
    return file


def schema_fingerprint() -> str:
    """A digest of everything that decides what the schema looks like."""
    digest = hashlib.sha256()
    files = [file for name in MIGRATED_PACKAGES for file in sorted((ROOT / name / "migrations").glob("*.py"))]
    for file in [*files, ROOT / "requirements.txt"]:
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
