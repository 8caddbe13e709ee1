"""Clients that buy, pay, give back and ask for payouts, and repeat each request until they are answered.

Whatever becomes of the service meanwhile: a request whose answer got lost is sent again under the same key.
What was told in the end is kept, to be compared with the books (`told_and_booked`) and to be asked for again.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from benchmarks import points

TIMEOUT_SECONDS: Final = 60
PATIENCE_SECONDS: Final = 1_800
PAUSE_SECONDS: Final = 0.2
STOREFRONT: Final = "storefront"
ORDERS: Final = "/api/v1/orders/"
PAYOUTS: Final = "/api/v1/payouts/"
#: Refusals that are answers: the same key gets them again.
DECIDED: Final = frozenset({"REFUND_TOO_LARGE", "NOTHING_TO_REFUND", "INSUFFICIENT_FUNDS", "VENDOR_OWES"})
#: What says to come back: the database is away, a twin's request is still running, too many at once.
PASSING: Final = frozenset({503, 429})
IN_USE: Final = "IDEMPOTENCY_KEY_IN_USE"
STEP_UP: Final = "STEP_UP_REQUIRED"
#: What the sellers would do with their telephones: a payout wants a factor that was proved just now.
PROVED_NOW: Final = "UPDATE sessions_security_stepupproof SET proved_at = now()"
_KINDS: Final = ("order", "order", "order", "capture", "refund", "refund", "payout", "payout", "again")


class WrongAnswerError(Exception):
    """The service answered what it must not answer here, or never answered."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `who` is the storefront or a seller's id. Without a key it may be repeated anyway."""

    kind: str
    who: str
    method: str
    path: str
    body: dict[str, Any]
    key: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What came of a request in the end, and how often it was sent."""

    asked: Asked
    status: int
    body: bytes
    was_replayed: bool
    sends: int

    @property
    def data(self) -> dict[str, Any]:
        """The answer's members; those of an order stand one level lower."""
        found: dict[str, Any] = json.loads(self.body)
        return found["data"] if self.asked.path == ORDERS else found


@dataclass
class Market:
    """Where and as whom the shoppers send. `port` is asked anew for each connection: services come and go."""

    port: Callable[[], int]
    headers: dict[str, str]
    tokens: dict[str, str]
    accounts: dict[str, str]
    """The bank account of each seller."""
    confirm_again: Callable[[], object]
    """Called when a seller has to prove a factor again."""
    answers: Counter[str] = field(default_factory=Counter)
    """How often connections were lost, and which answers said to come back."""
    _told: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def count(self) -> None:
        """One request more was answered for good."""
        with self._changed:
            self._told += 1
            self._changed.notify_all()

    def wait_for(self, more: int, *, among: Sequence[threading.Thread]) -> None:
        """Wait until so many more requests were answered, as long as one of the shoppers sends any."""
        with self._changed:
            wanted = self._told + more
            while self._told < wanted and any(one.is_alive() for one in among):
                self._changed.wait(1)


