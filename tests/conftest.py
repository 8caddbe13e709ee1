"""Fixtures for every test. The machinery behind them is in tests/harness/.

Database tests: `@pytest.mark.django_db(databases=["default", "audit"])` is rolled back; with
`transaction=True` what it commits is deleted afterwards. The alias `default` is the unprivileged runtime
role, as in production.
"""

from __future__ import annotations

import gc

# Imports and collected tests stay: looking for garbage among them took a third of the time until the first.
gc.disable()

from tests.harness import begin  # noqa: E402

begin.begin()  # before anything imports a model, a view or the settings

import os  # noqa: E402
from collections.abc import Callable, Iterator, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import hypothesis  # noqa: E402
import pytest  # noqa: E402
from django.test import TransactionTestCase  # noqa: E402
from django.test import client as test_client  # noqa: E402

from mestore import servers  # noqa: E402
from tests.harness import caches, databases, live, racing, served  # noqa: E402

pytest_plugins = ["tests.harness.scheduling"]

# How long an example takes says more about the machine than about the code. The same code meets the same
# examples in every run, on every machine; `--hypothesis-profile explore` (make races) draws others.
_SLOW = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("explore", deadline=None, suppress_health_check=_SLOW)
hypothesis.settings.register_profile("mestore", hypothesis.settings.get_profile("explore"), derandomize=True)
hypothesis.settings.load_profile("mestore")


def _remove_what_was_committed(_test_case: TransactionTestCase) -> None:
    databases.empty()


# Django would flush as the runtime role, which has no right to truncate anything.
TransactionTestCase._fixture_teardown = _remove_what_was_committed  # type: ignore[attr-defined] # not in the stubs

# Every `Client` makes one: what tests ask is answered as the service answers it.
test_client.ClientHandler = served.Served  # type: ignore[misc] # in place of its base


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def django_db_setup() -> None:
    """Migrate as the owner; in place of pytest-django's, which creates databases as the runtime role."""
    databases.set_up()


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    yield
    caches.forget()


@pytest.fixture(scope="session")
def private_servers() -> servers.Servers:
    """The running servers. Skips where they belong to somebody else: stopping them would hurt others."""
    running = begin.private_servers()
    if running is None:
        pytest.skip("the servers are not this process's own (DATABASE_URL is set, or tests run in parallel)")
    return running


@pytest.fixture
def own_servers() -> Iterator[servers.Servers]:
    """A second pair of servers, with an empty database, for tests that stop, kill or fill them."""
    with servers.start() as running:
        yield running


@pytest.fixture
def app_dsn(django_db_setup: None) -> str:
    """psycopg's address of the test database as the unprivileged runtime role."""
    return os.environ["DATABASE_URL"]


@pytest.fixture
def owner_dsn(django_db_setup: None) -> str:
    """psycopg's address of the test database as the owner of its tables."""
    return os.environ["MIGRATION_DATABASE_URL"]


@pytest.fixture
def superuser_dsn(django_db_setup: None) -> str:
    """psycopg's address of the test database as a superuser: for tests that attack as one."""
    if begin.SUPERUSER not in os.environ:
        pytest.skip("DATABASE_URL is set: nobody told us a superuser's address")
    return os.environ[begin.SUPERUSER]


@pytest.fixture
def live_api(transactional_db: None) -> Iterator[str]:
    """The address of the whole application behind a real socket, without a slash at its end."""
    with live.serve() as address:
        yield address


@pytest.fixture
def race() -> Callable[[Sequence[Callable[[], Any]]], list[Any]]:
    """`race([f, g, …])` runs all at the same moment and returns their results and exceptions."""
    return racing.race


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The folder with the marketplace's files."""
    folder = Path(os.environ.get("MESTORE_SAMPLE_DATA") or "-")
    if not folder.is_dir():
        pytest.skip("MESTORE_SAMPLE_DATA names no folder with the marketplace's files")
    return folder
