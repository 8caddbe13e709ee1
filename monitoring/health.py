"""Is this process alive, and may it be given work?

* `/livez`: the process answers. Nothing else is asked, so a database that is away restarts nobody.
* `/readyz`: the process can do its duty: database, Redis, migrations, protection of append-only tables. It
  `warn`s, and is given work all the same, while the audit trail lags behind or waits on the disk.
* `/health`: the same word in the envelope that older clients read.

Strangers get one word; what exactly is wrong is told to those who carry the operator's token.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from mestore.lib import errors
from mestore.lib.http import problem
from monitoring import readiness
from monitoring.metrics import carries_metrics_token

CACHE_SECONDS = 1.0
TIMEOUT_SECONDS = 0.5
API_VERSION = "1.0.0"

PASS, WARN, FAIL = "pass", "warn", "fail"

# The middleware that adds these to every other answer runs behind this one.
_FIXED_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}


class LivezMiddleware:
    """Answer `/livez` before anything else runs: no host check, no redirect, no session, no database."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info != "/livez":
            return self.get_response(request)
        if request.method not in {"GET", "HEAD"}:
            return HttpResponse(status=405, headers={"Allow": "GET, HEAD"} | _FIXED_HEADERS)
        return HttpResponse(b'{"status":"pass"}', content_type="application/json", headers=_FIXED_HEADERS)


def readyz_view(request: HttpRequest) -> HttpResponse:
    """Answer one word, 200 or 503; with the operator's token each check and what it found."""
    if request.method not in {"GET", "HEAD"}:
        return _not_reading(request)
    report = current_report()
    body: dict[str, object] = {"status": report.word}
    if carries_metrics_token(request):
        body["checks"] = {
            name: [{"status": report.word_of(name, why), "output": why}] for name, why in report.checks
        }
        return JsonResponse(body, status=report.status, content_type="application/health+json")
    return JsonResponse(body, status=report.status)


def health_view(request: HttpRequest) -> HttpResponse:
    """Answer the word of `/readyz` in the success envelope of the contract; 503 when it is not a good one."""
    if request.method not in {"GET", "HEAD"}:
        return _not_reading(request)
    report = current_report()
    return JsonResponse(
        {
            "status": "success" if report.is_ready else "error",
            "data": {"status": report.word},
            "message": _("The service is ready.") if report.is_ready else _("The service is not ready."),
            "timestamp": timezone.now().isoformat().replace("+00:00", "Z"),
            "version": API_VERSION,
        },
        status=report.status,
    )


@dataclass(frozen=True, slots=True)
class Report:
    """What the checks found: per check, why it failed or an empty text."""

    checks: tuple[tuple[str, str], ...]

    @property
    def is_ready(self) -> bool:
        return not any(why for name, why in self.checks if name not in readiness.WARNINGS)

    @property
    def word(self) -> str:
        if not self.is_ready:
            return FAIL
        return WARN if any(why for _name, why in self.checks) else PASS

    def word_of(self, name: str, why: str) -> str:
        """Return the word of one check that failed for the reason `why`, if it did."""
        if not why:
            return PASS
        return WARN if name in readiness.WARNINGS else FAIL

    @property
    def status(self) -> int:
        return 200 if self.is_ready else 503


_lock = threading.Lock()
_report: Report | None = None
_until = 0.0


def current_report() -> Report:
    """Return a report that is at most `CACHE_SECONDS` old. Many askers at once cost one set of checks."""
    global _report, _until  # noqa: PLW0603 - one report per process
    with _lock:
        if _report is None or time.monotonic() >= _until:
            _report = make_report(readiness.checks())
            _until = time.monotonic() + CACHE_SECONDS
        return _report


def forget_report() -> None:
    """Make the next asker look again."""
    global _until  # noqa: PLW0603 - one report per process
    _until = 0.0


def make_report(checks: dict[str, Callable[[], str]]) -> Report:
    """Run all checks at once and wait `TIMEOUT_SECONDS` for them, whatever the libraries below would wait."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    attempts = [(name, _Attempt.of(name, check)) for name, check in checks.items()]
    return Report(tuple((name, attempt.wait(deadline)) for name, attempt in attempts))


class _Attempt:
    """One run of one check in a thread of its own, which nobody waits for longer than the deadline."""

    running: dict[str, _Attempt] = {}

    def __init__(self, check: Callable[[], str]) -> None:
        self.result = "the check itself failed"
        self._check = check
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @classmethod
    def of(cls, name: str, check: Callable[[], str]) -> _Attempt:
        """Start an attempt, unless the last one still hangs: threads must not pile up."""
        last = cls.running.get(name)
        if last is None or not last._thread.is_alive():
            last = cls.running[name] = cls(check)
        return last

    def wait(self, deadline: float) -> str:
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return "no answer in time" if self._thread.is_alive() else self.result

    def _run(self) -> None:
        self.result = self._check()


def _not_reading(request: HttpRequest) -> HttpResponse:
    return problem(errors.MethodNotAllowed(headers={"Allow": "GET, HEAD"}), request=request)
