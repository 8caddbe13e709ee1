"""Whoever has a dump of the database and of Redis has nothing that opens anything.

A whole life of sessions runs over HTTP first: browser, API, machine, second factor, step-up, refresh, known
device, reset link, recovery. Then everything that was handed out is looked for in everything that is kept.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import redis
from django.conf import settings
from django.core import mail
from django.test import Client
from psycopg import sql

from accounts.models import TotpDevice
from mestore.lib import errors
from mestore.lib.request import DEVICE_COOKIE
from monitoring import delivery
from monitoring.outbox import OutboxMessage
from sessions_security import clients, signin, tokens
from sessions_security.models import SessionSecret, UserSession
from sessions_security.store import SessionStore
from tests.console import house
from tests.factories import accounts as people
from tests.factories import sessions_security as made

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

AUTH = "/api/v1/auth/"
TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
_MOMENT = re.compile(rb"\d{4}-\d\d-\d\d \d\d:")
SHORTEST = 16  # nothing that opens a session is shorter


def post(path: str, body: Any, bearer: str = "", **extra: Any) -> Any:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    return Client().post(AUTH + path, body, content_type="application/json", headers=headers, **extra)


def a_life_of_sessions() -> dict[str, str]:
    """Live it; return everything that was handed out in clear, by what it is."""
    user, device = house.person(superuser=True)
    browser = house.enter(user, device)
    handed = {
        "console cookie": browser.cookies[settings.SESSION_COOKIE_NAME].value,
        "device cookie": browser.cookies[DEVICE_COOKIE].value,
        "password": people.PASSWORD,
        "seed": TotpDevice.objects.get(pk=device.pk).secret or "",
    }
    admin = people.AdminFactory.create()
    people.TotpDeviceFactory.create(user=admin)
    waiting = post("admin-login", {"email": admin.email, "password": people.PASSWORD}).json()
    handed["mfa token"] = waiting["mfa_token"]
    buyer = people.BuyerFactory.create()
    first = post("login", {"email": buyer.email, "password": people.PASSWORD}).json()
    proof = {"method": "password", "password": people.PASSWORD}
    assert post("step-up", proof, first["access_token"]).status_code == 204
    second = post("refresh-token", {"refresh_token": first["refresh_token"]}).json()
    for name, pair in (("first", first), ("second", second)):
        handed[f"{name} access token"] = pair["access_token"]
        handed[f"{name} signature"] = pair["access_token"].rsplit(".", 1)[1]
        handed[f"{name} refresh token"] = pair["refresh_token"]
    client, handed["client key"] = made.machine()
    basic = base64.b64encode(f"{client.client_id}:{handed['client key']}".encode()).decode()
    machine = Client().post(
        AUTH + "token", "grant_type=client_credentials", content_type="application/x-www-form-urlencoded",
        headers={"Authorization": f"Basic {basic}"},
    ).json()  # fmt: skip
    handed["machine token"] = machine["access_token"]
    assert post("forgot-password", {"email": buyer.email}).status_code == 200
    handed["recovery token"] = post("recovery/begin", {"email": buyer.email}).json()["recovery_token"]
    return handed


def forms(secret: str) -> Iterator[bytes]:
    """Every way in which a secret could lie about, there and back."""
    raws = {secret.encode()}
    if re.fullmatch(r"[A-Za-z0-9_-]{43}", secret):
        raws.add(base64.urlsafe_b64decode(secret + "="))
    for raw in raws:
        for form in (
            raw, raw.hex().encode(), raw.hex().upper().encode(), base64.b64encode(raw).rstrip(b"="),
            base64.urlsafe_b64encode(raw).rstrip(b"="), base64.b32encode(raw).rstrip(b"="),
        ):  # fmt: skip
            yield form
            yield form[::-1]


def kept_in_postgresql(dsn: str) -> Iterator[tuple[str, bytes]]:
    """Every value of every row of every table, with the column's name."""
    with psycopg.connect(dsn) as connection:
        for (table,) in connection.execute(TABLES).fetchall():
            cursor = connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier("public", table)))
            names = [column.name for column in cursor.description or ()]
            for row in cursor:
                for name, value in zip(names, row, strict=True):
                    if value is not None:
                        yield f"{table}.{name}", value if isinstance(value, bytes) else str(value).encode()


