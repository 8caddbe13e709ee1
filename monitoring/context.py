"""Who acts, told to the database at the start of each transaction: what captured rows name as their actor.

The setting `mestore.ctx` rides on the BEGIN that is sent anyway, in the same message. It is local to the
transaction: it ends with it, so a pooled connection carries nothing to the next one that borrows it, and
reads outside of transactions set nothing; a single statement that writes there carries it in front
(`monitoring/database/acting.py`). A row changed where it is not set was changed by somebody who went around
the application: the database's own role is named instead.

A request is bound by `ContextMiddleware` and asked at each BEGIN who is signed in by then. Jobs and commands
act as the program they run in, or as who `acting` says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from django.db import connections
from django.http import HttpRequest, HttpResponseBase
from django.utils.functional import SimpleLazyObject
from psycopg import OperationalError, sql
from psycopg.pq import ConnStatus, Escaping, ExecStatus

from mestore.lib import actor, json_text
from mestore.lib.actor import Actor
from mestore.lib.request import client_address

_SET = sql.SQL("SET LOCAL mestore.ctx TO {}")
_BEGIN = b"BEGIN; SET LOCAL mestore.ctx TO "
# Members of an enumeration are looked up by a function of Python's at each use.
_OK = ConnStatus.OK
_COMMAND_OK = ExecStatus.COMMAND_OK

_request: ContextVar[HttpRequest | None] = ContextVar("request", default=None)
_actor: ContextVar[Actor | None] = ContextVar("actor", default=None)


class ContextMiddleware:
    """Bind the request to the thread for as long as it is answered."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        before = _request.set(request)
        try:
            return self.get_response(request)
        finally:
            _request.reset(before)


@contextmanager
def acting(by: Actor) -> Iterator[None]:
    """Let what is changed inside, in this thread, name `by` as its actor.

    Inside of an open transaction it holds from here to the transaction's end, for one statement more.
    """
    before = _actor.set(by)
    try:
        connection = connections["default"]
        if connection.in_atomic_block:
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('mestore.ctx', %s, true)", [_text(by)])
        yield
    finally:
        _actor.reset(before)


def current() -> Actor:
    """Return who acts now: who `acting` names, else the request's, else the program itself."""
    by, request = _actor.get(), _request.get()
    if by is not None:
        return by
    return actor.system(_program()) if request is None else _of(request)


def setting(*, within_parameters: bool = False) -> sql.Composed:
    """Return the statement that tells a transaction who acts.

    `within_parameters`: the statement that it goes with has some, where a percent sign is written twice.
    """
    text = _text(current())
    return _SET.format(sql.Literal(text.replace("%", "%%") if within_parameters else text))


def begin(connection: Any) -> None:
    """Begin a transaction on a psycopg connection and tell it who acts, in one message.

    A connection that broke is left as it is: the transaction's first statement says so.
    """
    if (
        connection.isolation_level is not None
        or connection.read_only is not None
        or connection.deferrable is not None
    ):
        connection.execute(setting())  # psycopg's own BEGIN knows the options
        return
    pgconn = connection.pgconn
    if pgconn.status != _OK:
        return
    # `setting` would give the same words, for ten times the work.
    told = Escaping(pgconn).escape_literal(_text(current()).encode())
    result = pgconn.exec_(_BEGIN + bytes(told))
    if result.status != _COMMAND_OK and pgconn.status == _OK:
        raise OperationalError("the database refused to begin a transaction")


def _of(request: HttpRequest) -> Actor:
    """Return the request's actor as far as it is known: asking who is signed in would read the database."""
    user = request.__dict__.get("user")
    if isinstance(user, SimpleLazyObject):
        user = request.__dict__.get("_cached_user")
    if user is not None:
        return actor.of(request)
    address = getattr(request, "client_address", None) or client_address(request)
    return Actor(kind="anonymous", address=address, request_id=getattr(request, "request_id", None))


def _text(by: Actor) -> str:
    """Return what the database is told: no name and no mail address, the id leads to them."""
    known = {
        "kind": by.kind,
        "id": by.id,
        "role": by.role or None,
        "name": by.label if by.kind == "system" else None,
        "impersonator": by.impersonator,
        "address": by.address,
        "session": by.session_id,
        "request": by.request_id,
    }
    return _encode({name: value for name, value in known.items() if value})


_encode = json_text.writer(separators=(",", ":"))


def _program() -> str:
    """Return the program's name and, of manage.py, the command: no argument beyond, it may be a secret."""
    name = Path(sys.argv[0] or "python").name
    return f"{name} {sys.argv[1]}"[:60] if name == "manage.py" and len(sys.argv) > 1 else name
