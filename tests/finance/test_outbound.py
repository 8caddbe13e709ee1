"""Events for the storefront: told with what happened or not at all, signed, at least once, replayable."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import trustme
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from finance import endpoints, outbound
from finance.models import EventDelivery, OutboundEvent, WebhookEndpoint
from finance.states import DeliveryState
from mestore.lib import actor
from monitoring import events
from monitoring.models import AuditEvent, Signal
from tests.harness.racing import race

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)
BY = actor.system("test")


@dataclass
class Shop:
    """A storefront that takes events, or does not."""

    url: str
    place: str
    statuses: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def shop(tmp_path: Path, settings: Any) -> Iterator[Shop]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(found.statuses.pop(0) if found.statuses else 204)
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    place = f"localhost:{server.server_port}"
    found = Shop(f"https://{place}/hooks", place)
    settings.WEBHOOK_HOSTS = [place]
    settings.WEBHOOK_CA = str(tmp_path / "ca.pem")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()
    outbound._clients.clear()


def endpoint(shop: Shop, name: str = "shop", **values: Any) -> tuple[WebhookEndpoint, str]:
    return endpoints.create(name, shop.url, by=BY, **values)


def tell(kind: str = "order.confirmed", **data: Any) -> OutboundEvent:
    with transaction.atomic():
        event_id = outbound.emit(kind, subject=("order", "7"), data={"order_id": 7, **data})
    return OutboundEvent.objects.get(pk=event_id)


def expected(secret: str, headers: dict[str, str], body: bytes) -> str:
    """The signature by the letter of the specification, made without our code."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def make_due() -> None:
    EventDelivery.objects.filter(state=DeliveryState.WAITING).update(
        next_at=timezone.now() - dt.timedelta(seconds=1)
    )


def test_the_published_example_of_the_specification_is_signed_alike() -> None:
    signed = outbound.signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330, body='{"test": 2432232314}',
    )  # fmt: skip

    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_an_event_arrives_signed_and_says_what_happened(shop: Shop) -> None:
    _made, secret = endpoint(shop)
    event = tell(total="119000.00", currency="COP")

    assert outbound.send_event(event.pk) == 1

    headers, body = shop.got[0]
    told = json.loads(body)
    assert (told["type"], told["data"]) == (
        "order.confirmed", {"order_id": 7, "total": "119000.00", "currency": "COP"},
    )  # fmt: skip
    assert headers["webhook-id"] == str(event.pk)
    assert abs(int(headers["webhook-timestamp"]) - timezone.now().timestamp()) < 300
    assert headers["webhook-signature"] == expected(secret, headers, body)
    assert EventDelivery.objects.get().state == DeliveryState.DELIVERED


def test_what_is_rolled_back_is_not_told(shop: Shop) -> None:
    endpoint(shop)
    with transaction.atomic():
        outbound.emit("order.confirmed", subject=("order", "7"), data={})
        transaction.set_rollback(True)

    assert outbound.send_due() == 0
    assert not OutboundEvent.objects.exists()
    assert shop.got == []


def test_outside_of_a_transaction_and_of_unknown_types_nothing_is_told() -> None:
    with pytest.raises(ValueError, match="transaction"):
        outbound.emit("order.confirmed", subject=("order", "7"), data={})
    with pytest.raises(ValueError, match="no event"), transaction.atomic():
        outbound.emit("order.exploded", subject=("order", "7"), data={})


def test_an_event_is_two_statements(shop: Shop, django_assert_num_queries: Callable[..., Any]) -> None:
    endpoint(shop)
    with transaction.atomic(), django_assert_num_queries(2):
        outbound.emit("order.confirmed", subject=("order", "7"), data={})


def test_only_what_is_wanted_is_sent_and_only_to_who_is_open(shop: Shop) -> None:
    endpoint(shop, "refunds", event_types=["refund.paid"])
    closed, _secret = endpoint(shop, "closed")
    endpoints.close(closed, reason="moved away for good", by=BY)

    tell("order.confirmed")
    refund = tell("refund.paid")

    assert outbound.send_due() == 1
    assert [headers["webhook-id"] for headers, _body in shop.got] == [str(refund.pk)]


def test_what_is_not_taken_comes_again_with_the_same_id_until_it_waits_for_a_person(shop: Shop) -> None:
    made, _secret = endpoint(shop)
    event = tell()
    shop.statuses = [500] * (len(outbound.PAUSES) + 1)
    pauses = []

    for _attempt in range(len(outbound.PAUSES)):
        assert outbound.send_due() == 0
        row = EventDelivery.objects.get()
        assert (row.state, row.last_status) == (DeliveryState.WAITING, 500)
        assert row.next_at is not None
        assert row.last_at is not None
        pauses.append(row.next_at - row.last_at)
        assert outbound.send_due() == 0  # it is not due yet
        make_due()
    outbound.send_due()

    row = EventDelivery.objects.get()
    assert pauses == list(outbound.PAUSES)
    assert (row.state, row.attempts, len(shop.got)) == (DeliveryState.FAILED, 10, 10)
    assert {headers["webhook-id"] for headers, _body in shop.got} == {str(event.pk)}
    assert Signal.objects.get(rule=outbound.FAILED.code).entity_id == str(made.pk)
    make_due()
    assert outbound.send_due() == 0

    outbound.replay(row, reason="the shop had lost its disk", by=BY)

    assert outbound.send_due() == 1
    assert shop.got[-1][0]["webhook-id"] == str(event.pk)
    assert AuditEvent.objects.filter(type=events.EVENT_REPLAYED).count() == 1


