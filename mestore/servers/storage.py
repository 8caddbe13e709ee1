"""Where the servers' files live, who owns them, and how they go away."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mestore.servers.errors import ServersUnavailableError

# Where root's kept clusters go when the wanted folder cannot be reached by the server's unprivileged user.
SYSTEM_FOLDER = Path("/var/lib/mestore-demo")
POINTER = "servers.location"
STATE = "servers.json"
LOCK = "servers.lock"


@dataclass(frozen=True)
class Account:
    """The operating system's user that runs a server; None fields mean: whoever we are."""

    name: str | None = None
    uid: int | None = None
    gid: int | None = None

    def own(self, *paths: Path) -> None:
        """Hand paths to this user, when we are somebody else."""
        if self.uid is not None and self.gid is not None:
            for path in paths:
                os.chown(path, self.uid, self.gid)


def account(*names: str) -> Account:
    """The first of `names` that exists, when we are root; ourselves otherwise. Servers never run as root."""
    if os.geteuid() != 0:
        return Account()
    for name in names:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise ServersUnavailableError(
        f"running as root needs one of the users {', '.join(names)}: install the package"
    )


def temporary() -> Path:
    """A new folder that other users may pass through but not list."""
    directory = Path(tempfile.mkdtemp(prefix="mestore-servers-"))
    directory.chmod(0o711)
    return directory


def kept(directory: Path) -> Path:
    """The folder for the servers of `directory`: below it, or, for root, where another user can reach it.

    Permissions of folders that are not ours are never widened: a checkout below /root stays closed, and the
    servers' files go to /var/lib, remembered by a pointer file so that `remove` finds them.
    """
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    pointer = directory / POINTER
    if pointer.is_file():
        home = Path(pointer.read_text().strip())
    elif os.geteuid() != 0 or _reachable(directory):
        home = directory / "servers"
    else:
        home = SYSTEM_FOLDER / hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
        SYSTEM_FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
        pointer.write_text(f"{home}\n")
    home.mkdir(mode=0o711, exist_ok=True)
    home.chmod(0o711)
    return home


def remove(directory: Path) -> None:
    """Delete the servers of a stopped `directory`, data included. Raises when they are running."""
    directory = directory.resolve()
    pointer = directory / POINTER
    home = Path(pointer.read_text().strip()) if pointer.is_file() else directory / "servers"
    if home.is_dir():
        os.close(lock(home))
        shutil.rmtree(home)
    pointer.unlink(missing_ok=True)


def lock(home: Path) -> int:
    """Take the folder for ourselves; the lock lasts as long as anybody has the descriptor open."""
    descriptor = os.open(home / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ServersUnavailableError(
            f"the servers in {home} are already running: stop them first"
        ) from error
    return descriptor


def load_state(home: Path) -> dict[str, Any]:
    """What the last start remembered (passwords, ports); empty for a new folder."""
    file = home / STATE
    if not file.is_file():
        return {}
    state: dict[str, Any] = json.loads(file.read_text())
    return state


def save_state(home: Path, state: dict[str, Any]) -> None:
    """Write the state whole or not at all, readable by us alone."""
    write_private(home / STATE, json.dumps(state, indent=1).encode())


def write_private(path: Path, content: bytes, owner: Account | None = None) -> None:
    """Write a file of mode 600 that never existed with other rights or half its content."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if owner is not None:
        owner.own(draft)
    draft.replace(path)


def _reachable(directory: Path) -> bool:
    """May any user walk down to `directory`?"""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (directory, *directory.parents))
