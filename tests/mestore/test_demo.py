"""`manage.py demo` as somebody on a machine with nothing set runs it."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mestore import servers
from mestore.demo import announcement, command_line, installation
from mestore.servers import ports
from tests.mestore.test_servers import gone

# One running demo for all of them: parallel test processes must not share them out.
pytestmark = pytest.mark.xdist_group("demo")

ROOT = Path(__file__).resolve().parents[2]
# Long enough for the slowest machine: nothing here is asserted about how long things take.
PATIENCE_SECONDS = 120
ORDERS = 8


@dataclass
class Running:
    """A demo in a process of its own."""

    process: subprocess.Popen[str]
    said: dict[str, Any]
    progress: str
    processes: list[int] = field(default_factory=list)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(PATIENCE_SECONDS)


def clean_environment() -> dict[str, str]:
    ours = (
        "MESTORE_",
        "DATABASE_URL",
        "MIGRATION_DATABASE_URL",
        "REDIS_URL",
        "DJANGO_SETTINGS_MODULE",
        "PYTEST_",
    )
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def start(folder: Path, port: int) -> Running:
    command = [sys.executable, "manage.py", "demo", "--json", f"--dir={folder}", f"--port={port}"]
    progress = folder.with_name(f"{folder.name}-progress.log")
    with progress.open("w") as told:
        process = subprocess.Popen(
            [*command, f"--orders={ORDERS}"],
            cwd=ROOT,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
        )
    assert process.stdout
    line = process.stdout.readline()
    assert line, f"the demo ended with {process.wait()}: {progress.read_text()}"
    return Running(process, json.loads(line), progress.read_text(), descendants(process.pid))


def as_an_older_version_left_it(folder: Path) -> None:
    """The schema of this demo is another one than the code's: the next start brings it up to date."""
    state = installation.load(folder)
    state.schema = "older"
    state.save(folder)


def descendants(pid: int) -> list[int]:
    """Every process below `pid`."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry.parent.name))
    found = list(children.get(pid, []))
    for child in found:
        found.extend(children.get(child, []))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    where = tmp_path_factory.mktemp("demo")
    yield where
    installation.delete(where)


@pytest.fixture(scope="module")
def port() -> int:
    return ports.free()


@pytest.fixture(scope="module")
def first(folder: Path, port: int) -> Iterator[Running]:
    running = start(folder, port)
    yield running
    running.process.kill()
    assert gone(running.processes)


def get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", path, headers={"Host": f"localhost:{port}"})
        return connection.getresponse().status
    finally:
        connection.close()


def is_ready(port: int) -> bool:
    """Does it say so before our patience ends? A check that a busy machine made late says no for a moment."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while get(port, "/readyz") != 200:
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.1)
    return True


def test_it_says_in_one_object_all_that_a_client_needs(first: Running, port: int) -> None:
    said = first.said

    assert set(said) == {
        "url", "database_url", "owner_database_url", "redis_url", "admin", "finance_lead", "superuser",
        "vendors", "buyers", "storefront", "metrics_token", "env_file",
    }  # fmt: skip
    assert said["url"] == f"http://localhost:{port}"
    for person in (said["admin"], said["finance_lead"], said["superuser"]):
        assert set(person) == {"email", "password", "totp_secret"}
    assert [set(person) for person in said["vendors"]] == [{"id", "email", "password"}] * 3
    assert [set(person) for person in said["buyers"]] == [{"id", "email", "password"}] * 2
    assert set(said["storefront"]) == {"client_id", "key"}


def test_it_answers_and_holds_the_orders_asked_for(first: Running, port: int) -> None:
    with psycopg.connect(first.said["database_url"]) as connection:
        orders = connection.execute("SELECT count(*) FROM finance_order").fetchone()

    assert orders == (ORDERS,)
    assert get(port, "/livez") == 200
    assert is_ready(port)
    assert get(port, "/admin/") in {302, 200}


def test_its_log_is_cosigned_by_a_witness_that_is_a_process_of_its_own(first: Running) -> None:
    newest = """SELECT count(*) FROM audit_cosignature w JOIN audit_tree t ON t.epoch = w.epoch
                WHERE w.witness = 'witness.demo'"""
    deadline = time.monotonic() + PATIENCE_SECONDS

    with psycopg.connect(first.said["database_url"], autocommit=True) as connection:
        while not (row := connection.execute(newest).fetchone()) or not row[0]:
            assert time.monotonic() < deadline, "the witness cosigned nothing"
            connection.execute("SELECT pg_sleep(0.2)")

    folder = Path(first.said["env_file"]).parent
    assert (folder / "witness" / "key").stat().st_mode & 0o777 == 0o600
    assert list((folder / "witness" / "memory").glob("*.checkpoint"))
    assert (folder / "receipts.jsonl").stat().st_mode & 0o777 == 0o600