def test_what_waits_is_not_replayed(shop: Shop) -> None:
    endpoint(shop)
    tell()

    with pytest.raises(outbound.OnItsWay):
        outbound.replay(EventDelivery.objects.get(), reason="impatience", by=BY)


def test_who_says_gone_gets_nothing_any_more(shop: Shop) -> None:
    endpoint(shop)
    tell()
    shop.statuses = [410]

    outbound.send_due()
    tell("order.shipped")
    make_due()
    outbound.send_due()

    assert len(shop.got) == 1
    assert not WebhookEndpoint.objects.get().is_active
    assert EventDelivery.objects.get().state == DeliveryState.FAILED
    assert AuditEvent.objects.filter(type=events.ENDPOINT_CLOSED).count() == 1


def test_workers_at_once_send_each_event_once(shop: Shop) -> None:
    endpoint(shop)
    told = {str(tell().pk) for _ in range(12)}

    race([outbound.send_due] * 4)

    assert sorted(headers["webhook-id"] for headers, _body in shop.got) == sorted(told)


def test_a_worker_that_died_is_followed_after_its_lease(shop: Shop) -> None:
    endpoint(shop)
    tell()
    EventDelivery.objects.update(
        next_at=timezone.now() + outbound.LEASE, attempts=1
    )  # taken, and then killed

    assert outbound.send_due() == 0
    make_due()
    assert outbound.send_due() == 1


def test_both_secrets_sign_while_they_overlap(shop: Shop) -> None:
    made, former = endpoint(shop)
    current = endpoints.rotate(made, by=BY)
    tell()
    outbound.send_due()

    headers, body = shop.got[0]
    assert headers["webhook-signature"].split() == [
        expected(current, headers, body), expected(former, headers, body),
    ]  # fmt: skip

    endpoints.rotate(made, overlap=dt.timedelta(0), by=BY)
    tell()
    outbound.send_due()
    assert len(shop.got[1][0]["webhook-signature"].split()) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/hooks", "https://localhost.evil.example/hooks", "https://169.254.169.254/latest",
        "https://user:word@localhost/hooks", "ftp://localhost/", "https://[::1", "",
        "https://localhost:1/" + "x" * 500,
    ],
)  # fmt: skip
def test_other_places_are_refused(shop: Shop, url: str) -> None:
    with pytest.raises(endpoints.PlaceNotAllowed):
        endpoints.create("shop", url, by=BY)


def test_a_host_that_the_settings_drop_gets_nothing(shop: Shop, settings: Any) -> None:
    made, _secret = endpoint(shop)
    tell()
    settings.WEBHOOK_HOSTS = []
    outbound._clients.clear()

    assert outbound.send_due() == 0
    assert shop.got == []
    assert EventDelivery.objects.get().last_error == "NotAllowed"
    endpoints.close(made, reason="its host is not named", by=BY)
    with pytest.raises(endpoints.PlaceNotAllowed):
        endpoints.reopen(made, reason="its host is not named", by=BY)


@pytest.mark.parametrize(
    ("name", "types"), [("Shop", []), ("", []), ("a b", []), ("shop", ["order.exploded"])]
)
def test_bad_names_and_types_are_refused(shop: Shop, name: str, types: list[str]) -> None:
    with pytest.raises(endpoints.BadEndpoint):
        endpoints.create(name, shop.url, event_types=types, by=BY)


def test_the_secret_is_sealed_and_shown_once(shop: Shop) -> None:
    out = StringIO()
    call_command("webhook_endpoints", "create", "shop", shop.url, "--json", stdout=out)
    secret = json.loads(out.getvalue())["secret"]
    listed = StringIO()
    call_command("webhook_endpoints", "list", stdout=listed)

    assert secret.startswith("whsec_")
    assert secret not in listed.getvalue()
    assert secret not in repr(AuditEvent.objects.values_list("canon", flat=True))
    with pytest.raises(CommandError, match=str(endpoints.NameTaken.message)):
        call_command("webhook_endpoints", "create", "shop", shop.url)


def test_the_command_closes_opens_and_rotates(shop: Shop) -> None:
    endpoint(shop)
    call_command("webhook_endpoints", "close", "shop", "--reason", "it moves", stdout=StringIO())
    assert not WebhookEndpoint.objects.get().is_active
    call_command("webhook_endpoints", "open", "shop", "--reason", "it is back", stdout=StringIO())
    assert WebhookEndpoint.objects.get().is_active
    out = StringIO()
    call_command("webhook_endpoints", "rotate", "shop", "--json", stdout=out)
    assert WebhookEndpoint.objects.get().secret == json.loads(out.getvalue())["secret"]
    with pytest.raises(CommandError):
        call_command("webhook_endpoints", "rotate", "nobody")