def kept_in_redis() -> Iterator[tuple[str, bytes]]:
    client = redis.Redis.from_url(os.environ["REDIS_URL"])
    readers: dict[str, Callable[[bytes], Any]] = {
        "string": client.get,
        "hash": client.hgetall,
        "set": client.smembers,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "list": lambda key: client.lrange(key, 0, -1),
    }
    for key in client.scan_iter(count=1_000):
        yield "redis key", key
        kind = client.type(key)
        name = kind.decode() if isinstance(kind, bytes) else kind
        if name == "none":
            continue  # a counter of a second ended since its key was listed
        value = readers[name](key)
        yield "redis value", value if isinstance(value, bytes) else repr(value).encode()


def refused(attempt: Callable[[], Any]) -> bool:
    try:
        return not attempt()
    except errors.MeStoreError:
        return True


def open_doors(value: str, client_id: str) -> list[str]:
    """The doors that `value` opens."""
    everywhere: list[signin.Purpose] = ["api", "admin", "console"]
    doors: dict[str, Callable[[], Any]] = {
        "cookie": lambda: SessionStore(value).user_session,
        "bearer": lambda: tokens.session_of(tokens.verify_access(value), address="127.0.0.1"),
        "refresh": lambda: tokens.rotate(value, by=made.HERE),
        "mfa token": lambda: signin.take_attempt(value, purposes=everywhere),
        "client key": lambda: clients.authenticate(client_id, value, by=made.HERE),
    }
    return [name for name, attempt in doors.items() if not refused(attempt)]


def readings(value: bytes) -> Iterator[str]:
    """What a thief would try of one value: as it is, and in the usual spellings of bytes."""
    if SHORTEST <= len(value) <= 8_192 and not _MOMENT.match(value):
        yield value.decode("utf-8", "replace")
        yield value.hex()
        yield base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def test_nothing_that_was_handed_out_is_kept_in_any_spelling(owner_dsn: str) -> None:
    handed = a_life_of_sessions()
    kept = [*kept_in_postgresql(owner_dsn), *kept_in_redis()]
    everything = b"\n".join(value for _where, value in kept)

    assert len(handed) == 14
    assert len({where.split(".")[0] for where, _value in kept}) > 20
    found = {name for name, secret in handed.items() if any(form in everything for form in forms(secret))}

    assert not found


def test_reset_link_is_kept_in_no_spelling_before_and_after_it_is_sent(owner_dsn: str) -> None:
    buyer = people.BuyerFactory.create()
    post("forgot-password", {"email": buyer.email})
    before = b"\n".join(value for _where, value in kept_in_postgresql(owner_dsn))
    for message in OutboxMessage.objects.all():
        delivery.send(message.pk)
    after = b"\n".join(value for _where, value in kept_in_postgresql(owner_dsn))

    links = [found[1] for sent in mail.outbox if (found := re.search(r"token=([\w-]+)", str(sent.body)))]

    assert links
    assert not [form for form in forms(links[0]) if form in before + after]


def test_no_column_of_any_table_opens_a_door(owner_dsn: str) -> None:
    handed = a_life_of_sessions()
    client, _key = made.machine()
    values = {value for _where, value in kept_in_postgresql(owner_dsn)}
    tried = {reading for value in values for reading in readings(value)}
    tried -= set(handed.values())

    opened = {reading: doors for reading in tried if (doors := open_doors(reading, client.client_id))}

    assert len(tried) > 100
    assert not opened
    assert open_doors(handed["console cookie"], client.client_id) == ["cookie"]  # the doors are real
    assert open_doors(handed["second access token"], client.client_id) == ["bearer"]
    assert open_doors(handed["second refresh token"], client.client_id) == ["refresh"]
    assert open_doors(handed["mfa token"], client.client_id) == ["mfa token"]


@pytest.mark.parametrize("column", ["payload", "key_hash"])
def test_swapped_rows_open_nothing(column: str) -> None:
    one, first = made.cookie_of(people.AdminFactory.create())
    two, second = made.cookie_of(people.SuperuserFactory.create())
    mine, theirs = (getattr(SessionSecret.objects.get(session=session), column) for session in (one, two))
    SessionSecret.objects.filter(session=two).update(**{column: b"-" * 32})
    SessionSecret.objects.filter(session=one).update(**{column: theirs})
    SessionSecret.objects.filter(session=two).update(**{column: mine})

    assert SessionStore(first).user_session is None
    assert SessionStore(second).user_session is None
    assert not UserSession.objects.filter(revoked_at=None).exists()
