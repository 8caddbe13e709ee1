"""Requests that count once: the same key never has two effects, and a repetition gets the first answer.

The key is claimed by the first statement of the transaction that has the effect. A twin waits at the unique
index until the first commits (then it gets the stored answer) or rolls back (then it runs); after the lock
timeout it is told to come back. What is compared is a hash of the *validated* values, so white space and
the order of keys do not matter. Answers and decided refusals are stored; validation errors and our own
failures are not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import simplejson
from django.db import OperationalError, transaction
from django.http import HttpResponse
from django.utils.translation import gettext_lazy as _

from finance import transactions
from mestore.lib import crypto, errors, resealing, sql
from mestore.lib.actor import Actor
from monitoring import audit, events

HEADER: Final = "Idempotency-Key"
_IN_META: Final = "HTTP_IDEMPOTENCY_KEY"  # `request.headers` would be made anew of all of them, for one
REPLAYED: Final = "Idempotent-Replayed"
_SHAPE: Final = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
_PURPOSE: Final = "idempotent-answer"
_LOCK_NOT_AVAILABLE: Final = "55P03"

_CLAIM = """
INSERT INTO finance_idempotencykey (scope, key, request_hash) VALUES (%s, %s, %s)
ON CONFLICT (scope, key) DO NOTHING RETURNING id
"""
_READ = "SELECT id, request_hash, status, body FROM finance_idempotencykey WHERE scope = %s AND key = %s"
_PAGE = "SELECT id, scope, key, body FROM finance_idempotencykey WHERE id > %s ORDER BY id LIMIT %s"
_STORE = "UPDATE finance_idempotencykey SET status = %s, body = %s WHERE id = %s"


class KeyMissing(errors.BadRequest):
    code = "IDEMPOTENCY_KEY_REQUIRED"
    message = _("The header Idempotency-Key is required: 1 to 255 visible ASCII characters.")


class KeyReused(errors.Unprocessable):
    code = "IDEMPOTENCY_KEY_REUSED"
    message = _("This idempotency key was used for a request with other contents.")


class TwinInFlight(errors.Conflict):
    code = "IDEMPOTENCY_KEY_IN_USE"
    message = _("A request with this idempotency key is still being processed.")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back: status and body, and whether it was sent before."""

    status: int
    body: bytes
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """A key held by the current transaction, or, with `stored`, one that has its answer."""

    id: int
    binding: bytes
    stored: Answer | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """Which key of whom: what a statement of the caller's own claims, with the words of `_CLAIM`."""

    route: str
    scope: str
    key: str

    @property
    def binding(self) -> bytes:
        """What the stored answer is bound to."""
        return crypto.row_binding(self.scope, self.key)


def key_of(request: Any) -> str:
    """Return the request's key. Raises `KeyMissing` when there is none or it is no plain word."""
    key = str(request.META.get(_IN_META, ""))
    if not _SHAPE.fullmatch(key):
        raise KeyMissing
    return key


def claim(route: str, key: str, request_hash: bytes, *, by: Actor) -> Claim:
    """Claim `key` for this caller and route, in the current transaction.

    Raises `KeyReused` for other contents (recorded as a refusal) and `TwinInFlight` when the first request
    has not ended within the lock timeout.
    """
    claimed = asked(route, key, by=by)
    with twin_told():
        made = sql.fetch_one(_CLAIM, [claimed.scope, key, request_hash], prepare=True)
    if made is not None:
        return Claim(made[0], claimed.binding)
    row_id, answer = recall(claimed, request_hash, by=by)
    return Claim(row_id, claimed.binding, answer)


def asked(route: str, key: str, *, by: Actor) -> Asked:
    """Return which key this caller claims for `route`."""
    return Asked(route, f"{by.id}:{route}", key)


@contextmanager
def twin_told() -> Iterator[None]:
    """Around the statement that claims: raise `TwinInFlight` when the first request does not end in time."""
    try:
        yield
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        raise TwinInFlight(headers={"Retry-After": "1"}) from error