class Shopper(threading.Thread):
    """One client: request after request until it is stopped, then it ends with its last answer."""

    def __init__(self, market: Market, seed: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.market, self.stop, self.seed = market, stop, seed
        self.told: list[Told] = []
        self.wrong: list[str] = []
        self._chance = random.Random(seed)
        self._numbers = itertools.count()
        self._open: list[int] = []  # orders that wait for their payment
        self._paid: list[tuple[int, int]] = []  # orders that were paid, and of how many pesos
        self._line = Line(market)

    def run(self) -> None:
        """Send until told to stop, or until something is wrong."""
        try:
            while not self.stop.is_set():
                self._next()
        except WrongAnswerError as error:
            self.wrong.append(str(error))
        finally:
            self._line.close()

    def _next(self) -> None:
        kind = self._chance.choice(_KINDS)
        if kind == "again":
            if self.told:
                self.wrong += ask_again(self._line, self._chance.choice(self.told[-20:]))
            return
        asked = getattr(self, f"_{kind}")()
        told = self._line.deliver(asked)
        self.told.append(told)
        if told.status < 400 and asked.path == ORDERS:
            data = told.data
            if "payment" in asked.body:
                self._paid.append((data["id"], _pesos(asked)))
            else:
                self._open.append(data["id"])
        self.market.count()

    def _order(self, *, is_paid: bool = True) -> Asked:
        """An order of one or two sellers' things."""
        key = self._key()
        body = points.order(key, 0, "")
        sellers = self._chance.sample(sorted(self.market.accounts), self._chance.choice([1, 1, 2]))
        thing = body.pop("items")[0]
        body["items"] = [
            thing | {"vendor_id": seller, "unit_price": f"{self._chance.randint(20, 300)}000.00"}
            for seller in sellers
        ]
        if not is_paid:
            del body["payment"]
        return Asked("order", STOREFRONT, "POST", ORDERS, body, key)

    def _capture(self) -> Asked:
        """The payment of an order that waits for it; an order without one where none does."""
        if not self._open:
            return self._order(is_paid=False)
        order = self._open.pop()
        self._paid.append((order, 20_000))
        payment = {"provider": "bench", "reference": f"late-{order}"}
        body = {"status": "confirmed", "payment": payment}
        return Asked("capture", STOREFRONT, "PATCH", f"{ORDERS}{order}/status", body)

    def _refund(self) -> Asked:
        """A part of an order, or all of it; sometimes more than is left."""
        if not self._paid:
            return self._order()
        order, pesos = self._chance.choice(self._paid[-30:])
        amount = self._chance.choice([pesos, pesos // 3, self._chance.randint(1, pesos)])
        body = {"amount": f"{amount}.00", "currency": "COP", "reason": "came back"}
        return Asked("refund", STOREFRONT, "POST", f"{ORDERS}{order}/refunds", body, self._key())

    def _payout(self) -> Asked:
        """A seller's wish for some of what is available; sometimes for more."""
        seller = self._chance.choice(sorted(self.market.accounts))
        amount = self._chance.randint(10_000, 400_000)
        body = {
            "amount": f"{amount}.00", "currency": "COP", "bank_account_id": self.market.accounts[seller],
        }  # fmt: skip
        return Asked("payout", seller, "POST", PAYOUTS, body, self._key())

    def _key(self) -> str:
        return f"{self.seed}-{next(self._numbers)}"


class Line:
    """One kept connection, made anew when it is lost."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self._connection: http.client.HTTPConnection | None = None

    def deliver(self, asked: Asked) -> Told:
        """Send until there is an answer. Raises WrongAnswerError for one that must not be."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        for sends in itertools.count(1):
            found = self._send(asked)
            if found is not None:
                status, body, was_replayed = found
                if self._is_answer(status, body):
                    return Told(asked, status, body, was_replayed, sends)
            if time.monotonic() > deadline:
                break
            time.sleep(PAUSE_SECONDS)
        raise WrongAnswerError(f"{asked} was never answered")

    def close(self) -> None:
        """Give the connection up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send(self, asked: Asked) -> tuple[int, bytes, bool] | None:
        headers = self.market.headers | {
            "Authorization": f"Bearer {self.market.tokens[asked.who]}", "Content-Type": "application/json",
        }  # fmt: skip
        if asked.key:
            headers["Idempotency-Key"] = asked.key
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(
                    "127.0.0.1", self.market.port(), timeout=TIMEOUT_SECONDS
                )
            self._connection.request(asked.method, asked.path, json.dumps(asked.body), headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read(), answer.getheader("Idempotent-Replayed") == "true"
        except (OSError, http.client.HTTPException) as error:
            self.market.answers[f"lost: {type(error).__name__}"] += 1
            self.close()
            return None

    def _is_answer(self, status: int, body: bytes) -> bool:
        if status < 400:
            return True
        code = _code(body)
        if code in DECIDED:
            return True
        if code == STEP_UP:
            self.market.confirm_again()
        elif status not in PASSING and code != IN_USE:
            raise WrongAnswerError(f"{status} {body[:600].decode(errors='replace')}")
        self.market.answers[f"{status} {code}"] += 1
        return False


def ask_again(line: Line, told: Told) -> list[str]:
    """Send a request that was answered once more; what is wrong with the answer."""
    again = line.deliver(told.asked)
    if not told.asked.key:
        is_same = (again.data["id"], again.data["status"]) == (told.data["id"], told.data["status"])
        return [] if is_same else [f"{told.asked} has another answer now: {again.body!r}"]
    if again.status < 400:
        is_same = (again.status, again.body, again.was_replayed) == (told.status, told.body, True)
    else:  # a problem document names its own request
        is_same = (again.status, _code(again.body)) == (told.status, _code(told.body))
    return [] if is_same else [f"{told} has another answer now: {again.status} {again.body!r}"]


def start(market: Market, seed: str, number: int, stop: threading.Event) -> list[Shopper]:
    """Let so many shoppers begin."""
    shoppers = [Shopper(market, f"{seed}-{one}", stop) for one in range(number)]
    for shopper in shoppers:
        shopper.start()
    return shoppers


_ORDERS = """
SELECT o.external_reference, o.id, o.status <> 'pending', (
    SELECT count(*) FROM ledger_entry e WHERE e.source_event = 'order/' || o.id || '/sale'),
    (SELECT count(DISTINCT i.vendor_id) FROM finance_orderitem i WHERE i.order_id = o.id),
    (SELECT count(*) FROM finance_commission c WHERE c.order_id = o.id)
FROM finance_order o WHERE o.source = 'storefront' AND o.external_reference = ANY(%s)"""
_REFUNDS = """
SELECT r.id, r.order_id, r.amount_minor, (
    SELECT count(*) FROM ledger_entry e WHERE e.source_event = 'refund/' || r.id),
    (SELECT count(*) FROM finance_refundpart p WHERE p.refund_id = r.id)
FROM finance_refund r WHERE r.order_id = ANY(%s)"""
_PAYOUTS = """
SELECT p.id, p.amount_minor,
    (SELECT count(*) FROM ledger_entry e WHERE e.source_event = 'payout/' || p.id || '/reserve')
FROM finance_payout p WHERE p.vendor_id = ANY(%s)"""
_UNANSWERED = "SELECT count(*) FROM finance_idempotencykey WHERE status IS NULL OR body IS NULL"


def told_and_booked(connection: Any, told: Sequence[Told], sellers: Sequence[str]) -> list[str]:
    """Compare all that was told with the books; what is wrong. Every request has to be answered by now.

    An order that was answered exists once with one sale per seller; a refund or payout that was answered is
    there with one entry each, of what was asked for; and nothing is there that nobody was told of.
    """
    made = {one.asked.key: one.data for one in told if one.asked.path == ORDERS and one.status == 201}
    paid = {one.data["id"] for one in told if one.asked.path == ORDERS and "payment" in one.asked.body}
    paid |= {one.data["id"] for one in told if one.asked.kind == "capture" and one.status == 200}
    wrong = []
    orders = connection.execute(_ORDERS, [[one.asked.key for one in told if one.asked.path == ORDERS]])
    found = orders.fetchall()
    if Counter(name for name, *_rest in found) != Counter(made.keys()):
        wrong.append(f"orders: {len(found)} in the books, {len(made)} were told")
    for name, order, is_sold, entries, vendors, commissions in found:
        expected = vendors if order in paid else 0
        if made.get(name, {}).get("id") != order or (entries, commissions) != (expected, expected):
            wrong.append(f"order {order} ({name}): {entries} entries, {commissions} commissions, {expected}")
        if is_sold != (order in paid):
            wrong.append(f"order {order} was {'' if is_sold else 'not '}sold")
    numbers = [order for _name, order, *_rest in found]
    wrong += _same(
        "refund", [one for one in told if one.asked.kind == "refund"],
        [(row[0], row[2], row[3] == row[4] > 0) for row in connection.execute(_REFUNDS, [numbers])],
    )  # fmt: skip
    wrong += _same(
        "payout", [one for one in told if one.asked.kind == "payout"],
        [(row[0], row[1], row[2] == 1) for row in connection.execute(_PAYOUTS, [[*map(UUID, sellers)]])],
    )  # fmt: skip
    if (left := connection.execute(_UNANSWERED).fetchone()) != (0,):
        wrong.append(f"keys without an answer: {left}")
    return wrong


def _same(what: str, told: Sequence[Told], booked: Sequence[tuple[UUID, int, bool]]) -> list[str]:
    """Compare ids and amounts (minor units of pesos) of what was told with those of the books."""
    expected = Counter(
        (one.data["id"], int(one.asked.body["amount"].replace(".", ""))) for one in told if one.status == 201
    )
    actual = Counter((str(identifier), amount) for identifier, amount, _is_posted in booked)
    wrong = [f"{what} {one}: {actual[one]} in the books, {expected[one]} told"
             for one in expected.keys() | actual.keys() if actual[one] != expected[one]]  # fmt: skip
    return wrong + [f"{what} {one} is not posted once" for one, _amount, is_posted in booked if not is_posted]


def _pesos(asked: Asked) -> int:
    return sum(int(item["unit_price"].split(".")[0]) for item in asked.body["items"])


def _code(body: bytes) -> str:
    try:
        return str(json.loads(body).get("error_code", ""))
    except ValueError:
        return ""
