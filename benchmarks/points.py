"""The requests that are measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import uuid4

from benchmarks import load
from benchmarks.house import HOST
from benchmarks.load import Requests
from benchmarks.seed import ADDRESS

CLIENTS = 16
REFRESHES = 30  # of each client in a round
ONE_BOOK = "POST /orders/, one book"
PEERS = ("peer: token read", "peer: cookie read", "peer: POST /orders/", "peer: refresh")
SIGN_IN_CLIENTS = 2  # as many as hash at once: more would only wait


@dataclass(frozen=True, slots=True)
class Point:
    """One kind of request to one of the services."""

    name: str
    service: str
    requests: Requests
    expect: int
    clients: int = CLIENTS
    limit: int | None = None
    """How many requests each client sends in a round, where they cannot be repeated."""
    begin: Callable[[], None] = lambda: None
    """Called before each run."""


def all_of(seed: dict[str, Any], peer: dict[str, Any] | None) -> list[Point]:
    """Every point; what is compared stands side by side."""
    beside = _peers(peer) if peer else {}
    found = [
        Point("bare view", "bare", _bare(seed), 200),
        Point("token read", "mestore", _read(seed, _bearer), 200),
        beside.get("token"),
        Point("cookie read", "mestore", _read(seed, _cookie), 200),
        beside.get("cookie"),
        _refresh("refresh", "mestore", seed["refresh"], _our_refresh),
        beside.get("refresh"),
        Point("POST /orders/", "mestore", _sale(seed), 201),
        beside.get("sale"),
        Point(ONE_BOOK, "mestore", _sale(seed, 1), 201),
        Point("login", "mestore", _login(seed), 200, SIGN_IN_CLIENTS),
    ]
    return [point for point in found if point is not None]


def lists(seed: dict[str, Any]) -> list[Point]:
    """The lists of everybody's sessions, as an administrator reads them: one client, page by page."""
    headers = proxied(seed["address"]) | {"Cookie": f"__Host-sessionid={seed['administrator']}"}

    def listing(path: str) -> Requests:
        prepared = load.request("GET", path, headers)
        return lambda _client, _number: prepared

    return [
        Point("console list", "mestore", listing("/admin/sessions_security/usersession/"), 200, 1),
        Point("list by API", "mestore", listing("/api/v1/admin/sessions"), 200, 1),
    ]


def _peers(peer: dict[str, Any]) -> dict[str, Point]:
    return {
        "token": Point("peer: token read", "peer", _peer_read(peer, _bearer), 200),
        "cookie": Point("peer: cookie read", "peer", _peer_read(peer, _peer_cookie), 200),
        "sale": Point("peer: POST /orders/", "peer", _peer_sale(peer), 201),
        "refresh": _refresh("peer: refresh", "peer", peer["refresh"], _peer_refresh),
    }


def _bare(seed: dict[str, Any]) -> Requests:
    headers = {"Host": HOST, "Accept": "application/json"}
    prepared = [
        load.request("GET", f"/commissions/{vendor['commission']}", headers) for vendor in seed["vendors"]
    ]
    return lambda client, number: prepared[(client * 31 + number) % len(prepared)]


def _read(seed: dict[str, Any], proof: Callable[[dict[str, str]], dict[str, str]]) -> Requests:
    """Each vendor reads a commission of its own; many vendors, so that none exceeds its rate limit."""
    prepared = [
        load.request(
            "GET", f"/api/v1/commissions/{vendor['commission']}", proxied(seed["address"]) | proof(vendor)
        )
        for vendor in seed["vendors"]
    ]
    return lambda client, number: prepared[(client * 31 + number) % len(prepared)]


def _peer_read(peer: dict[str, Any], proof: Callable[[dict[str, str]], dict[str, str]]) -> Requests:
    """The same read, of the peer."""
    headers = proxied(ADDRESS)
    prepared = [
        load.request("GET", f"/commissions/{vendor['commission']}", headers | proof(vendor))
        for vendor in peer["vendors"]
    ]
    return lambda client, number: prepared[(client * 31 + number) % len(prepared)]


def _peer_cookie(vendor: dict[str, str]) -> dict[str, str]:
    return {"Cookie": f"sessionid={vendor['cookie']}"}


