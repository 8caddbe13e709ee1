"""What Prometheus reads: requests, sign-ins, database pools.

Every label has a bounded set of values: a view's name or `unmatched`, a known method, a status, an alias.
Nothing that a client sends becomes a label, so no client can make the scrape grow.

With PROMETHEUS_MULTIPROC_DIR set, each process writes its numbers into files there and a scrape of any of
them sums all; that mode knows no collectors that run at scrape, so pool gauges are pushed after requests.
"""

from __future__ import annotations

import os
import re
import time
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django_prometheus.middleware import PrometheusAfterMiddleware
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from mestore.lib import crypto, errors
from mestore.lib.http import problem
from monitoring import alert_figures, pipeline, pools, push_figures
from monitoring.pools import pool_statistics
from monitoring.registry import REGISTRY

__all__ = ["AUTH_ATTEMPTS", "MetricsMiddleware", "carries_metrics_token", "metrics_view", "pool_statistics"]

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
OTHER_METHOD = "other"
UNMATCHED = "unmatched"

AUTH_ATTEMPTS = Counter(
    "mestore_auth_attempts_total", "Attempts to sign in.", ["outcome", "factor"], registry=REGISTRY
)


class RequestMetrics:
    """Rate, errors, duration: what is counted about requests. One instance in a process."""

    _instance: RequestMetrics | None = None

    def __init__(self) -> None:
        self.requests = Counter(
            "mestore_http_requests_total",
            "Requests answered.",
            ["view", "method", "status"],
            registry=REGISTRY,
        )
        self.seconds = Histogram(
            "mestore_http_request_seconds",
            "Time to answer a request.",
            ["view", "method"],
            registry=REGISTRY,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
        )
        self.exceptions = Counter(
            "mestore_http_exceptions_total", "Views that failed unexpectedly.", ["view"], registry=REGISTRY
        )

        # The series themselves, once they are found: as few as there are labels, which no client chooses.
        self.requests_of = cache(lambda view, method, status: self.requests.labels(view, method, str(status)))
        self.seconds_of = cache(self.seconds.labels)

    @classmethod
    def get_instance(cls) -> RequestMetrics:
        if cls._instance is None:
            cls._instance = cls()
        return cls._instance


class MetricsMiddleware(PrometheusAfterMiddleware):  # type: ignore[misc]  # the library has no types
    """Observe each request once, when its answer leaves, with labels that a client cannot choose."""

    metrics_cls = RequestMetrics
    metrics: RequestMetrics

    def process_request(self, request: HttpRequest) -> None:
        request.metrics_started = time.perf_counter()  # type: ignore[attr-defined]  # read below

    def process_view(self, _request: HttpRequest, *_view: Any) -> None:
        """Count nothing here: the answer tells more."""

    def process_template_response(
        self, _request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        return response

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        view, method = self._get_view_name(request), self._method(request)
        elapsed = time.perf_counter() - request.metrics_started  # type: ignore[attr-defined]  # set above
        self.metrics.requests_of(view, method, response.status_code).inc()
        self.metrics.seconds_of(view, method).observe(elapsed)
        pools.publish_when_due()
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        # An error with a meaning is an answer, not a failure.
        if not isinstance(exception, errors.MeStoreError):
            self.metrics.exceptions.labels(self._get_view_name(request)).inc()

    def _method(self, request: HttpRequest) -> str:
        return request.method if request.method in METHODS else OTHER_METHOD

    def _get_view_name(self, request: HttpRequest) -> str:
        match = request.resolver_match
        return match.view_name or UNMATCHED if match is not None else UNMATCHED


def metrics_view(request: HttpRequest) -> HttpResponse:
    """Answer a scrape. 404 where no token is configured, 401 without it, 405 for anything but reading."""
    if not settings.METRICS_TOKEN:
        return problem(errors.NotFound(), request=request)
    if not carries_metrics_token(request):
        return problem(errors.Unauthorized(), request=request)
    if request.method not in {"GET", "HEAD"}:
        return problem(errors.MethodNotAllowed(headers={"Allow": "GET, HEAD"}), request=request)
    pools.publish()
    alert_figures.publish()
    push_figures.publish()
    pipeline.publish()
    return HttpResponse(scrape(), content_type=CONTENT_TYPE_LATEST, status=HTTPStatus.OK)


def carries_metrics_token(request: HttpRequest) -> bool:
    """Return whether the request carries the operator's token; False when none is configured."""
    scheme, _, given = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    configured: str = settings.METRICS_TOKEN
    return bool(configured) and scheme.lower() == "bearer" and crypto.equal(given.strip(), configured)


def scrape() -> bytes:
    """Return the text of a scrape: of all processes in multiprocess mode, else of this one."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not folder:
        return bytes(generate_latest(REGISTRY))
    sweep(Path(folder))
    everybody = CollectorRegistry()
    MultiProcessCollector(everybody, path=folder)  # type: ignore[no-untyped-call]
    return bytes(generate_latest(everybody))


_GAUGE_FILE = re.compile(r"gauge_live\w*_(\d+)\.db")


def sweep(folder: Path) -> None:
    """Remove the gauges of processes that are gone: the server tells nobody when a worker ends.

    Their counters and histograms stay: what they counted did happen.
    """
    dead = {pid for file in folder.iterdir() if (pid := _process_of(file.name)) and not _is_alive(pid)}
    for pid in dead:
        mark_process_dead(pid, path=str(folder))  # type: ignore[no-untyped-call]


def _process_of(file_name: str) -> int | None:
    match = _GAUGE_FILE.fullmatch(file_name)
    return int(match[1]) if match else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's process has this number now, or ours runs as another user: keep it
    return True