def recall(claimed: Asked, request_hash: bytes, *, by: Actor) -> tuple[int, Answer]:
    """Return the row of a key that was claimed before, and its answer. Raises as `claim` does."""
    row_id, known_hash, status, body = sql.fetch_one(_READ, [claimed.scope, claimed.key]) or (
        0, request_hash, None, None,
    )  # fmt: skip
    if not crypto.equal(bytes(known_hash), request_hash):
        audit.record_refusal(events.IDEMPOTENCY_MISMATCH, by=by, data={"route": claimed.route})
        raise KeyReused
    if status is None or body is None:
        raise TwinInFlight(headers={"Retry-After": "1"})
    opened = crypto.unseal(body, purpose=_PURPOSE, bound_to=claimed.binding)
    return row_id, Answer(status, opened, replayed=True)


def once(
    route: str,
    *,
    key: str,
    identity: bytes,
    by: Actor,
    work: Callable[[], tuple[int, bytes]],
    kept: Collection[type[errors.MeStoreError]] = (),
) -> Answer:
    """Do `work` once per caller, route and key, in one transaction with the key; return the answer to send.

    `identity` are the validated values as bytes: the same key with others is refused. `work` returns status
    and body, and changes nothing but the database: it runs again after a deadlock. A refusal of a class in
    `kept` is stored and told again for the same key, and what `work` wrote until then is undone; any other
    error leaves no trace of the key. Raises what `work` raises, `KeyReused` and `TwinInFlight`.
    """
    known = {refusal.code: refusal for refusal in kept}
    request_hash = crypto.digest(identity)

    def attempt() -> Answer | errors.MeStoreError:
        claimed = claim(route, key, request_hash, by=by)
        if claimed.stored is not None:
            return refusal_from(claimed.stored, known) or claimed.stored
        try:
            with transaction.atomic():  # a refusal by the database ends the savepoint, not the claim
                status, body = work()
        except tuple(kept) as refusal:
            store_refusal(claimed, refusal)
            return refusal
        sql.execute(_STORE, [status, seal(claimed, body), claimed.id])
        return Answer(status, body)

    result = transactions.run(attempt)
    if isinstance(result, errors.MeStoreError):
        raise result
    return result


def _page(after: int | None, limit: int) -> list[resealing.Value]:
    return [
        resealing.Value(row_id, None if body is None else bytes(body), crypto.row_binding(scope, key))
        for row_id, scope, key, body in sql.fetch_all(_PAGE, [after or 0, limit])
    ]


SEALED = resealing.Place(
    name="finance_idempotencykey.body",
    table="finance_idempotencykey",
    key="id",
    column="body",
    purpose=_PURPOSE,
    page=_page,
)
"""Where stored answers stand, for `rotate_keys`."""


def seal(claim: Claim, body: bytes) -> bytes:
    """Return `body` as it is stored with the claim: it may hold a buyer's address."""
    return crypto.seal(body, purpose=_PURPOSE, bound_to=claim.binding)


def store_refusal(claim: Claim, refusal: errors.MeStoreError) -> None:
    """Store a decided refusal: the same key gets it again, whatever has changed since."""
    details = [[item.field, str(item.message), item.error_type] for item in refusal.details or ()]
    body = simplejson.dumps({"code": refusal.code, "details": details}).encode()
    sql.execute(_STORE, [refusal.status, seal(claim, body), claim.id])


def refusal_from(
    stored: Answer, known: Mapping[str, type[errors.MeStoreError]]
) -> errors.MeStoreError | None:
    """Return the refusal that was stored, or None when the stored answer is a success."""
    if stored.status < 400:
        return None
    told = simplejson.loads(stored.body)
    details = [errors.FieldError(*item) for item in told["details"]]
    return known[told["code"]](details=details or None, headers={REPLAYED: "true"})


def respond(answer: Answer) -> HttpResponse:
    """Return the answer as it is sent."""
    response = HttpResponse(answer.body, status=answer.status, content_type="application/json")
    response["Cache-Control"] = "no-store"
    if answer.replayed:
        response[REPLAYED] = "true"
    return response
