"""Who may act on signals. This app knows no accounts: the one that does registers its directory here.

Nothing registered, or a directory that fails, means nobody: then nobody can be made an owner, and the task
that tells people says in the log that there is nobody to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from monitoring.delivery import Mailbox

MOST = 20
"""How many people are told of one signal at most."""


@dataclass(frozen=True, slots=True)
class Responder:
    """A member of the staff who may act on signals now. `mailbox` is None for one without an address."""

    id: str
    label: str
    mailbox: Mailbox | None


class Directory(Protocol):
    """What the application with the accounts offers."""

    def everybody(self, most: int) -> Sequence[Responder]:
        """Return up to `most` people who may act on signals now."""

    def one(self, person: str) -> Responder | None:
        """Return the person with this id or address, if they may act on signals now."""


_directories: list[Directory] = []


def register(directory: Directory) -> None:
    """Let `directory` say who may act; called once, when its application starts."""
    _directories[:] = [directory]


def everybody() -> Sequence[Responder]:
    """Return those who are told of signals, at most `MOST`."""
    return _directories[0].everybody(MOST) if _directories else ()


def one(person: str) -> Responder | None:
    """Return the person with this id or address, if they may act on signals; None otherwise."""
    return _directories[0].one(person) if _directories and person else None
