"""Log lines: JSON, one per event, with the request's id and without secrets."""

from __future__ import annotations

import io
import json
import logging
import logging.config
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from mestore import middleware
from monitoring import logging as house

SECRET = "hunter2-Tr0ub4dor"

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """What reaches the end of the way out, as objects: our own lines, then those of libraries."""
    theirs = io.StringIO()
    handler = logging.StreamHandler(theirs)
    handler.setFormatter(house.json_formatter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    ours: list[str] = []

    def read() -> list[dict[str, Any]]:
        ours.extend(capsys.readouterr().err.splitlines())
        return [json.loads(line) for line in [*ours, *theirs.getvalue().splitlines()]]

    yield read
    root.removeHandler(handler)
    root.setLevel(level)


def test_secret_in_locals_is_not_shown(lines: Lines) -> None:
    def sign_in(password: str) -> None:
        raise ValueError("nope")

    try:
        sign_in(SECRET)
    except ValueError:
        structlog.get_logger("test").exception("failed")

    (line,) = lines()
    assert SECRET not in json.dumps(line)
    assert line["exception"][0]["type"] == "builtins.ValueError"
    assert "sign_in" in line["exception"][0]["frames"][-1]


def test_secret_in_an_exception_and_its_causes_is_not_shown(lines: Lines) -> None:
    def fail() -> None:
        try:
            raise KeyError(f"Bearer {SECRET}")
        except KeyError as error:
            raise ValueError(f"password={SECRET}") from error

    try:
        fail()
    except ValueError:
        logging.getLogger("some.library").exception("it said token=%s", SECRET)

    (line,) = lines()
    assert SECRET not in json.dumps(line)
    assert [item["type"] for item in line["exception"]] == ["builtins.ValueError", "builtins.KeyError"]


def test_secret_in_headers_and_query_is_not_shown(lines: Lines) -> None:
    structlog.get_logger("test").warning(
        "request",
        headers={"Authorization": f"Bearer {SECRET}", "Cookie": f"__Host-sessionid={SECRET}"},
        path=f"/x?reset_token={SECRET}",
        query=f"password={SECRET}",
    )
    logging.getLogger("django.security").warning("Not found: /x?password=%s", SECRET)

    assert len(lines()) == 2
    assert SECRET not in json.dumps(lines())


@pytest.mark.django_db
def test_secret_in_sql_is_not_shown_even_at_debug(lines: Lines) -> None:
    connection.force_debug_cursor = True
    logger = logging.getLogger("django.db.backends")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT %s::text, 'spelled out'", [SECRET])
    finally:
        connection.force_debug_cursor = False
        logger.setLevel(level)

    shown = [line for line in lines() if line["logger"] == "django.db.backends"]
    assert shown
    assert SECRET not in json.dumps(shown)
    assert "spelled out" not in json.dumps(shown)


def test_library_lines_look_like_ours(lines: Lines) -> None:
    with structlog.contextvars.bound_contextvars(request_id="req_1"):
        structlog.get_logger("ours").warning("happened", count=3)
        logging.getLogger("theirs").warning(
            "happened %s", "too", extra={"status_code": 404, "request": object()}
        )

    ours, theirs = lines()
    for line in (ours, theirs):
        assert line["request_id"] == "req_1"
        assert line["level"] == "warning"
        assert line["at"].endswith("Z")
    assert (ours["event"], ours["count"], ours["logger"]) == ("happened", 3, "ours")
    assert (theirs["event"], theirs["status_code"], theirs["logger"]) == ("happened too", 404, "theirs")
    assert "request" not in theirs


def test_exception_that_was_suppressed_is_not_told() -> None:
    def fail() -> None:
        try:
            raise KeyError("inner")
        except KeyError:
            raise ValueError("outer") from None

    with pytest.raises(ValueError, match="outer") as caught:
        fail()

    assert [item["message"] for item in house.describe(caught.value)] == ["outer"]


def test_circle_of_causes_ends() -> None:
    first, second = ValueError("1"), ValueError("2")
    first.__cause__, second.__cause__ = second, first

    assert [item["message"] for item in house.describe(first)] == ["1", "2"]


@pytest.mark.parametrize("info", [None, False, (None, None, None)])
def test_line_without_an_exception_has_none(info: object) -> None:
    assert house.structured_exception(None, "info", {"event": "x", "exc_info": info}) == {"event": "x"}


def test_configuration_is_accepted_and_keeps_parameters_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESTORE_LOG_LEVEL", "debug")
    config = house.logging_config("production")

    assert config["root"]["level"] == "DEBUG"
    assert config["loggers"]["django.db.backends"]["level"] == "WARNING"
    logging.config.DictConfigurator(config)  # checks the shape, changes nothing


def test_level_that_does_not_exist_becomes_info(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESTORE_LOG_LEVEL", "LOUD")

    assert house.logging_config("production")["root"]["level"] == "INFO"


@pytest.fixture
def access(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The access line's own way out, at the level of a running service."""
    before = structlog.get_config()
    monkeypatch.setenv("MESTORE_LOG_LEVEL", "INFO")
    house.logging_config("production")
    yield house.access_log()
    structlog.configure(**before)


def answer(request: HttpRequest) -> HttpResponse:
    structlog.get_logger("inside").warning("seen")
    return HttpResponse(status=207)


@pytest.mark.parametrize(
    ("theirs", "shown"),
    [
        ("abcd-1234_EFGH", "abcd-1234_EFGH"),
        ("4111111111111111", "[card number]"),  # whatever a client calls an id
        ("short", None),
        ("two words", None),
        ('"},{"level":"error', None),
        ("", None),
    ],
)
def test_access_line_names_the_request_and_nothing_that_is_secret(
    theirs: str, shown: str | None, access: Any, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "_access", access)
    request = RequestFactory().post(f"/x?token={SECRET}", headers={"X-Request-ID": theirs})

    response = middleware.RequestLogMiddleware(answer)(request)
    structlog.get_logger("outside").warning("after")

    inside, line, after = lines()
    assert response["X-Request-ID"] == line["request_id"] == inside["request_id"]
    assert response["X-Request-ID"] != theirs
    assert line.get("client_request_id") == inside.get("client_request_id") == shown
    assert line.pop("milliseconds") >= 0
    assert line["at"].endswith("Z")
    told = {"event": "request", "level": "info", "logger": "mestore.access", "method": "POST", "status": 207}
    assert told.items() <= line.items()
    assert line["route"] == "unmatched"
    assert SECRET not in json.dumps([inside, line])
    # The thread goes on to somebody else's request.
    assert not {"request_id", "client_request_id"} & after.keys()


def test_ids_do_not_stay_with_the_thread_when_a_request_breaks() -> None:
    def broken(_request: HttpRequest) -> HttpResponse:
        raise ValueError

    with pytest.raises(ValueError):
        middleware.RequestLogMiddleware(broken)(RequestFactory().get("/"))

    assert "request_id" not in structlog.contextvars.get_contextvars()
