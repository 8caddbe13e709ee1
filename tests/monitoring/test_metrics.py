"""Metrics: bounded labels, one observation for each request, closed to strangers, whole over processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from mestore.lib import errors
from monitoring import metrics, pools
from monitoring.database.base import DatabaseWrapper
from monitoring.registry import REGISTRY

rf = RequestFactory()


def _value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def _series() -> int:
    return len(metrics.scrape().splitlines())


def _middleware(status: int = 200, view: str | None = None) -> Any:
    def answer(request: HttpRequest) -> HttpResponse:
        if view is not None:
            request.resolver_match = SimpleNamespace(view_name=view)  # type: ignore[assignment]
        return HttpResponse(status=status)

    return metrics.MetricsMiddleware(answer)


class TestLabels:
    def test_thousand_methods_and_paths_make_one_series(self) -> None:
        middleware = _middleware(405)
        middleware(rf.generic("FIRST", "/first"))
        before = _series()

        for number in range(1_000):
            middleware(rf.generic(f"METHOD{number}", f"/path/{number}?q={number}"))

        assert _series() == before
        assert _value("mestore_http_requests_total", view="unmatched", method="other", status="405") >= 1_001

    def test_view_is_named_by_its_route(self) -> None:
        _middleware(200, "a-route")(rf.get("/api/v1/orders/1"))

        assert _value("mestore_http_requests_total", view="a-route", method="GET", status="200") == 1

    def test_view_without_a_name_is_unmatched(self) -> None:
        before = _value("mestore_http_requests_total", view="unmatched", method="GET", status="203")
        _middleware(203, "")(rf.get("/"))

        assert (
            _value("mestore_http_requests_total", view="unmatched", method="GET", status="203") == before + 1
        )

    def test_every_request_is_observed_once_also_when_it_fails(self) -> None:
        middleware = _middleware(500, "broken")
        request = rf.get("/")
        middleware.process_request(request)
        request.resolver_match = SimpleNamespace(view_name="broken")  # type: ignore[assignment]
        middleware.process_view(request, None, (), {})
        middleware.process_exception(request, ValueError("x"))
        response = middleware.process_template_response(request, HttpResponse(status=500))
        middleware.process_response(request, response)

        assert _value("mestore_http_request_seconds_count", view="broken", method="GET") == 1
        assert _value("mestore_http_exceptions_total", view="broken") == 1

    def test_error_with_a_meaning_is_no_failure(self) -> None:
        middleware = _middleware()
        request = rf.get("/")
        request.resolver_match = SimpleNamespace(view_name="refusing")  # type: ignore[assignment]

        middleware.process_exception(request, errors.Forbidden())

        assert _value("mestore_http_exceptions_total", view="refusing") == 0

    def test_there_are_nine_buckets(self) -> None:
        _middleware(200, "bucketed")(rf.get("/"))

        found = re.findall(
            rb'mestore_http_request_seconds_bucket\{le="([^"]+)",.*view="bucketed"\}', metrics.scrape()
        )
        assert len(found) == 10  # and +Inf

    def test_libraries_own_metrics_are_not_in_the_scrape(self) -> None:
        text = metrics.scrape().decode()

        assert "django_" not in text
        assert "python_info" not in text


class TestAccess:
    @pytest.mark.parametrize(
        "header",
        ["", "Bearer", "Bearer ", "Bearer wrong", "Basic {token}", "{token}", "Bearer {token}x", "Bearer ñ"],
    )
    def test_without_the_token_it_is_401(self, header: str) -> None:
        given = header.format(token=django_settings.METRICS_TOKEN)

        response = metrics.metrics_view(rf.get("/metrics", HTTP_AUTHORIZATION=given))

        assert response.status_code == 401
        assert response["WWW-Authenticate"]
        assert b"mestore_http" not in response.content

    def test_where_no_token_is_configured_there_is_no_such_page(self, settings: Any) -> None:
        settings.METRICS_TOKEN = ""

        assert metrics.metrics_view(rf.get("/metrics", HTTP_AUTHORIZATION="Bearer ")).status_code == 404

    def test_writing_is_refused(self) -> None:
        token = f"Bearer {django_settings.METRICS_TOKEN}"

        response = metrics.metrics_view(rf.post("/metrics", HTTP_AUTHORIZATION=token))

        assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")

    @pytest.mark.django_db
    @pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
    def test_token_opens_it(self, scheme: str) -> None:
        metrics.AUTH_ATTEMPTS.labels("succeeded", "password").inc()

        response = metrics.metrics_view(
            rf.get("/metrics", HTTP_AUTHORIZATION=f"{scheme} {django_settings.METRICS_TOKEN}")
        )

        assert response.status_code == 200
        assert response["Content-Type"].startswith("text/plain")
        assert b'mestore_auth_attempts_total{factor="password",outcome="succeeded"}' in response.content


class _Pool:
    def __init__(self, **stats: int) -> None:
        self.stats = stats

    def get_stats(self) -> dict[str, int]:
        return self.stats


class TestPools:
    @pytest.mark.django_db
    def test_statistics_have_every_number_also_those_that_are_zero(self) -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")

        numbers = pools.pool_statistics()["default"]
        assert numbers["size"] >= 1
        assert numbers["connect_errors"] == 0
        assert set(numbers) == set(pools._LEVELS.values()) | set(pools._TOTALS.values())

    def test_counters_move_by_what_happened_since(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pool = _Pool(requests_num=5, pool_size=2)
        monkeypatch.setattr(DatabaseWrapper, "_connection_pools", {"t": pool})

        pools.publish()
        pool.stats = {"requests_num": 8}
        pools.publish()
        assert _value("mestore_db_pool_requests_total", alias="t") == 8
        assert _value("mestore_db_pool_size", alias="t") == 0

        pool.stats = {"requests_num": 1}  # a pool that began again
        pools.publish()
        assert _value("mestore_db_pool_requests_total", alias="t") == 8

    def test_requests_do_not_publish_each_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(DatabaseWrapper, "_connection_pools", {"u": _Pool(pool_size=3)})
        monkeypatch.setattr(pools, "_next_at", 0.0)
        pools.publish_when_due()
        monkeypatch.setattr(DatabaseWrapper, "_connection_pools", {"u": _Pool(pool_size=9)})
        pools.publish_when_due()

        assert _value("mestore_db_pool_size", alias="u") == 3


SCRIPT = """
import os, subprocess, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "mestore.settings"
import django
django.setup()
from django.http import HttpResponse
from django.test import RequestFactory
from monitoring import metrics, pools
from monitoring.database.base import DatabaseWrapper

