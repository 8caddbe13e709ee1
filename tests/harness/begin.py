"""The first thing a test run does: servers, environment, Django, in this order.

Under pytest-xdist the controller starts the servers and the workers inherit their addresses; every worker
has a database and a Redis database of its own, so that rows and throttles of one are never seen by another.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
import threading
from urllib.parse import urlsplit, urlunsplit

from mestore import servers
from mestore.demo import keys

TEMPLATE = "MESTORE_TEST_TEMPLATE_URL"  # the owner's address of the database that workers copy
SUPERUSER = "MESTORE_TEST_SUPERUSER_URL"
STATIC_ROOT = "MESTORE_STATIC_ROOT"

_running: servers.Servers | None = None


def placeholder_environment() -> dict[str, str]:
    """Everything that the settings demand except servers that answer."""
    address = "postgresql://nobody@127.0.0.1:1/nothing?sslmode=verify-full"
    return keys.generate() | {
        "MESTORE_ENV": "test",
        "MESTORE_PUBLIC_URL": "https://testserver",
        "MESTORE_ALLOWED_HOSTS": "testserver,localhost,127.0.0.1",
        # The parameters of production make each hash cost 0.1 s; what they are is tested by reading the
        # settings.
        "MESTORE_ARGON2_TIME_COST": "1",
        "MESTORE_HASH_CONCURRENCY": "16",  # races are about something else than who gets to hash
        "MESTORE_ARGON2_MEMORY_KIB": "1024",
        # A test that takes a code just before a step ends must not fail; the default has tests of its own.
        "MESTORE_TOTP_DRIFT_STEPS": "1",
        "MESTORE_DB_POOL_SIZE": "32",
        "DATABASE_URL": address,
        "MIGRATION_DATABASE_URL": address.replace("nobody@", "owner@"),
        "REDIS_URL": "rediss://nobody@127.0.0.1:1/0",
    }


def begin() -> None:
    """Start what is not given by DATABASE_URL and REDIS_URL, set the environment, and set Django up."""
    _hear_interrupts()
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        _start_servers()
    else:
        _move_to_own_databases(worker)
    os.environ["DJANGO_SETTINGS_MODULE"] = "mestore.settings"
    import django

    django.setup()
    from tests.harness import pages, patience, statics

    patience.have()
    statics.look_once()
    pages.keep_as_rendered()
    # Parallel workers inherit the environment: with this name in it, pytest-django would load the settings
    # there before we have given the worker databases of its own.
    del os.environ["DJANGO_SETTINGS_MODULE"]


def _folder() -> str:
    """A folder that exists, as after collectstatic, for all parallel workers."""
    made = tempfile.mkdtemp(prefix="mestore-static-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def _hear_interrupts() -> None:
    """A run in the background of a shell ignores SIGINT, and so would every process that tests interrupt."""
    if (
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        and threading.current_thread() is threading.main_thread()
    ):
        signal.signal(signal.SIGINT, signal.default_int_handler)


def private_servers() -> servers.Servers | None:
    """The servers that this process started: None in xdist's workers and with servers given from outside."""
    return _running


def _start_servers() -> None:
    global _running
    given = {name for name in ("DATABASE_URL", "MIGRATION_DATABASE_URL", "REDIS_URL") if os.environ.get(name)}
    placeholders = placeholder_environment()
    if len(given) < 3:
        if "DATABASE_URL" in given:
            raise RuntimeError("DATABASE_URL needs MIGRATION_DATABASE_URL and REDIS_URL beside it")
        _running = servers.start()
        atexit.register(_running.stop)
        placeholders |= _running.environment()
        os.environ[SUPERUSER] = _running.admin_database_url()
    for name, value in placeholders.items():
        if name not in given:
            os.environ[name] = value
    os.environ[TEMPLATE] = os.environ["MIGRATION_DATABASE_URL"]
    if STATIC_ROOT not in os.environ:
        os.environ[STATIC_ROOT] = _folder()


def _move_to_own_databases(worker: str) -> None:
    number = int(worker.removeprefix("gw"))
    template = urlsplit(os.environ[TEMPLATE]).path[1:]
    for name in ("DATABASE_URL", "MIGRATION_DATABASE_URL", SUPERUSER):
        if name in os.environ:
            os.environ[name] = with_database(os.environ[name], f"{template}_{worker}")
    os.environ["REDIS_URL"] = with_database(os.environ["REDIS_URL"], str(number % 16))


def with_database(url: str, database: str) -> str:
    """The same address with another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))
