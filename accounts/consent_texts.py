"""The texts that people agree to: which there are, for whom, for what, and their exact words.

A text is a file, `templates/consents/NAME.VERSION.LANGUAGE.txt`; its first line is its title. What was shown
to somebody is never changed: another wording is another version, which everybody is asked about again. The
digests here hold the files to that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from accounts.roles import Role

HABEAS_DATA: Final = "habeas_data"
DATA_PROCESSING: Final = "data_processing"
VENDOR_TERMS: Final = "vendor_terms"
_PEOPLE: Final = frozenset(Role) - {Role.SYSTEM}


@dataclass(frozen=True, slots=True)
class Document:
    """One text in its current version. `is_required`: the account is run on the strength of it.

    Purposes are words for programs (Ley 1581 de 2012, art. 9 and 12: consent names what for); `digests` is
    the SHA-256 of the file in each language.
    """

    name: str
    version: str
    purposes: tuple[str, ...]
    roles: frozenset[Role]
    is_required: bool
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Text:
    """A text as it is shown."""

    title: str
    body: str
    language: str
    sha256: str


CURRENT: Final[tuple[Document, ...]] = (
    Document(
        HABEAS_DATA, "2026-11", ("account", "commerce", "legal_duties", "fraud_prevention"), _PEOPLE, True,
        {
            "es": "c1af1d69e54a53ec0c53669acb806fdb9e7c5d0959409f3aab7553ab8cfb25e2",
            "en": "3209d70436eb475952f3da9d1041e795c6e80fd3e342ec7d66872667ca322ada",
        },
    ),
    Document(
        DATA_PROCESSING, "2026-11", ("commercial_messages", "statistics"), _PEOPLE, False,
        {
            "es": "d8c4f121bdefd609b0aafa5c3eff35d43c5c995d20579689fcfc926d2a01794c",
            "en": "2b8a033bf2274ea8797c896d3cf5a9b6b736976282cb51c075283d9bfda8a3ce",
        },
    ),
    Document(
        VENDOR_TERMS, "2026-11", ("sale_terms",), frozenset({Role.VENDOR}), True,
        {
            "es": "6da1212a5a09a5574910983914029e929efd54fa5342072028101c4545d44e02",
            "en": "5c8fc6fce8b87105826ce5a84e0de5b043d8a94dfb281ff20654407f186dfdc6",
        },
    ),
)  # fmt: skip


def find(name: str) -> Document | None:
    """Return the current version of a text."""
    return next((document for document in CURRENT if document.name == name), None)


def asked_of(role: Role) -> list[Document]:
    """Return the texts that somebody with this role is asked about."""
    return [document for document in CURRENT if role in document.roles]


def text_of(document: Document, language: str | None) -> Text:
    """Return the words of a text in `language`, else in the house's own.

    Raise ImproperlyConfigured when the file is not the one that was pinned.
    """
    short = (language or "").partition("-")[0]
    return _read(document.name, document.version, short if short in document.digests else _usual())


def file_of(document: Document, language: str) -> Path:
    """Return where a text stands."""
    name = f"{document.name}.{document.version}.{language}.txt"
    return Path(settings.BASE_DIR) / "templates" / "consents" / name


@cache
def _read(name: str, version: str, language: str) -> Text:
    document = next(one for one in CURRENT if (one.name, one.version) == (name, version))
    content = file_of(document, language).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != document.digests[language]:
        raise ImproperlyConfigured(f"{name} {version} ({language}) was changed: give it another version")
    title, _newline, body = content.decode("utf-8").partition("\n")
    return Text(title.strip(), body.strip(), language, digest)


def _usual() -> str:
    return str(settings.LANGUAGE_CODE).partition("-")[0]
