"""The private servers: who gets in, who does not, and that they are gone when they should be."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis
import trustme
from redis.backoff import NoBackoff
from redis.retry import Retry

from mestore import servers
from mestore.servers import ports, postgres, storage

pytestmark = pytest.mark.xdist_group("servers")

ROOT = Path(__file__).resolve().parents[2]
GONE_SECONDS = 120
# A starter that prints its servers' process ids and folder, then waits for ever.
STARTER = """
import sys, time
from mestore import servers
running = servers.start()
pids = [running.control("status", name) for name in ("postgresql", "redis")]
print(*pids, running._keeper.pid, running.home, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def pair() -> Iterator[servers.Servers]:
    """One pair of servers for the tests that leave it as it is."""
    with servers.start() as started:
        yield started


def test_another_certificate_authority_is_refused(pair: servers.Servers, tmp_path: Path) -> None:
    stranger = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(stranger)
    authority = str(pair.authority)

    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(pair.database_url().replace(authority, str(stranger)))
    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        redis.Redis.from_url((pair.redis_url() or "").replace(authority, str(stranger))).ping()


def test_nobody_comes_in_without_tls(pair: servers.Servers) -> None:
    plain = urlunsplit(urlsplit(pair.database_url())._replace(query="sslmode=disable"))

    with pytest.raises(psycopg.OperationalError, match="rejects connection"):
        psycopg.connect(plain)
    with pytest.raises(redis.ConnectionError):
        redis.Redis(port=pair.ports["redis"], retry=Retry(NoBackoff(), 0)).ping()


def test_statement_that_fails_leaves_no_value_in_the_log(pair: servers.Servers) -> None:
    mine = "CREATE TEMP TABLE kept (name text PRIMARY KEY)"
    with psycopg.connect(pair.database_url(), autocommit=True, cursor_factory=psycopg.ClientCursor) as link:
        link.execute(mine)
        link.execute("INSERT INTO kept VALUES (%s)", ("somebody@example.com",))
        with pytest.raises(psycopg.errors.UniqueViolation):
            link.execute("INSERT INTO kept VALUES (%s)", ("somebody@example.com",))

    said = pair.log("postgresql").read_text()
    assert "duplicate key value violates unique constraint" in said
    assert "somebody@example.com" not in said


def test_a_wrong_password_is_refused(pair: servers.Servers) -> None:
    url = urlsplit(pair.database_url())
    wrong = urlunsplit(url._replace(netloc=url.netloc.replace(url.password or "", "x" * 32)))

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_redis_knows_no_default_user_and_our_user_sees_our_keys_only(pair: servers.Servers) -> None:
    address = pair.redis_url() or ""
    stranger = redis.Redis.from_url(address.replace(urlsplit(address).netloc.split("@")[0] + "@", ""))
    ours = redis.Redis.from_url(address)

    with pytest.raises(redis.AuthenticationError):
        stranger.get("mestore:x")
    for forbidden in (lambda: ours.set("other:x", 1), ours.flushall, lambda: ours.config_get("*")):
        with pytest.raises(redis.exceptions.NoPermissionError):
            forbidden()
    assert ours.set("mestore:x", 1)


def test_the_runtime_role_cannot_create_anything_that_stays(pair: servers.Servers) -> None:
    with psycopg.connect(pair.database_url(), autocommit=True) as connection:
        for statement in ("CREATE TABLE x ()", "CREATE SCHEMA x", "CREATE ROLE x", "CREATE DATABASE x"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_connections_are_encrypted_and_name_their_role(pair: servers.Servers) -> None:
    for address, role in (
        (pair.database_url(), postgres.RUNTIME),
        (pair.owner_database_url(), postgres.OWNER),
    ):
        with psycopg.connect(address) as connection:
            row = connection.execute(
                "SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            ).fetchone()

        assert row == (role, True)


def test_two_pairs_run_side_by_side(pair: servers.Servers) -> None:
    with servers.start() as second:
        for one in (pair, second):
            with psycopg.connect(one.database_url()) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
            assert redis.Redis.from_url(one.redis_url() or "").ping()

    assert set(second.ports.values()).isdisjoint(pair.ports.values())


def test_ports_are_none_that_the_kernel_gives_to_clients(pair: servers.Servers) -> None:
    lowest = int(ports.EPHEMERAL.read_text().split()[0])

    assert lowest <= ports.LOWEST or all(port < lowest for port in pair.ports.values())


def test_a_kernel_that_tells_no_range_chooses_the_port_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "EPHEMERAL", tmp_path / "nothing")

    with socket.create_server(("127.0.0.1", ports.free())) as taken:
        assert ports.free(taken.getsockname()[1]) != taken.getsockname()[1]


def test_a_stopped_pair_leaves_no_process_and_no_file() -> None:
    started = servers.start()
    pids = [started.control("status", name) for name in ("postgresql", "redis")]

    started.stop()

    assert not started.home.exists()
    assert not any(is_running(pid) for pid in pids if pid)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_starter_that_ends_in_any_way_leaves_nothing(how: signal.Signals) -> None:
    starter, pids, home = start_elsewhere()

    starter.send_signal(how)
    starter.wait()

    assert gone(pids), "servers outlived their starter"
    assert not home.exists()


def test_a_keeper_killed_by_force_takes_the_servers_with_it() -> None:
    starter, pids, home = start_elsewhere()

    os.kill(pids[-1], signal.SIGKILL)

    assert gone(pids), "servers outlived their keeper"
    starter.kill()
    starter.wait()
    shutil.rmtree(home)


def test_kept_servers_come_back_with_the_same_addresses_and_rows(tmp_path: Path) -> None:
    with servers.start(tmp_path) as first:
        addresses = first.environment()
        with psycopg.connect(first.owner_database_url(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")

    with servers.start(tmp_path) as second, psycopg.connect(second.owner_database_url()) as connection:
        assert second.environment() == addresses
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
        assert connection.execute("SHOW fsync").fetchone() == ("on",)

    servers.remove(tmp_path)
    assert not second.home.exists()


def test_a_folder_in_use_is_neither_started_twice_nor_removed(tmp_path: Path) -> None:
    with servers.start(tmp_path):
        with pytest.raises(servers.ServersUnavailableError, match="already running"):
            servers.start(tmp_path)
        with pytest.raises(servers.ServersUnavailableError, match="already running"):
            servers.remove(tmp_path)

    servers.remove(tmp_path)


def test_a_taken_port_is_not_fought_over(tmp_path: Path) -> None:
    with servers.start(tmp_path) as first:
        wanted = first.ports["redis"]
    with socket.create_server(("127.0.0.1", wanted)), servers.start(tmp_path) as second:
        assert second.ports["redis"] != wanted

    servers.remove(tmp_path)


def test_a_killed_durable_server_keeps_what_was_committed(tmp_path: Path) -> None:
    with servers.start(tmp_path) as started:
        with psycopg.connect(started.owner_database_url(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        started.control("kill", "postgresql")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(started.owner_database_url())

        started.control("start", "postgresql")

        with psycopg.connect(started.owner_database_url()) as connection:
            assert connection.execute("SELECT number FROM kept").fetchone() == (7,)

    servers.remove(tmp_path)


def test_a_server_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    with servers.start(tmp_path) as started:
        data = started.cluster.data
    (data / "global" / "pg_control").unlink()

    with pytest.raises(servers.ServersUnavailableError, match="postgresql did not start"):
        servers.start(tmp_path)

    servers.remove(tmp_path)


def test_without_postgresql_the_sentence_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "PLACES", ("/nowhere",))
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(servers.ServersUnavailableError, match="install the package postgresql"):
        servers.start()


def test_data_of_a_version_that_is_not_here_is_left_alone(tmp_path: Path) -> None:
    home = storage.kept(tmp_path)
    (home / "postgresql").mkdir()
    (home / "postgresql" / "PG_VERSION").write_text("9\n")

    with pytest.raises(servers.ServersUnavailableError, match="no PostgreSQL server 9"):
        servers.start(tmp_path)

    assert (home / "postgresql" / "PG_VERSION").is_file()
    servers.remove(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the servers as somebody else")
def test_root_does_not_open_a_closed_folder_for_the_server(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    if not storage._reachable(tmp_path):
        closed = tmp_path

    with servers.start(closed) as started:
        assert not started.home.is_relative_to(closed)

    assert closed.stat().st_mode & 0o077 == 0
    servers.remove(closed)
    assert not started.home.exists()


def test_the_command_removes_a_stopped_folder_and_refuses_other_words(tmp_path: Path) -> None:
    with servers.start(tmp_path) as started:
        refused = command("remove", str(tmp_path))

    removed = command("remove", str(tmp_path))

    assert (refused.returncode, command("start").returncode, removed.returncode) == (1, 2, 0)
    assert "already running" in refused.stderr
    assert not started.home.exists()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mestore.servers", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def start_elsewhere() -> tuple[subprocess.Popen[str], list[int], Path]:
    """A process that started servers; their ids with the keeper's last, and their folder."""
    starter = subprocess.Popen([sys.executable, "-c", STARTER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert starter.stdout
    *pids, home = starter.stdout.readline().split()
    return starter, [int(pid) for pid in pids], Path(home)


def gone(pids: list[int]) -> bool:
    """Wait, without polling, until all have ended; False after two minutes."""
    deadline = time.monotonic() + GONE_SECONDS
    for pid in pids:
        try:
            watched = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ready, _, _ = select.select([watched], [], [], max(0, deadline - time.monotonic()))
        os.close(watched)
        if not ready:
            return False
    return True


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
