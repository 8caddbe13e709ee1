"""Liveness asks nobody; readiness tells one word, and the truth."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.conf import settings as django_settings
from django.db import connections
from django.http import HttpResponse
from django.test import RequestFactory

from monitoring import health, readiness

rf = RequestFactory()
pytestmark = pytest.mark.django_db(databases=["default", "audit"])


@pytest.fixture(autouse=True)
def _fresh_look() -> Iterator[None]:
    health.forget_report()
    yield
    health.forget_report()


def _parameters(**changes: Any) -> dict[str, Any]:
    return connections["default"].get_connection_params() | changes


@contextmanager
def _undone(dsn: str, change: str, undo: str) -> Iterator[None]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(change)
        try:
            yield
        finally:
            connection.execute(undo)


class TestLivez:
    def _ask(self, method: str = "get", **headers: str) -> Any:
        def unreachable(_request: object) -> HttpResponse:
            raise AssertionError("something behind the first middleware was asked")

        return health.LivezMiddleware(unreachable)(getattr(rf, method)("/livez", **headers))

    @pytest.mark.django_db(databases=[])
    @pytest.mark.parametrize("host", ["testserver", "evil.example", "10.0.0.7:8000", "nonsense host"])
    def test_is_answered_without_asking_anybody(self, host: str) -> None:
        response = self._ask(HTTP_HOST=host)

        assert (response.status_code, response.content) == (200, b'{"status":"pass"}')
        assert response["Cache-Control"] == "no-store"

    def test_is_for_reading(self) -> None:
        assert self._ask("post").status_code == 405

    def test_other_paths_go_on(self) -> None:
        response = health.LivezMiddleware(lambda _request: HttpResponse("on"))(rf.get("/livez/"))

        assert response.content == b"on"  # type: ignore[attr-defined]


class TestReadyz:
    def test_is_one_word_for_strangers(self) -> None:
        response = health.readyz_view(rf.get("/readyz"))

        assert (response.status_code, json.loads(response.content)) == (200, {"status": "pass"})

    def test_tells_each_check_to_the_operator(self) -> None:
        token = f"Bearer {django_settings.METRICS_TOKEN}"

        response = health.readyz_view(rf.get("/readyz", HTTP_AUTHORIZATION=token))

        body = json.loads(response.content)
        assert response["Content-Type"] == "application/health+json"
        assert body["checks"] == {
            "database": [{"status": "pass", "output": ""}],
            "redis": [{"status": "pass", "output": ""}],
            "audit": [{"status": "pass", "output": ""}],
        }

    @pytest.mark.parametrize("view", [health.readyz_view, health.health_view])
    def test_is_for_reading(self, view: Any) -> None:
        assert view(rf.post("/readyz")).status_code == 405

    def test_many_askers_cost_one_look(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looks: list[int] = []
        look = readiness.checks

        def counted() -> dict[str, Callable[[], str]]:
            looks.append(1)
            return look()

        monkeypatch.setattr(readiness, "checks", counted)
        clock = [1_000.0]
        monkeypatch.setattr("monitoring.health.time.monotonic", lambda: clock[0])

        for moment in (0.0, health.CACHE_SECONDS - 0.01):
            clock[0] = 1_000.0 + moment
            for _ in range(25):
                health.readyz_view(rf.get("/readyz"))
        assert len(looks) == 1

        clock[0] = 1_000.0 + health.CACHE_SECONDS
        health.readyz_view(rf.get("/readyz"))
        assert len(looks) == 2

    def test_failing_check_is_503_and_still_one_word(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(readiness, "checks", lambda: {"database": lambda: "the reason"})

        response = health.readyz_view(rf.get("/readyz"))
        assert (response.status_code, json.loads(response.content)) == (503, {"status": "fail"})

        envelope = health.health_view(rf.get("/health"))
        body = json.loads(envelope.content)
        assert (envelope.status_code, body["status"], body["data"]) == (503, "error", {"status": "fail"})
        assert b"reason" not in response.content + envelope.content

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_check_that_breaks_is_a_failing_check(self) -> None:
        def broken() -> str:
            raise LookupError

        assert not health.make_report({"broken": broken}).is_ready


def test_health_has_the_contracts_envelope() -> None:
    response = health.health_view(rf.get("/health"))

    body = json.loads(response.content)
    assert response.status_code == 200
    assert set(body) == {"status", "data", "message", "timestamp", "version"}
    assert (body["status"], body["data"]) == ("success", {"status": "pass"})


class TestDatabase:
    def test_closed_port_is_noticed(self) -> None:
        assert readiness.database(_parameters(port="1")).startswith("database: ")

    def test_wrong_password_is_noticed_and_not_told(self) -> None:
        assert readiness.database(_parameters(password="wrong")) == "database: OperationalError"

    def test_server_that_never_answers_is_given_up_and_not_asked_twice_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(health, "TIMEOUT_SECONDS", 0.5)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = str(silent.getsockname()[1])
            checks = {"silent": lambda: readiness.database(_parameters(port=port))}

            reports, attempts = [], set()
            for _ in range(3):
                reports.append(health.make_report(checks))
                attempts.add(health._Attempt.running["silent"])

            # Nobody waits for the answer, which never comes, and one thread alone is stuck with it.
            assert all(report.checks == (("silent", "no answer in time"),) for report in reports)
            assert len(attempts) == 1

    def test_unapplied_migration_is_noticed(self, owner_dsn: str) -> None:
        with _undone(
            owner_dsn,
            "UPDATE django_migrations SET name = 'undone_' || name WHERE app = 'monitoring'",
            "UPDATE django_migrations SET name = replace(name, 'undone_', '') WHERE app = 'monitoring'",
        ):
            assert readiness.database(_parameters()).endswith("migrations are not applied")

    @pytest.mark.parametrize("state", ["DISABLE TRIGGER", "ENABLE TRIGGER", "ENABLE REPLICA TRIGGER"])
    @pytest.mark.parametrize("trigger", ["audit_event_append_only", "audit_event_no_truncate"])
    def test_trigger_that_does_not_always_fire_is_noticed(
        self, owner_dsn: str, state: str, trigger: str
    ) -> None:
        with _undone(
            owner_dsn,
            f"ALTER TABLE audit_event {state} {trigger}",
            f"ALTER TABLE audit_event ENABLE ALWAYS TRIGGER {trigger}",
        ):
            assert "not protected" in readiness.database(_parameters())

    @pytest.mark.parametrize("state", ["DISABLE TRIGGER", "ENABLE TRIGGER"])
    def test_capture_that_can_be_silenced_is_noticed(self, owner_dsn: str, state: str) -> None:
        with _undone(
            owner_dsn,
            f"ALTER TABLE accounts_grant {state} audit_capture_delete",
            "ALTER TABLE accounts_grant ENABLE ALWAYS TRIGGER audit_capture_delete",
        ):
            assert readiness.database(_parameters()) == "changes of accounts_grant are not captured"

    @pytest.mark.parametrize("right", ["UPDATE", "DELETE", "TRUNCATE", "UPDATE (outcome)"])
    def test_right_that_is_too_wide_is_noticed(self, owner_dsn: str, right: str) -> None:
        role = django_settings.DATABASES["default"]["USER"]
        with _undone(
            owner_dsn,
            f'GRANT {right} ON audit_event TO "{role}"',
            f'REVOKE {right} ON audit_event FROM "{role}"',
        ):
            assert "may change rows" in readiness.database(_parameters())

    def test_owner_is_not_ready_to_serve(self) -> None:
        assert "may change rows" in readiness.database(connections["owner"].get_connection_params())

    def test_table_that_is_missing_is_noticed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(readiness, "_append_only", {"audit_event"})
        readiness.must_be_append_only("no_such_table")

        assert readiness.database(_parameters()) == "the table no_such_table is missing"


class TestRedis:
    def test_closed_port_is_noticed(self, settings: Any) -> None:
        settings.CACHES = {
            "default": settings.CACHES["default"]
            | {"LOCATION": "redis://127.0.0.1:1/0", "KEY_PREFIX": "none"}
        }

        assert readiness.redis().startswith("redis: ")

    def test_house_without_redis_needs_none(self, settings: Any) -> None:
        settings.REDIS_URL = ""

        assert readiness.redis() == ""

    def test_redis_that_answers_is_well(self) -> None:
        assert readiness.redis() == ""
