"""The rejects file: every line that was not taken, with its reason, ready to be corrected and looked at."""

from __future__ import annotations

import csv
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _

from . import files
from .files import SourceFile, UnusableFile
from .reasons import explain
from .staging import Staging

HEADER = ("file", "line", "reason", "explanation", "raw")
LONGEST_RAW = 500
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "|", "%")


def refuse_unusable(path: Path, sources: Sequence[SourceFile]) -> None:
    """Raise UnusableFile when `path` is something that the rejects must not take the place of.

    The file is put where `path` points to by a rename, which asks nobody: for the superuser it would turn
    /dev/null into a file, and one of the inputs into its own rejects.
    """
    try:
        is_plain = stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_plain:
        raise UnusableFile(_("The rejects file %(path)s is there and is no regular file.") % {"path": path})
    if any(path.samefile(source.path) for source in sources):
        raise UnusableFile(_("The rejects file %(path)s is one of the files to import.") % {"path": path})


def count(staging: Staging) -> int:
    """How many lines were not taken."""
    return int(staging.one("SELECT count(*) FROM import_reject")[0])


def write(staging: Staging, sources: Sequence[SourceFile], path: Path) -> None:
    """Write all rejects to `path` as CSV, by file and line. The file appears whole or not at all.

    The lines themselves are read again from the files: only their numbers were kept. Raises OSError.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(HEADER)
            for source in sources:
                writer.writerows(_rows(source, _rejects_of(staging, source)))
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def neutralise(text: str) -> str:
    """The text as a cell that a spreadsheet shows instead of computing."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA_STARTS) else text


def _rejects_of(staging: Staging, source: SourceFile) -> Iterator[tuple[Any, ...]]:
    query = "SELECT line, reason, detail FROM import_reject WHERE file = %s ORDER BY line"
    for rows in staging.stream(query, [source.kind], size=1_000):
        yield from rows


def _rows(source: SourceFile, rejects: Iterator[tuple[Any, ...]]) -> Iterator[tuple[str, int, str, str, str]]:
    """Join the rejects of one file, sorted by line, with the file's lines."""
    content = files.lines(source)
    for line, reason, detail in rejects:
        raw = next((raw for number, raw in content if number == line), b"")
        yield source.path.name, line, reason, neutralise(explain(reason, detail)), neutralise(_shown(raw))


def _shown(raw: bytes) -> str:
    """The line, shortened, with what cannot be shown as escapes."""
    text = raw[:LONGEST_RAW].decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
