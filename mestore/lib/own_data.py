"""What the house keeps about a person, section by section: each app contributes what it knows.

An app registers its sections when Django starts; whoever makes the archive that a person asks for
(`accounts/archives.py`) walks them all and imports none of those apps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

Row = Mapping[str, Any]

_NAME = re.compile(r"[a-z][a-z_]{1,39}")


@dataclass(frozen=True, slots=True)
class Section:
    """One file of the archive: its name without extension, what it holds (English), and its rows.

    `rows` receives the account's id, is called inside of a transaction and yields rows that
    `mestore.lib.http.dumps` can write, never holding many of them at a time.
    """

    name: str
    about: str
    rows: Callable[[UUID], Iterator[Row]]


_sections: dict[str, Section] = {}


def register(section: Section) -> None:
    """Make a section known. Raise ValueError for a bad name, RuntimeError for a second one of its name."""
    if not _NAME.fullmatch(section.name) or section.name == "index":
        raise ValueError(f"{section.name!r} cannot name a file of the archive")
    if _sections.setdefault(section.name, section) != section:
        raise RuntimeError(f"the section {section.name!r} is registered already")


def forget(name: str) -> None:
    """Take a section out again; nothing happens when there is none."""
    _sections.pop(name, None)


def sections() -> list[Section]:
    """Return every section, by name."""
    return [_sections[name] for name in sorted(_sections)]
