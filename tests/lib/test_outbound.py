"""Calls to other people's services, against real servers on this machine that behave badly."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import stamina
import trustme

from mestore.lib import outbound
from mestore.lib.outbound import AnswerTooLarge, Client, Limits, NotAllowed, Unreachable

# A busy machine may be slow to answer itself; the tests of time bring limits of their own.
PATIENT = Limits(connect_seconds=60, read_seconds=60, total_seconds=120, attempts=3, first_pause_seconds=0.01)


@dataclass
class Service:
    """A server that answers what a test says and remembers what it was asked."""

    url: str
    host: str
    ca_file: str
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)
    answers: list[Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)

    def client(self, **options: Any) -> Client:
        given: dict[str, Any] = {"hosts": {self.host}, "limits": PATIENT, "ca_file": self.ca_file} | options
        return Client(f"test {id(self)} {len(self.asked)}", **given)


def say(status: int, body: bytes = b"", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            found.asked.append((self.command, self.path, self.rfile.read(length)))
            (found.answers.pop(0) if found.answers else say(200, b"fine"))(self)

        do_GET = do_POST = respond  # noqa: N815 - names of the base class

        def log_message(self, *_args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_args: Any) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    host = f"localhost:{server.server_address[1]}"
    found = Service(f"https://{host}", host, str(tmp_path / "ca.pem"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_was_asked_and_answered(service: Service) -> None:
    service.answers = [say(201, b"{}", X_Seen="yes")]

    answer = service.client().send("POST", f"{service.url}/a?b=c", content=b"body")

    assert (answer.status, answer.body, answer.headers["x-seen"]) == (201, b"{}", "yes")
    assert answer.is_success
    assert service.asked == [("POST", "/a?b=c", b"body")]


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:{port}/", "https://other.example/", "https://localhost.evil.example/", "ftp://localhost/",
        "https://user:secret@localhost:{port}/", "//localhost:{port}/", "", "https://localhost:99999/",
        "https://localhost:{port}@evil.example/", "file:///etc/passwd", "https://[::1/",
    ],
)  # fmt: skip
def test_other_addresses_are_refused_before_anything_is_sent(service: Service, url: str) -> None:
    with pytest.raises(NotAllowed) as refusal:
        service.client().send("GET", url.format(port=service.host.partition(":")[2]))

    assert "secret" not in str(refusal.value)
    assert service.asked == []


def test_a_host_that_is_named_with_its_port_is_not_called_at_another(service: Service) -> None:
    with pytest.raises(NotAllowed):
        service.client().send("GET", "https://localhost:1/")


def test_plain_http_only_to_this_machine_and_only_where_allowed() -> None:
    allowed = Client("plain", hosts={"127.0.0.1", "example.com"}, plain_on_loopback=True)
    allowed.demand_allowed("http://127.0.0.1:80/")
    for client, url in (
        (allowed, "http://example.com/"),
        (Client("tls", hosts={"127.0.0.1"}), "http://127.0.0.1/"),
    ):
        with pytest.raises(NotAllowed):
            client.demand_allowed(url)


def test_a_certificate_of_nobody_we_know_is_refused(service: Service) -> None:
    with pytest.raises(Unreachable):
        service.client(ca_file="").send("GET", service.url)
    assert service.asked == []


def test_redirects_are_answers_not_journeys(service: Service) -> None:
    service.answers = [say(302, Location="https://evil.example/")]
    assert service.client().send("GET", service.url).status == 302
    assert len(service.asked) == 1


def test_proxies_of_the_environment_are_not_used(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert service.client().send("GET", service.url).status == 200


def test_what_may_be_repeated_is_and_the_last_answer_counts(service: Service) -> None:
    service.answers = [hang_up, say(503), say(200)]
    with stamina.set_testing(True, attempts=3):
        assert service.client().send("GET", service.url).status == 200
    assert len(service.asked) == 3


def test_who_only_says_later_is_believed_in_the_end(service: Service) -> None:
    service.answers = [say(503)] * 3
    with stamina.set_testing(True, attempts=3):
        assert service.client().send("GET", service.url).status == 503


@pytest.mark.parametrize("answer", [hang_up, say(503)], ids=["cut", "503"])
def test_what_may_not_be_repeated_is_sent_once(
    service: Service, answer: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    service.answers = [answer]
    client = service.client()
    try:
        assert client.send("POST", service.url, content=b"pay").status == 503
    except Unreachable:
        assert answer is hang_up
    assert len(service.asked) == 1


def test_a_post_that_may_be_repeated_is(service: Service) -> None:
    service.answers = [hang_up]
    with stamina.set_testing(True, attempts=2):
        assert service.client().send("POST", service.url, may_repeat=True).status == 200
    assert len(service.asked) == 2


def test_an_endless_answer_is_cut(service: Service) -> None:
    service.answers = [say(200, b"x" * 2_000)]
    with pytest.raises(AnswerTooLarge):
        service.client(limits=replace(PATIENT, largest_answer=1_000, attempts=1)).send("GET", service.url)


def test_an_answer_drop_by_drop_ends_with_the_time(service: Service) -> None:
    stop = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        while not stop.wait(0.05):
            handler.wfile.write(b".")
            handler.wfile.flush()

    service.answers = [drip]
    # Every drop comes within the time of one read, and all of them would come in 50 s: only the time of the
    # whole ends this.
    with pytest.raises(Unreachable):
        service.client(limits=Limits(read_seconds=30, total_seconds=0.4, attempts=1)).send("GET", service.url)
    stop.set()


def test_a_silent_service_ends_with_the_time(service: Service) -> None:
    stop = threading.Event()

    def say_nothing(_handler: BaseHTTPRequestHandler) -> None:
        stop.wait(60)

    service.answers = [say_nothing]
    with pytest.raises(Unreachable):
        service.client(limits=Limits(read_seconds=0.2, attempts=1)).send("GET", service.url)
    stop.set()


def test_a_dead_service_is_left_alone() -> None:
    client = Client("dead", hosts={"localhost:1"}, limits=replace(PATIENT, attempts=1))
    for _ in range(3):
        with pytest.raises(Unreachable, match="ConnectError"):
            client.send("GET", "https://localhost:1/")
    with pytest.raises(Unreachable, match="left alone"):
        client.send("GET", "https://localhost:1/")


def test_idempotent_is_what_the_standard_calls_so() -> None:
    assert "POST" not in outbound.IDEMPOTENT
    assert {"GET", "PUT", "DELETE"} <= outbound.IDEMPOTENT