def _refresh(name: str, service: str, given: list[Any], request: Callable[[Any], bytes]) -> Point:
    """Exchanges of refresh tokens, none of which is sent twice."""
    runs, state = count(), {"run": 0}

    def begin() -> None:
        state["run"] = next(runs)

    def exchange(client: int, number: int) -> bytes:
        return request(given[(state["run"] * CLIENTS + client) * REFRESHES + number])

    return Point(name, service, exchange, 200, limit=REFRESHES, begin=begin)


def refresh_tokens(runs: int) -> int:
    """How many refresh tokens so many runs need."""
    return runs * CLIENTS * REFRESHES


def _our_refresh(given: dict[str, str]) -> bytes:
    body = json.dumps({"refresh_token": given["token"]}).encode()
    headers = proxied(given["address"]) | {"Content-Type": "application/json"}
    return load.request("POST", "/api/v1/auth/refresh-token", headers, body)


def _peer_refresh(token: str) -> bytes:
    body = json.dumps({"refresh": token}).encode()
    headers = proxied(ADDRESS) | {"Content-Type": "application/json"}
    return load.request("POST", "/token/refresh", headers, body)


def _bearer(vendor: dict[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {vendor['token']}"}


def _cookie(vendor: dict[str, str]) -> dict[str, str]:
    return {"Cookie": f"__Host-sessionid={vendor['cookie']}"}


def _sale(seed: dict[str, Any], books: int | None = None) -> Requests:
    """A paid order of one item by the storefront's machine account, each under a key of its own.

    Of the first so many vendors, or of all: what is sold is posted to the vendor's own book.
    """
    vendors = [vendor["id"] for vendor in seed["vendors"]][:books]
    headers = proxied(seed["address"]) | _bearer(seed["machine"])

    def sale(client: int, number: int) -> bytes:
        key = uuid4().hex
        body = order(key, client, vendors[(client * 31 + number) % len(vendors)])
        return _keyed("/api/v1/orders/", headers, key, body)

    return sale


def _peer_sale(peer: dict[str, Any]) -> Requests:
    """The same sale to the peer, which is told the shipping and the tax that ours finds itself."""
    vendors = [vendor["id"] for vendor in peer["vendors"]]
    headers = proxied(ADDRESS) | _bearer({"token": peer["storefront"]})

    def sale(client: int, number: int) -> bytes:
        key = uuid4().hex
        body = order(key, client, vendors[(client * 31 + number) % len(vendors)])
        return _keyed(
            "/orders/", headers, key, body | {"shipping_amount": "15000.00", "tax_amount": "19000.00"}
        )

    return sale


def order(key: str, client: int, vendor: str) -> dict[str, Any]:
    """The body of a paid order of one item."""
    return {
        "currency": "COP",
        "external_reference": key,
        "buyer_reference": f"buyer {client}",
        "items": [
            {
                "product_id": "bench",
                "vendor_id": vendor,
                "name": "A thing",
                "unit_price": "100000.00",
                "quantity": 1,
            }
        ],
        "shipping_name": "A buyer",
        "shipping_phone": "+573001234567",
        "shipping_address": "Calle 1 2-3",
        "shipping_city": "Bogota",
        "shipping_state": "DC",
        "payment": {"provider": "bench", "reference": key, "status": "approved"},
    }


def _keyed(path: str, headers: dict[str, str], key: str, body: dict[str, Any]) -> bytes:
    more = {"Content-Type": "application/json", "Idempotency-Key": key}
    return load.request("POST", path, headers | more, json.dumps(body).encode())


def _login(seed: dict[str, Any]) -> Requests:
    """People sign in, each from an address of its own."""
    people, password = seed["people"], seed["password"]
    turn = iter(range(10**9))

    def login(client: int, _number: int) -> bytes:
        number = next(turn) * SIGN_IN_CLIENTS + client
        body = json.dumps({"email": people[number % len(people)], "password": password}).encode()
        address = f"198.18.{number // 250 % 250}.{number % 250 + 1}"
        return load.request(
            "POST", "/api/v1/auth/login", proxied(address) | {"Content-Type": "application/json"}, body
        )

    return login


def proxied(address: str) -> dict[str, str]:
    """What the proxy in front adds."""
    return {
        "Host": HOST,
        "Accept": "application/json",
        "X-Forwarded-For": address,
        "X-Forwarded-Proto": "https",
    }
