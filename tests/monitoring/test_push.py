"""The audit trail reaches receivers that fail, cut or answer late: in order, complete, at least once."""

from __future__ import annotations

import datetime as dt
import json
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from django.db import transaction

from mestore.lib import actor, sql
from monitoring import (
    audit,
    checkpoints,
    events,
    export_batches,
    export_cursors,
    log,
    push,
    push_figures,
    push_jobs,
    sequencer,
)
from monitoring.export import BadPlace, Place
from monitoring.export_batches import Format
from monitoring.models import AuditEvent, Signal
from monitoring.push import Destination
from monitoring.registry import REGISTRY
from tests.monitoring.people import ADDRESS, EMAIL, person
from tests.monitoring.test_verification import tamper

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

BY = actor.system("test")
TOKEN = "a-token-that-nobody-may-see"
PATIENCE_SECONDS = 600
Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(autouse=True)
def _two_attempts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of all the time that a busy machine may need."""
    push._clients.clear()
    monkeypatch.setattr(push, "LIMITS", replace(push.LIMITS, attempts=2, first_pause_seconds=0.01))
    yield
    push._clients.clear()


@contextmanager
def impatient() -> Iterator[None]:
    """Connects whenever that is, and gives up half a second after it has asked."""
    push._clients.clear()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(push, "LIMITS", replace(push.LIMITS, read_seconds=0.5))
        yield
    push._clients.clear()


def seal(count: int) -> int:
    with transaction.atomic():
        audit.record_many([audit.Entry(events.SIGNED_OUT, by=BY, data={"n": n}) for n in range(count)])
    sequencer.drain()
    return log.state().size


def say(status: int) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.close()


def wait(handler: BaseHTTPRequestHandler) -> None:
    """Hold the answer back until the caller has given up and closed."""
    handler.connection.settimeout(120)
    with_nothing = handler.connection.recv(1)
    assert with_nothing == b""
    hang_up(handler)


@dataclass
class Receiver:
    url: str
    port: int
    bodies: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    ended: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))  # connections

    def whole(self, form: Format = Format.OCSF) -> export_batches.Verified:
        lines = [line for body in self.bodies for line in body.splitlines(keepends=True)]
        return export_batches.verify(lines, form, signed_by=[checkpoints.verifier(1)])


@pytest.fixture
def authority(tmp_path: Path, settings: Any) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    settings.AUDIT_PUSH_CA = str(tmp_path / "ca.pem")
    settings.AUDIT_PUSH_TOKEN = TOKEN
    return made


@pytest.fixture
def siem(authority: trustme.CA, settings: Any) -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            answer = found.answers.pop(0) if found.answers else say(202)
            found.headers.append(dict(self.headers))
            found.bodies.append(body)
            answer(self)

        def log_message(self, *_args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def process_request_thread(self, *given: Any) -> None:
            try:
                super().process_request_thread(*given)
            finally:
                found.ended.release()

        def handle_error(self, *_args: Any) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    found = Receiver(f"https://localhost:{server.server_port}/ingest", server.server_port)
    settings.AUDIT_PUSH = [found.url]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def to(found: Receiver, form: Format = Format.OCSF) -> Destination:
    return Destination(found.url, form)


def cursor() -> export_cursors.Kept:
    (kept,) = export_cursors.every()
    return kept


# --- HTTPS ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [Format.OCSF, Format.JSONL])
def test_everything_arrives_once_in_order_with_its_trailers(siem: Receiver, form: Format) -> None:
    size = seal(1_100)

    assert push.push(to(siem, form), seconds=PATIENCE_SECONDS) == size

    found = siem.whole(form)
    assert (found.begin, found.end, found.batches) == (0, size, 3)
    assert cursor().place == Place(1, size)
    assert len({headers["Idempotency-Key"] for headers in siem.headers}) == 3
    assert {headers["Authorization"] for headers in siem.headers} == {f"Bearer {TOKEN}"}


def test_nothing_new_is_nothing_sent_and_the_first_use_is_recorded(siem: Receiver) -> None:
    seal(3)
    for _ in range(3):
        push.push(to(siem), seconds=PATIENCE_SECONDS)
        sequencer.drain()

    # The second round carried the record of the first use; then there is nothing any more.
    assert len(siem.bodies) == 2
    assert AuditEvent.objects.filter(type=events.AUDIT_DESTINATION_ADDED).count() == 1


@pytest.mark.parametrize(
    "trouble",
    [[say(500)], [say(302)], [say(401)], [say(413)], [hang_up, hang_up], [wait, wait], [say(503), say(503)]],
)
def test_what_was_not_taken_comes_again_and_nothing_is_skipped(siem: Receiver, trouble: list[Answer]) -> None:
    size = seal(600)
    siem.answers = list(trouble)

    with impatient() if wait in trouble else nullcontext():
        assert push.push(to(siem), seconds=PATIENCE_SECONDS) == 0
    assert (cursor().place, cursor().failures) == (Place(1, 0), 1)
    # Whoever gave up may have done so before the receiver had read all of it.
    assert all(siem.ended.acquire(timeout=PATIENCE_SECONDS) for _ in trouble)
    siem.bodies.clear()
    siem.answers.clear()
    assert push.push(to(siem), seconds=PATIENCE_SECONDS) == size

    assert siem.whole().records == size
    assert (cursor().failures, cursor().last_error) == (0, "")


def test_trouble_in_the_middle_keeps_what_arrived(siem: Receiver) -> None:
    seal(1_100)
    siem.answers = [say(200), say(500)]

    assert push.push(to(siem), seconds=PATIENCE_SECONDS) == 500
    assert cursor().place == Place(1, 500)


def test_a_crash_between_sending_and_noting_sends_the_same_ids_again(
    siem: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(20)

    def dies(*_args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(export_cursors, "advance", dies)
        with pytest.raises(KeyboardInterrupt):
            push.push(to(siem), seconds=PATIENCE_SECONDS)
    push.push(to(siem), seconds=PATIENCE_SECONDS)

    first, second = (
        {json.loads(line)["metadata"]["uid"] for line in body.splitlines()[:-1]} for body in siem.bodies
    )
    assert first <= second
    assert len(first) == 20


def test_whoever_died_holding_it_is_followed(siem: Receiver) -> None:
    size = seal(5)
    assert export_cursors.take(to(siem).name, by=BY) is not None
    assert push.push(to(siem), seconds=PATIENCE_SECONDS) == 0

    sql.execute("UPDATE audit_export_cursor SET held_until = now() - interval '1 second'")

    assert push.push(to(siem), seconds=PATIENCE_SECONDS) >= size


def test_two_workers_at_once_send_nothing_twice(siem: Receiver, race: Callable[..., list[Any]]) -> None:
    size = seal(1_100)

    outcomes = race([lambda: push.push(to(siem), seconds=PATIENCE_SECONDS)] * 4)

    assert sum(outcomes) == size, outcomes
    assert siem.whole().records == size


def test_it_stops_in_time_and_goes_on(siem: Receiver) -> None:
    seal(1_100)

    assert push.push(to(siem), seconds=0) == 500
    assert push.push(to(siem), seconds=PATIENCE_SECONDS) >= 600


def test_a_certificate_of_nobody_we_know_gets_nothing(siem: Receiver, settings: Any, tmp_path: Path) -> None:
    seal(3)
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    settings.AUDIT_PUSH_CA = str(tmp_path / "other.pem")

    assert push.push(to(siem), seconds=PATIENCE_SECONDS) == 0
    assert siem.bodies == []


def test_a_receiver_for_another_name_gets_nothing(siem: Receiver) -> None:
    seal(3)
    assert (
        push.push(Destination(f"https://127.0.0.1:{siem.port}/", Format.OCSF), seconds=PATIENCE_SECONDS) == 0
    )
    assert siem.bodies == []


def test_neither_token_nor_personal_values_are_in_logs_cursors_or_lines(
    siem: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    with transaction.atomic():
        audit.record(events.SIGNED_OUT, by=person())
    sequencer.drain()
    siem.answers = [say(500)]

    with caplog.at_level(logging.DEBUG):
        push.push(to(siem), seconds=PATIENCE_SECONDS)
        push.push(to(siem), seconds=PATIENCE_SECONDS)

    text = caplog.text + str(export_cursors.every()) + "".join(siem.bodies)
    for secret in (TOKEN, EMAIL, ADDRESS):
        assert secret not in text


# --- Being late -------------------------------------------------------------------------------------------


def lag(name: str) -> float | None:
    return REGISTRY.get_sample_value("mestore_audit_push_lag_events", {"destination": name})


def test_lag_is_a_figure_and_after_a_while_a_signal(siem: Receiver) -> None:
    size = seal(30)
    push_figures.publish()
    assert lag(to(siem).name) == size
    siem.answers = [say(500)]
    push.push(to(siem), seconds=PATIENCE_SECONDS)

    assert push.tell_of_late() == 0
    assert push.tell_of_late(dt.datetime.now(dt.UTC) + dt.timedelta(minutes=16)) == 1

    signal = Signal.objects.get(rule="audit.push_behind")
    assert signal.evidence[0]["last_error"] == "status 500"
    push.push(to(siem), seconds=PATIENCE_SECONDS)
    sequencer.drain()
    push.push(to(siem), seconds=PATIENCE_SECONDS)
    push_figures.publish()
    assert lag(to(siem).name) == 0


def test_a_log_that_is_shorter_than_what_was_sent_is_told(siem: Receiver) -> None:
    seal(5)
    push.push(to(siem), seconds=PATIENCE_SECONDS)
    sql.execute("UPDATE audit_export_cursor SET next_index = 500")

    with pytest.raises(BadPlace):
        push.push(to(siem), seconds=PATIENCE_SECONDS)
    assert push.tell_of_late() == 1


def test_a_tampered_log_is_not_sent(siem: Receiver, superuser_dsn: str) -> None:
    seal(5)
    tamper(
        superuser_dsn,
        "UPDATE audit_event SET canon = canon || ' ' WHERE id ="
        " (SELECT event_id FROM audit_leaf WHERE leaf_index = 2)",
    )

    with pytest.raises(log.LogDamaged):
        push.push(to(siem), seconds=PATIENCE_SECONDS)
    assert siem.bodies == []


def test_each_destination_has_a_job_and_one_that_was_removed_gets_nothing(
    siem: Receiver, settings: Any
) -> None:
    size = seal(3)
    settings.AUDIT_PUSH = [siem.url, "https://localhost:1/away"]

    push_jobs.audit_push(0)
    push_jobs.audit_push(60)
    waiting = sql.fetch_all(
        "SELECT args->>'name' FROM procrastinate_jobs WHERE task_name = %s ORDER BY 1", (push_jobs.JOB,)
    )

    assert [row[0] for row in waiting] == sorted(one.name for one in push.configured())
    assert push_jobs.audit_push_to(push.configured()[0].name) == size
    assert push_jobs.audit_push_to("https://elsewhere.example/") == 0


# --- Syslog over TLS --------------------------------------------------------------------------------------


@dataclass
class Collector:
    """A syslog receiver; `cut` bytes are read before it goes away without a word."""

    port: int
    cut: int | None = None
    silent: bool = False
    received: list[bytes] = field(default_factory=list)

    def take(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        plain.settimeout(120)
        with context.wrap_socket(plain, server_side=True) as secured:
            content = b""
            while part := secured.recv(65_536):
                content += part
                if self.cut is not None and len(content) > self.cut:
                    return
            if self.silent:
                return
            self.received.append(content)
            secured.unwrap()


@pytest.fixture
def collector(authority: trustme.CA) -> Iterator[Collector]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = Collector(listening.getsockname()[1])
        stop = threading.Event()

        def serve() -> None:
            while True:
                plain, _address = listening.accept()
                if stop.is_set():
                    plain.close()
                    return
                try:
                    found.take(plain, context)
                except OSError:
                    plain.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield found
        stop.set()
        socket.create_connection(("127.0.0.1", found.port)).close()
        thread.join()


def over_syslog(found: Collector, form: Format = Format.JSONL) -> Destination:
    return Destination(f"syslog+tls://localhost:{found.port}", form)


def messages(content: bytes) -> list[str]:
    made: list[str] = []
    while content:
        length, _blank, rest = content.partition(b" ")
        made.append(rest[: int(length)].decode())
        content = rest[int(length) :]
    return made


@pytest.mark.parametrize("form", [Format.JSONL, Format.OCSF])
def test_syslog_carries_every_event_and_trailer(collector: Collector, form: Format) -> None:
    size = seal(700)

    assert push.push(over_syslog(collector, form), seconds=PATIENCE_SECONDS) == size

    received = [one for content in collector.received for one in messages(content)]
    lines = [one.split(" ", 7)[7] + "\n" for one in received]
    found = export_batches.verify(lines, form, signed_by=[checkpoints.verifier(1)])
    assert (found.records, found.batches) == (size, 2)
    head = received[0].split(" ")
    assert head[0] in {"<109>1", "<110>1"}
    assert head[3:7] == ["mestore", "-", "auth.signed_out", "-"]


@pytest.mark.parametrize("trouble", [{"cut": 0}, {"cut": 50_000}, {"silent": True}])
def test_what_syslog_did_not_confirm_comes_again(collector: Collector, trouble: dict[str, Any]) -> None:
    size = seal(400)
    for name, value in trouble.items():
        setattr(collector, name, value)

    assert push.push(over_syslog(collector), seconds=PATIENCE_SECONDS) == 0
    assert cursor().place == Place(1, 0)
    collector.cut, collector.silent = None, False

    assert push.push(over_syslog(collector), seconds=PATIENCE_SECONDS) == size


def test_syslog_to_nobody_or_to_somebody_unknown_is_a_failure(
    collector: Collector, settings: Any, tmp_path: Path
) -> None:
    seal(1)
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    settings.AUDIT_PUSH_CA = str(tmp_path / "other.pem")

    assert push.push(over_syslog(collector), seconds=PATIENCE_SECONDS) == 0
    assert push.push(Destination("syslog+tls://localhost:1", Format.OCSF), seconds=PATIENCE_SECONDS) == 0
    assert collector.received == []
