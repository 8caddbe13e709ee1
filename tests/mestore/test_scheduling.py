"""Second tries: who gets one, that it is told, and that many of them are a failure. Runs pytest in pytest."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.harness import scheduling
from tests.harness.racing import race as run_race

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ("-p", "tests.harness.scheduling", "-p", "no:cacheprovider", "-p", "no:django", "-q")
SAMPLES = '''
import os, socket, subprocess, threading
from pathlib import Path
import pytest

def fails(times):
    """Fail so often, whatever process of xdist asks."""
    name = os.environ["PYTEST_CURRENT_TEST"].split("::")[1].split(" ")[0].partition("[")[0]
    note = Path(__file__).with_name(name + ".tries")
    tries = len(note.read_text()) if note.exists() else 0
    note.write_text("x" * (tries + 1))
    assert tries >= times, f"failure {tries + 1} of {name}"

def in_a_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()

@pytest.fixture
def race():
    return None
'''


def run(folder: Path, tests: str, *arguments: str) -> tuple[int, str]:
    """What pytest says of `tests` in a process of its own, and how it ends."""
    (folder / "test_sample.py").write_text(SAMPLES + tests)
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, f"--rootdir={folder}", "-c", str(folder / "pytest.ini"),
         *arguments, str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


TIMID = """
def test_by_thread():
    in_a_thread(lambda: None)
    fails(1)

def test_by_fixture(race):
    fails(1)

def test_by_socket():
    with socket.socket():
        fails(1)
"""


@pytest.mark.parametrize("processes", [(), ("-n", "2", "--dist", "loadgroup")], ids=["alone", "xdist"])
def test_three_second_tries_are_told_and_pass(tmp_path: Path, processes: tuple[str, ...]) -> None:
    code, said = run(tmp_path, TIMID, *processes)

    assert (code, "3 passed, 3 rerun" in said) == (0, True), said
    for name in ("test_by_thread", "test_by_fixture", "test_by_socket"):
        assert f"AssertionError: failure 1 of {name}" in said
        assert f"::{name} (call)" in said


@pytest.mark.parametrize("processes", [(), ("-n", "2", "--dist", "loadgroup")], ids=["alone", "xdist"])
def test_a_fourth_fails_the_run(tmp_path: Path, processes: tuple[str, ...]) -> None:
    code, said = run(
        tmp_path, TIMID + "def test_by_process():\n    subprocess.run(['true'])\n    fails(1)\n", *processes
    )

    assert (code, "4 passed, 4 rerun" in said) == (1, True), said
    assert "FAILED: more than 3 tests needed a second try" in said


def test_there_is_no_third_try(tmp_path: Path) -> None:
    code, said = run(tmp_path, "def test_broken():\n    in_a_thread(lambda: None)\n    fails(2)\n")

    assert (code, "1 failed, 1 rerun" in said) == (1, True), said
    assert "failure 1 of test_broken" in said
    assert "failure 2 of test_broken" in said


def test_what_is_certain_has_one_try(tmp_path: Path) -> None:
    code, said = run(tmp_path, "def test_certain():\n    fails(1)\n")

    assert (code, "1 failed" in said, "rerun" in said) == (1, True, False), said


def test_nobody_marks_by_hand(tmp_path: Path) -> None:
    code, said = run(tmp_path, "@pytest.mark.flaky(reruns=2)\ndef test_mine():\n    fails(1)\n")

    assert code == pytest.ExitCode.USAGE_ERROR
    assert "no test is marked flaky by hand" in said


def test_races_alone_are_repeated_and_fail_at_once(tmp_path: Path) -> None:
    given = "def test_race(race):\n    pass\ndef test_plain():\n    pass\n"

    assert "4 passed, 1 deselected" in run(tmp_path, given, "--races", "--repeat", "4", "--hogs", "2")[1]
    code, said = run(tmp_path, TIMID, "--races", "-p", "no:rerunfailures")
    assert (code, "3 failed" in said) == (1, True), said


# The rule itself, on functions of this module.


class Crowd:
    def begin(self) -> threading.Thread:
        return threading.Thread(target=print)


def helper() -> None:
    def inner() -> None:
        subprocess.run(["true"], check=False)

    inner()


def through_helper() -> None:
    helper()


def through_class() -> None:
    Crowd().begin()


def through_module() -> None:
    scheduling.Hogs(0)


def through_import() -> None:
    run_race([])


@hypothesis.given(st.integers())
def through_hypothesis(number: int) -> None:
    helper()


@pytest.mark.parametrize("function", [helper, through_helper, through_class, through_module, through_import])
def test_what_reaches_for_processes_is_found_however_deep(function: object) -> None:
    assert scheduling._reaches(function)


def test_what_hypothesis_wraps_is_looked_into(request: pytest.FixtureRequest) -> None:
    item = pytest.Function.from_parent(
        request.node.parent, name="through_hypothesis", callobj=through_hypothesis
    )

    assert scheduling.is_of_scheduling(item)


def test_what_names_nothing_of_the_kind_is_certain(request: pytest.FixtureRequest) -> None:
    assert not scheduling.is_of_scheduling(request.node)
