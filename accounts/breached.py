"""Is this password known to those who guess? The shipped list, and with it the leaks that an operator loaded.

The shipped list (`data/common_passwords.txt`, made by `manage.py build_password_list`) is compared without
case. The leaks are one file of sorted 8-byte beginnings of SHA-1 hashes, made by `manage.py
load_breached_passwords` from a Have I Been Pwned dump and named by the setting BREACHED_PASSWORDS: a
thousand million of them are 8 GB on disk and a few pages in memory. Nothing is asked over the network.

A list that is missing, cut or altered accepts nothing: PasswordListAway.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import IO

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from accounts.password_rules import LONG, folded
from mestore.lib import errors

DATA = Path(__file__).with_name("data")
LIST = DATA / "common_passwords.txt"
ROOTS = DATA / "password_roots.txt"
HEADING = "# Made by `manage.py build_password_list`; do not edit.\n"
ENOUGH = 3_000
"""So many entries of fifteen characters and more the list must have, or it is not the list."""

MAGIC = b"MSHIBP01"
PREFIX = 8
"""Bytes of each hash that are kept: a chance hit among 10^9 is one in ten thousand million."""
_HEADER = struct.Struct(">8sQ")


class PasswordListAway(errors.SecurityServiceFailure):
    """The list of known passwords cannot be read, so no new password can be judged."""

    message = _("New passwords cannot be checked at the moment. Please try again later.")


class NotADump(ValueError):
    """A line of the dump is not `SHA-1[:count]`, or the lines are not in the order of their hashes."""


def is_known(password: str) -> bool:
    """Say whether `password` is on the shipped list or among the loaded leaks. Raises PasswordListAway."""
    return folded(password) in common() or _is_leaked(password)


def common() -> frozenset[str]:
    """Return the shipped list. Raises PasswordListAway, on every call, when it is not whole."""
    return _common(LIST)


def check() -> None:
    """Raise PasswordListAway unless every list that the settings name can be asked."""
    common()
    if settings.BREACHED_PASSWORDS:
        _leaks(settings.BREACHED_PASSWORDS)


def write(hashes: Iterable[bytes], target: Path, *, limit: int | None = None) -> int:
    """Write the file of leaks from SHA-1 hashes in ascending order; return how many it holds.

    The file appears whole or not at all, and memory does not grow with it. Raises NotADump for hashes out
    of order, or none.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            count = _write_all(hashes, file, limit)
            file.flush()
            os.fsync(file.fileno())
        if not count:
            raise NotADump("it holds no passwords")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return count


def _write_all(hashes: Iterable[bytes], file: IO[bytes], limit: int | None) -> int:
    file.write(_HEADER.pack(MAGIC, 0))
    count, before = 0, b""
    for full in hashes:
        prefix = full[:PREFIX]
        if prefix < before:
            raise NotADump("the hashes are not in ascending order")
        if prefix != before:
            file.write(prefix)
            count += 1
            before = prefix
        if limit is not None and count >= limit:
            break
    file.seek(0)
    file.write(_HEADER.pack(MAGIC, count))
    return count


@lru_cache(maxsize=4)
def _common(path: Path) -> frozenset[str]:
    # lru_cache keeps no exceptions: a list that comes back is read again.
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PasswordListAway from error
    found = frozenset(line for line in lines[1:] if line)
    if sum(len(entry) >= LONG for entry in found) < ENOUGH:
        raise PasswordListAway
    return found


@dataclass(frozen=True, slots=True)
class _Leaks:
    """The opened file: `count` sorted prefixes after the header."""

    pages: mmap.mmap
    count: int

    def has(self, prefix: bytes) -> bool:
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            start = _HEADER.size + middle * PREFIX
            held = self.pages[start : start + PREFIX]
            if held == prefix:
                return True
            low, high = (middle + 1, high) if held < prefix else (low, middle)
        return False


def _is_leaked(password: str) -> bool:
    path: str = settings.BREACHED_PASSWORDS
    if not path:
        return False
    # SHA-1 is the dump's key, not a protection; a lone surrogate is no text and in no dump.
    digest = hashlib.sha1(password.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return _leaks(path).has(digest[:PREFIX])


def _leaks(path: str) -> _Leaks:
    """Open the file of leaks; a file that was replaced is opened anew. Raises PasswordListAway."""
    try:
        state = Path(path).stat()
        return _opened(path, state.st_ino, state.st_size, state.st_mtime_ns)
    except (OSError, ValueError, struct.error) as error:
        raise PasswordListAway from error


@cache
def _opened(path: str, _inode: int, size: int, _changed: int) -> _Leaks:
    with Path(path).open("rb") as file:
        magic, count = _HEADER.unpack(file.read(_HEADER.size))
        if magic != MAGIC or not count or size != _HEADER.size + count * PREFIX:
            raise ValueError("not a whole file of leaks")
        return _Leaks(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), count)
