"""A load generator: so many clients with a kept connection each, for so many seconds.

Requests are prepared bytes and answers are read no further than needed, in two processes: the machine's time
belongs to the servers that are measured.
"""

from __future__ import annotations

import multiprocessing
import socket
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PROCESSES = 2
TIMEOUT_SECONDS = 30

# Gives the bytes of the next request of one client: (client number, request number of that client).
Requests = Callable[[int, int], bytes]


class UnexpectedAnswerError(Exception):
    """The service answered something else than what is measured."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the clients saw."""

    requests: int
    seconds: float
    latencies: tuple[float, ...]

    @property
    def per_second(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    def percentile(self, percent: int) -> float:
        """A latency in milliseconds."""
        if len(self.latencies) < 2:
            return self.latencies[0] * 1_000 if self.latencies else 0.0
        return statistics.quantiles(self.latencies, n=100)[percent - 1] * 1_000


def request(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """The bytes of one HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if method != "GET":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def run(
    port: int, requests: Requests, *, clients: int, seconds: float, expect: int, limit: int | None = None,
    interval: float = 0.0,
) -> Load:  # fmt: skip
    """Send requests for `seconds`, or until `limit` requests per client. Raises UnexpectedAnswerError.

    With `interval` each client sends one every so many seconds, and a latency counts from when its request
    was due: a service that falls behind does not make its clients wait politely.
    """
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    shares = [list(range(first, clients, PROCESSES)) for first in range(min(PROCESSES, clients))]
    started = time.perf_counter()
    workers = [
        context.Process(
            target=_work,
            args=(port, requests, share, clients, seconds, expect, limit, interval, results),
            daemon=True,
        )
        for share in shares
    ]
    for worker in workers:
        worker.start()
    answers = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    took = time.perf_counter() - started
    for _, error in answers:
        if error:
            raise UnexpectedAnswerError(error)
    merged = tuple(latency for latencies, _ in answers for latency in latencies)
    return Load(len(merged), took, merged)


def _work(
    port: int, requests: Requests, share: Sequence[int], clients: int, seconds: float, expect: int,
    limit: int | None, interval: float, results: multiprocessing.SimpleQueue[tuple[list[float], str]],
) -> None:  # fmt: skip
    latencies: list[float] = []
    errors: list[str] = []
    threads = [
        threading.Thread(
            target=_client,
            args=(port, requests, number, seconds, expect, limit, interval, latencies, errors),
            kwargs={"offset": interval * number / clients},
        )
        for number in share
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put((latencies, errors[0] if errors else ""))


def _client(
    port: int, requests: Requests, number: int, seconds: float, expect: int, limit: int | None,
    interval: float, latencies: list[float], errors: list[str], *, offset: float,
) -> None:  # fmt: skip
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            start = time.perf_counter()
            end, sent = start + seconds, 0
            while not errors and time.perf_counter() < end and (limit is None or sent < limit):
                message = requests(number, sent)
                began = time.perf_counter()
                if interval:
                    due = start + offset + sent * interval
                    time.sleep(max(0.0, due - began))
                    began = due
                connection.sendall(message)
                status, body = answer(connection)
                latencies.append(time.perf_counter() - began)
                sent += 1
                if status != expect:
                    errors.append(f"{status} instead of {expect}: {body[:600].decode(errors='replace')}")
    except OSError as error:
        errors.append(f"connection failed: {error}")


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of one answer with a Content-Length."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += _more(connection)
    head = data[:end].lower()
    at = head.find(b"content-length:")
    length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
    body = data[end + 4 :]
    while len(body) < length:
        body += _more(connection)
    return int(head[9:12]), body


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65_536)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data