def test_its_env_file_is_private_and_serves_other_commands(first: Running) -> None:
    file = Path(first.said["env_file"])

    done = subprocess.run(
        ["sh", "-c", f'set -a; . "{file}"; set +a; exec "{sys.executable}" manage.py migrate --check'],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert file.stat().st_mode & 0o777 == 0o600
    assert (file.parent / installation.STATE).stat().st_mode & 0o777 == 0o600
    assert done.returncode == 0, done.stderr


def test_a_second_demo_finds_the_port_or_the_folder_taken(first: Running, folder: Path, port: int) -> None:
    command = [sys.executable, "manage.py", "demo", f"--dir={folder}"]
    same_port = subprocess.run(
        [*command, f"--port={port}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    same_folder = subprocess.run(
        [*command, f"--port={ports.free()}"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (same_port.returncode, same_folder.returncode) == (1, 1)
    assert f"port {port} is taken" in same_port.stderr
    assert "already running" in same_folder.stderr
    assert get(port, "/livez") == 200


def cluster(address: str) -> tuple[Any, ...] | None:
    """What a cluster made anew, or migrated again, would say differently."""
    with psycopg.connect(address) as connection:
        return connection.execute(
            """SELECT system_identifier, (SELECT max(applied) FROM django_migrations),
                      (SELECT count(*) FROM accounts_user), (SELECT count(*) FROM finance_order)
               FROM pg_control_system()"""
        ).fetchone()


def steps(said: str) -> set[str]:
    """The long work that a start did."""
    return {step for step in ("Creating the schema", "Creating people", "Loading orders") if step in said}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_however_it_ends_nothing_is_left_and_it_comes_back_with_the_same_people(
    first: Running, folder: Path, port: int, how: signal.Signals
) -> None:
    before, keys = cluster(first.said["owner_database_url"]), installation.load(folder).keys
    code = first.stop(how)
    assert gone(first.processes), "something outlived the demo"
    assert code == (0 if how != signal.SIGKILL else -signal.SIGKILL)
    if how == signal.SIGTERM:
        as_an_older_version_left_it(folder)

    second = start(folder, port)

    try:
        assert second.said == first.said
        assert get(port, "/livez") == 200
        assert cluster(second.said["owner_database_url"]) == before
        assert installation.load(folder).keys == keys
        # What makes a later start quick: nothing is prepared again unless the schema is another one.
        assert len(steps(first.progress)) == 3
        assert len(steps(second.progress)) == (3 if how == signal.SIGTERM else 0)
        assert "Starting the web server" in second.progress
    finally:
        first.process, first.processes = second.process, second.processes


def test_fresh_makes_new_people_and_leaves_foreign_folders_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letter").write_text("mine")
    old = installation.load(tmp_path / "demo")

    installation.delete(foreign)
    installation.delete(tmp_path / "demo")

    assert (foreign / "letter").read_text() == "mine"
    assert installation.load(tmp_path / "demo").keys != old.keys


def test_a_foreign_variable_does_not_contradict_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESTORE_SECRET_KEY_FILE", "/nowhere")
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere")

    variables = installation.process_environment({"MESTORE_SECRET_KEY": "x"})

    assert variables["MESTORE_SECRET_KEY"] == "x"
    assert not {"MESTORE_SECRET_KEY_FILE", "REDIS_URL"} & set(variables)


def test_the_terminal_shows_addresses_credentials_and_a_code_to_scan() -> None:
    person = {"email": "a@mestore.example", "password": "p" * 24, "totp_secret": "JBSWY3DPEHPK3PXP"}
    out = io.StringIO()

    announcement.write(
        {
            "url": "http://localhost:8000", "admin": person, "finance_lead": person,
            "superuser": person,
            "vendors": [{"email": "v@mestore.example", "password": "q" * 24}], "buyers": [],
            "storefront": {"client_id": "storefront-1", "key": "k" * 43}, "env_file": "/demo/env",
        },
        out,
        Path("/demo/servers"),
        12.3,
    )  # fmt: skip

    text = out.getvalue()
    for expected in (
        "http://localhost:8000/admin/",
        "a@mestore.example",
        "JBSWY3DPEHPK3PXP",
        "storefront-1",
        "█",
    ):
        assert expected in text


@pytest.mark.parametrize("wrong", [["--port=0"], ["--port=x"], ["--orders=-1"], ["--nonsense"]])
def test_wrong_arguments_are_refused_before_anything_starts(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        command_line.main(wrong)

    assert refused.value.code == 2


def test_without_servers_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(*_: object, **__: object) -> servers.Servers:
        raise servers.ServersUnavailableError("no PostgreSQL server 15 or newer found: install the package")

    monkeypatch.setattr(servers, "start", none)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}

    try:
        code = command_line.main([f"--dir={tmp_path}", f"--port={ports.free()}"])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    assert code == 1
    assert "install the package" in capsys.readouterr().err
