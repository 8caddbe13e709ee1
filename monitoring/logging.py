"""Log lines: one JSON object each, with the request's id, without secrets.

`logging_config` is what `settings.LOGGING` holds. Our own lines (structlog) and those of the standard
library's logging (Django, procrastinate, psycopg) go through the same steps, redaction last.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.typing import WrappedLogger

from monitoring import redaction

MAX_FRAMES = 30
STANDARD_ERROR = "stderr"
_LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})

EventDict = MutableMapping[str, Any]


def logging_config(env: str) -> dict[str, Any]:
    """Return the LOGGING dictionary for the environment `env`, and set structlog up to go the same way.

    Lines go to standard error: standard output belongs to what commands print. The level is MESTORE_LOG_LEVEL
    (default INFO; in tests WARNING).
    """
    level = os.environ.get("MESTORE_LOG_LEVEL", "WARNING" if env == "test" else "INFO").upper()
    if level not in _LEVELS:
        level = "INFO"
    structlog.configure(
        processors=[*_shared(), *_last_steps()],
        logger_factory=StandardError,
        wrapper_class=structlog.make_filtering_bound_logger(_rank(level)),
        cache_logger_on_first_use=True,
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": json_formatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # Django's own set-up gives these handlers and levels of their own; ours is the only way out.
            "django": {"handlers": [], "level": level, "propagate": True},
            "django.server": {"handlers": [], "level": level, "propagate": True},
            # Each statement with its parameters: never, not even when everything else is at DEBUG.
            "django.db.backends": {"handlers": [], "level": "WARNING", "propagate": True},
            # The access line tells the status already.
            "django.request": {"handlers": [], "level": "ERROR", "propagate": True},
            "procrastinate": {"handlers": [], "level": max(level, "WARNING", key=_rank), "propagate": True},
        },
    }


def json_formatter() -> logging.Formatter:
    """Return the formatter that lines of the standard library go through."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_statement_without_literals, *_shared(), structlog.stdlib.ExtraAdder(_EXTRAS)],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_last_steps()],
    )


class StandardError:
    """Where our own lines go. Not through the standard library's logging: it costs more than all the rest."""

    _lock = threading.Lock()

    def __init__(self, name: str = "mestore") -> None:
        self.name = name

    def msg(self, line: str) -> None:
        """Write one line, whole, whatever other threads write."""
        with self._lock:
            sys.stderr.write(f"{line}\n")

    debug = info = warning = error = critical = exception = msg


def access_log() -> Any:
    """Return the logger of the access line: of our own words and numbers, with the request's id among them.

    So it is not searched for secrets, and what is bound to the thread is not gathered: of the line that was
    three quarters. A value from outside is redacted by whoever passes it.
    """
    return structlog.wrap_logger(
        StandardError("mestore.access"), processors=[*_shared()[1:], _as_json]
    ).bind()


_encode = json.JSONEncoder(ensure_ascii=False).encode


def _as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return _encode(event)


class AppendedFile:
    """A file of lines: each is one write to its end, whole, whoever else writes to it. 0600."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def msg(self, line: str) -> None:
        """Write one line. Raises OSError."""
        written = f"{line}\n".encode("utf-8", "replace")
        if os.write(self._file, written) != len(written):
            raise OSError("a line was cut: the disk is full")

    info = msg


# What libraries attach to a record and is worth keeping; their `request`, `sql` and `params` are not.
_EXTRAS = ("status_code", "duration")


def _shared() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]


def _last_steps() -> list[Any]:
    return [structured_exception, redaction.processor, structlog.processors.JSONRenderer(ensure_ascii=False)]


def structured_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by type, message and places of the exception; never by local variables."""
    info = event.pop("exc_info", None)
    event.pop("stack_info", None)
    error = _exception_of(info)
    if error is not None:
        event["exception"] = describe(error)
    return event


def describe(error: BaseException) -> list[dict[str, Any]]:
    """Return the exception and its causes, outermost first: type, message, frames as `file:line function`."""
    found: list[dict[str, Any]] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = traceback.extract_tb(current.__traceback__)[-MAX_FRAMES:]
        found.append(
            {
                "type": f"{type(current).__module__}.{type(current).__qualname__}",
                "message": str(current),
                "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
            }
        )
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return found


def _exception_of(info: Any) -> BaseException | None:
    if isinstance(info, BaseException):
        return info
    if isinstance(info, tuple):
        error = info[1]
        return error if isinstance(error, BaseException) else None
    return sys.exc_info()[1] if info else None


def _statement_without_literals(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take the values out of a statement that the database layer logs: they are written into its text."""
    record = event.get("_record")
    if isinstance(record, logging.LogRecord) and record.name.startswith("django.db"):
        event["event"] = redaction.statement(record.getMessage().partition("; args=")[0])
        event.pop("positional_args", None)
    return event


def _rank(level: str) -> int:
    return logging.getLevelNamesMapping()[level]