class Pool:
    def get_stats(self):
        return {"pool_size": 7, "requests_num": 4}

DatabaseWrapper._connection_pools = {"default": Pool()}
pools.publish()
metrics.MetricsMiddleware(lambda request: HttpResponse())(RequestFactory().get("/"))
if len(sys.argv) == 1:
    subprocess.run([sys.executable, __file__, "child"], check=True)
    print(metrics.scrape().decode())
"""


def test_processes_are_summed_and_the_gauges_of_dead_ones_swept(tmp_path: Path) -> None:
    script, folder = tmp_path / "scrape.py", tmp_path / "numbers"
    script.write_text(textwrap.dedent(SCRIPT))
    folder.mkdir()

    done = subprocess.run(
        [sys.executable, script],
        env=os.environ
        | {"PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": str(django_settings.BASE_DIR)},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert 'mestore_http_requests_total{method="GET",status="200",view="unmatched"} 2.0' in done.stdout
    assert 'mestore_db_pool_requests_total{alias="default"} 8.0' in done.stdout
    assert 'mestore_db_pool_size{alias="default"} 7.0' in done.stdout  # the child's are gone with it


def test_sweep_takes_only_the_gauges_of_processes_that_are_gone(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    kept = {
        f"gauge_livesum_{os.getpid()}.db",
        f"counter_{ended.pid}.db",
        f"histogram_{ended.pid}.db",
        "notes.txt",
    }
    for name in kept | {f"gauge_livesum_{ended.pid}.db", f"gauge_livemax_{ended.pid}.db"}:
        (tmp_path / name).touch()

    metrics.sweep(tmp_path)

    assert {file.name for file in tmp_path.iterdir()} == kept


def test_scrape_of_several_processes_reads_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))

    assert metrics.scrape() == b""


def test_process_of_somebody_else_counts_as_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)

    assert metrics._is_alive(1)
