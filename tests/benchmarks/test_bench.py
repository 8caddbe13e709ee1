"""The bench itself: it can be imported, judges what it measured, and its load generator counts."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks import beside, crowds, guessing, load, money, points, processes, report, unaudited
from benchmarks.report import CRITERIA, Figures
from monitoring import audit

REQUEST = load.request("GET", "/", {"Host": "bench"})


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    status = HTTPStatus.OK

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Nothing: the requests are counted by who sends them."""


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def _seed() -> dict[str, object]:
    vendor = {"id": "v", "commission": "c", "token": "t", "cookie": "k"}
    given = [{"address": "198.19.0.1", "token": str(number)} for number in range(points.refresh_tokens(2))]
    return {
        "address": "203.0.113.7", "password": "p", "machine": {"token": "m"}, "vendors": [vendor],
        "people": ["a@example.com"], "refresh": given, "administrator": "s",
    }  # fmt: skip


def _peer() -> dict[str, object]:
    tokens = [f"p{number}" for number in range(points.refresh_tokens(2))]
    vendor = {"id": "v", "commission": "c", "token": "t", "cookie": "k"}
    return {"vendors": [vendor], "storefront": "s", "refresh": tokens}


def test_the_load_generator_counts_every_answer(port: int) -> None:
    result = load.run(port, lambda *_: REQUEST, clients=3, seconds=30, expect=200, limit=7)

    assert result.requests == len(result.latencies) == 21
    assert result.per_second > 0
    assert 0 < result.percentile(50) <= result.percentile(99)


def test_paced_clients_send_as_many_requests(port: int) -> None:
    paced = {"clients": 3, "seconds": 30, "expect": 200, "limit": 4, "interval": 0.01}

    assert load.run(port, lambda *_: REQUEST, **paced).requests == 12  # type: ignore[arg-type]


@pytest.mark.parametrize("state", unaudited.STATES)
def test_the_trail_is_switched_off_nowhere_but_in_the_bench(state: unaudited.State) -> None:
    before = audit.record, audit.record_many, audit.record_refusal

    with pytest.raises(unaudited.NotABench):
        unaudited.switch(state)
    with pytest.raises(unaudited.NotABench):
        _ = unaudited.application

    assert before == (audit.record, audit.record_many, audit.record_refusal)


def test_another_answer_stops_the_bench(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Answer, "status", HTTPStatus.TOO_MANY_REQUESTS)

    with pytest.raises(load.UnexpectedAnswerError, match="429 instead of 200"):
        load.run(port, lambda *_: REQUEST, clients=2, seconds=30, expect=200, limit=5)


def test_every_point_makes_requests() -> None:
    for point in [*points.all_of(_seed(), _peer()), *points.lists(_seed())]:
        point.begin()
        message = point.requests(0, 0)
        assert message.startswith((b"GET /", b"POST /")), point.name
        assert b"\r\n\r\n" in message


def test_no_refresh_token_is_sent_twice() -> None:
    for point in points.all_of(_seed(), _peer()):
        if point.limit is None:
            continue
        sent = []
        for _ in range(2):
            point.begin()
            sent += [point.requests(c, n) for c in range(point.clients) for n in range(point.limit)]
        assert len(set(sent)) == len(sent) == points.refresh_tokens(2)


def test_without_the_peer_its_comparisons_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = Figures()

    def refuse() -> None:
        raise beside.PeerMissingError("no index")

    monkeypatch.setattr(beside, "install", refuse)
    assert bench._peer(None, Path(), figures, _seed(), 1) is None  # type: ignore[arg-type]  # not reached
    assert figures.left_out == {"peer": "no index"}
    assert not [point for point in points.all_of(_seed(), None) if point.service == "peer"]
    assert not any(criterion.is_measured(figures) for criterion in CRITERIA)


def test_a_criterion_is_met_on_its_side_of_the_bound() -> None:
    figures = Figures()
    ours = {
        "per_second": 500.0,
        "cpu_ms": 1.0,
        "postgresql_ms": 0.2,
        "redis_ms": 0.1,
        "p50_ms": 1.0,
        "p99_ms": 2.0,
    }
    for name in {name for criterion in CRITERIA for name in criterion.needs}:
        figures.add(name, ours | {"longest_batch_ms": 10.0, "peak_mib": 1.0, "at_rest_mib": 1.0})
    half = {"per_second": 250.0, "cpu_ms": 2.0, "postgresql_ms": 0.5, "redis_ms": 0.2}
    figures.samples["peer: token read"] = [half]

    met = {criterion.name: criterion.is_met(figures) for criterion in CRITERIA}

    assert all(criterion.is_measured(figures) for criterion in CRITERIA)
    assert met["token read: per second / peer"]
    assert met["token read: CPU in all / peer"]
    assert not met["cookie read: per second / peer"]
    assert not met["cookie read: CPU in all / peer"]


def test_what_is_named_is_measured() -> None:
    named = {name for criterion in CRITERIA for name in criterion.needs}
    known = {point.name for point in points.all_of(_seed(), _peer())}
    known |= {f"{point.name}, {size}" for point in points.lists(_seed()) for size in ("few", "many")}

    assert named - known == {"pgbench", "import", "hash", "purge of sessions", *guessing.NAMES} | (
        named & set(money.NAMES)
    )
    assert "purge of sessions" in crowds.NAMES
    assert set(bench.SCALES) == {"smoke", "sample", "full"}


def test_processor_time_of_this_very_process_grows() -> None:
    import os

    before = processes.cpu_seconds(os.getpid())
    sum(number * number for number in range(2_000_000))

    assert processes.cpu_seconds(os.getpid()) > before


def test_the_peers_packages_are_pinned_with_their_hashes() -> None:
    lines = beside.REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if "==" in line]

    assert len(pinned) > 20
    assert sum("--hash=sha256:" in line for line in lines) >= len(pinned)
    assert not [line for line in lines if line.startswith("--") or "file:" in line]
    wanted = beside.REQUIREMENTS.with_suffix(".in").read_text(encoding="utf-8")
    assert "django-hordak" in wanted
    assert report.RESULTS.name == "results"


def test_each_point_can_be_measured_alone() -> None:
    assert [name for names in money.PARTS for name in names] == list(money.NAMES)
    known = points.all_of(_seed(), _peer())
    assert {point.name for point in known if point.service == "peer"} == set(points.PEERS)
