"""The tables of docs/authorisation.md, read; and a caller who tries every route."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.test import Client
from django.urls import resolve

from accounts.models import User
from accounts.roles import Role
from mestore.lib.http import dumps
from mestore.urls import OPEN
from tests.contract.routes import SAMPLES, every_route
from tests.factories import administration
from tests.factories.accounts import AdminFactory, BuyerFactory, SuperuserFactory, VendorFactory
from tests.factories.sessions_security import machine, machine_bearer

DOCUMENTS = Path(settings.BASE_DIR) / "docs"
METHODS = ("get", "post", "put", "patch", "delete")
ROLES = tuple(Role)
FACTORIES: dict[Role, Any] = {
    Role.BUYER: BuyerFactory,
    Role.VENDOR: VendorFactory,
    Role.ADMIN: AdminFactory,
    Role.SUPERUSER: SuperuserFactory,
}
_ALIASES = ("default", "audit")
# What counts as "no"; every other answer is given to somebody who was let in.
_REFUSED = {401, 403}
# Where the body is read before the use case asks who is calling.
_BODIES = {"vendors-documents": {"document_type": "rut", "file_name": "rut.pdf", "sha256": "0" * 64}}


@dataclass(frozen=True)
class Call:
    """One method of one API route."""

    name: str
    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.name}"

    @property
    def documented_path(self) -> str:
        """The address as the document writes it."""
        path = re.sub(r"(?<!/tile)/1(?=/|$)", "/{id}", self.path.replace(SAMPLES["uuid"], "{id}"))
        return re.sub(r"/x(?=/|$)", "/{word}", path)


@dataclass(frozen=True)
class Row:
    """One line of the matrix: "yes", "grant" or "–" per role, and the permission that "grant" speaks of."""

    path: str
    cells: dict[Role, str]
    permission: str


def table(document: str, heading: str) -> list[list[str]]:
    """Return the cells of the rows under `heading` that begin with a code word."""
    text = (DOCUMENTS / document).read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("| ").split("|") for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


def matrix() -> dict[str, Row]:
    """Return the rows of the matrix by `METHOD name`."""
    found: dict[str, Row] = {}
    for name, methods, path, *cells, permission in table("authorisation.md", "Routes and roles"):
        row = Row(path.strip("`"), dict(zip(ROLES, cells, strict=True)), permission.strip("`"))
        for method in methods.split(", "):
            key = f"{method} {name.strip('`')}"
            assert key not in found, f"{key} stands there twice"
            found[key] = row
    return found


def every_call() -> list[Call]:
    """Return each method of each API route that is not open to strangers."""
    return list(_calls())


def _calls() -> Iterator[Call]:
    for route in every_route():
        view = getattr(resolve(route.path).func, "cls", None)
        if view is None or route.name in OPEN:
            continue
        for method in METHODS:
            if hasattr(view, method):
                yield Call(route.name, method.upper(), route.path)


def header_of(role: Role, user: User | None) -> dict[str, str]:
    """What a request of this account carries, confirmed just now; machines bring their key's token."""
    return machine_bearer(machine()[0]) if user is None else administration.header(user)


def lets_in(call: Call, headers: dict[str, str]) -> bool:
    """Say whether the call comes past every question of who may; what it did is undone."""
    response = send(call, headers, _BODIES.get(call.name, {}))
    return response.status_code not in _REFUSED


def send(
    call: Call, headers: dict[str, str], body: Any, *, path: str = "", then: Callable[[], None] | None = None
) -> Any:
    """Send `body`, look at what became of it with `then`, and undo it all."""
    client = Client(raise_request_exception=False)
    with ExitStack() as stack:
        for alias in _ALIASES:
            stack.enter_context(transaction.atomic(using=alias))
        content = {} if call.method == "GET" else {"data": dumps(body), "content_type": "application/json"}
        ask: Any = getattr(client, call.method.lower())
        response = ask(path or call.path, headers=headers, **content)
        if then is not None:
            then()
        for alias in _ALIASES:
            transaction.set_rollback(True, using=alias)
    return response
