"""Tests whose outcome may depend on how a machine shares its processors: which they are, and what they get.

A pytest plugin, loaded by tests/conftest.py. Whether a test reaches for threads, processes, sockets or a
browser is read from its code and that of its fixtures, never from a list or a mark that somebody gives. Such
a test, and no other, gets one second try (pytest-rerunfailures); each is told with its first failure when
the run ends, and more than `MOST` of them fail the run. docs/decisions.md says why.

`--races` runs only these tests, `--repeat N` each of them N times, `--hogs N` beside N processes that only
burn time; `make races` does all that on one processor, without second tries.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

import pytest

MOST: Final = 3
RERUNS: Final = "rerunfailures"  # the name of pytest-rerunfailures among plugins
#: Modules of which a test must name something to be one of them.
NATURE: Final = frozenset(
    {
        "concurrent.futures", "http.server", "mestore.servers", "multiprocessing", "socket", "socketserver",
        "subprocess", "tests.harness.live", "tests.harness.racing", "threading",
    }
)  # fmt: skip
FIXTURES: Final = frozenset({"race", "live_api", "own_servers", "private_servers"})
FOLDERS: Final = ("tests/faults/", "tests/browser/")
_HOG: Final = "while True: pass"


def is_of_scheduling(item: pytest.Item) -> bool:
    """Whether the outcome of this test depends on threads, processes, sockets or a browser by its nature."""
    if item.nodeid.startswith(FOLDERS) or item.get_closest_marker("browser"):
        return True
    if FIXTURES.intersection(getattr(item, "fixturenames", ())):
        return True
    return any(_reaches(function) for function in _functions_of(item))


def _functions_of(item: pytest.Item) -> Iterator[Callable[..., Any]]:
    """The test, and its fixtures but for those of the whole session, which every test has."""
    test = getattr(item, "obj", None)
    if test is not None:
        yield getattr(getattr(test, "hypothesis", None), "inner_test", test)
    info = getattr(item, "_fixtureinfo", None)
    for definitions in getattr(info, "name2fixturedefs", {}).values():
        yield from (one.func for one in definitions if one.scope != "session")


@cache
def _reaches(function: Callable[..., Any]) -> bool:
    """Whether `function`, or a function or class of the tests that it names, names something of `NATURE`."""
    seen: set[FunctionType] = set()
    waiting: list[Any] = [function]
    while waiting:
        plain = inspect.unwrap(waiting.pop())
        plain = getattr(plain, "__func__", plain)
        if not isinstance(plain, FunctionType) or plain in seen:
            continue
        seen.add(plain)
        for value in _named_in(plain):
            if _place_of(value) in NATURE:
                return True
            if isinstance(value, type):
                waiting += vars(value).values()
            elif callable(value):
                waiting.append(value)
    return False


def _named_in(function: FunctionType) -> Iterator[Any]:
    """What the names in the code of `function` stand for, as far as it is of `NATURE` or of the tests."""
    names = set(_names(function.__code__))
    known = function.__globals__
    for name in names & known.keys():
        value = known[name]
        if _place_of(value) in NATURE or _is_ours(value, function):
            yield value
        if isinstance(value, ModuleType) and _is_ours(value, function):
            yield from (vars(value)[inner] for inner in (names - known.keys()) & vars(value).keys())


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _place_of(value: object) -> str:
    """The module that `value` is or comes from."""
    place = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return str(place or "")


def _is_ours(value: object, function: FunctionType) -> bool:
    place = _place_of(value)
    return place == function.__module__ or place.startswith("tests.")


# What pytest calls.


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of `make races`."""
    group = parser.getgroup("scheduling")
    group.addoption("--races", action="store_true", help="run only tests that depend on scheduling")
    group.addoption("--repeat", type=int, default=1, help="run each test that depends on scheduling so often")
    group.addoption("--hogs", type=int, default=0, help="processes that burn time meanwhile")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make `--repeat` tests of each that depends on scheduling."""
    times = metafunc.config.getoption("repeat")
    if times > 1 and is_of_scheduling(metafunc.definition):
        metafunc.fixturenames.append("_round")
        metafunc.parametrize("_round", range(times))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give a second try to those whose nature asks for one. A mark by hand is refused."""
    marked = [item.nodeid for item in items if item.get_closest_marker("flaky")]
    if marked:
        raise pytest.UsageError(f"no test is marked flaky by hand: {', '.join(marked)}")
    chosen = {item for item in items if is_of_scheduling(item)}
    if config.pluginmanager.hasplugin(RERUNS):
        for item in chosen:
            item.add_marker(pytest.mark.flaky(reruns=1))
    if config.getoption("races"):
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = [item for item in items if item in chosen]


def pytest_configure(config: pytest.Config) -> None:
    """In the process that reports, not in those that xdist starts."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SecondTries(), "second tries")
        config.pluginmanager.register(Hogs(config.getoption("hogs")), "hogs")


class SecondTries:
    """Counts them, tells each with its first failure, and fails a run that needed more than `MOST`."""

    def __init__(self) -> None:
        self.first_failures: list[pytest.TestReport] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if str(report.outcome) == "rerun":
            self.first_failures.append(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if len(self.first_failures) > MOST and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.first_failures:
            return
        terminalreporter.section(f"second tries: {len(self.first_failures)}, at most {MOST}", yellow=True)
        for report in self.first_failures:
            terminalreporter.write_line(f"FIRST FAILURE of {report.nodeid} ({report.when})")
            terminalreporter.write_line(report.longreprtext)
        if len(self.first_failures) > MOST:
            terminalreporter.write_line(f"FAILED: more than {MOST} tests needed a second try", red=True)


class Hogs:
    """Processes that take the processors from the tests, for as long as these run."""

    def __init__(self, number: int) -> None:
        self._processes = [subprocess.Popen([sys.executable, "-c", _HOG]) for _ in range(number)]

    def pytest_unconfigure(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
