"""What is measured, started as in production: private servers with everything on, granian, the baseline."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psycopg

from benchmarks import processes
from mestore import servers
from mestore.demo import keys

ROOT = Path(__file__).resolve().parents[1]
HOST = "bench.mestore.invalid"
WORKERS = 2
THREADS = 8
READY_SECONDS = 300  # only what is broken needs them

_COUNTED = """
    SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid
    WHERE r.rolname IN ('mestore_app', 'peer')
    AND query !~* '^(BEGIN|COMMIT|ROLLBACK|SET|SAVEPOINT|RELEASE)'"""


@dataclass
class House:
    """Running servers, the service under test and what it is compared with. A context manager."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    services: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    _servers: servers.Servers | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for service in self.services.values():
            service.send_signal(signal.SIGTERM)
        for service in self.services.values():
            try:
                service.wait(25)
            except subprocess.TimeoutExpired:
                service.kill()
        if self._servers:
            self._servers.stop()

    @property
    def servers(self) -> servers.Servers:
        """The private PostgreSQL and Redis."""
        if self._servers is None:
            raise RuntimeError("the house is not open")
        return self._servers

    def _start(self) -> None:
        # durable: a commit waits for the disk, as it does in production.
        self._servers = servers.start(durable=True)
        with self.admin() as connection:
            connection.execute("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
        self._servers.control("stop", "postgresql")
        self._servers.control("start", "postgresql")
        with self.admin() as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
            connection.execute("ALTER SYSTEM SET pg_stat_statements.track = 'none'")
            connection.execute("SELECT pg_reload_conf()")
        gauges = self.folder / "gauges"
        gauges.mkdir()
        self.environment = {
            **os.environ,
            **keys.generate(),
            **self._servers.environment(),
            "DJANGO_SETTINGS_MODULE": "mestore.settings",
            "MESTORE_ENV": "production",
            "MESTORE_PUBLIC_URL": f"https://{HOST}",
            "MESTORE_ALLOWED_HOSTS": HOST,
            "TRUSTED_PROXY_COUNT": "1",
            "MESTORE_MACHINE_REQUESTS_PER_MINUTE": "10000000",
            "MESTORE_MAIL_URL": f"smtps://bench@{HOST}",  # nothing that is measured sends mail
            "PROMETHEUS_MULTIPROC_DIR": str(gauges),
        }
        self.manage("migrate", "--verbosity", "0")

    def manage(self, *arguments: str) -> str:
        """Run a management command; what it printed."""
        return self.python("manage.py", *arguments)

    def python(self, *arguments: str) -> str:
        """Run Python in the service's environment; what it printed. Raises when it fails."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments[:2])} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def serve(self, name: str, application: str) -> None:
        """Start granian for a WSGI application, as the systemd unit does."""
        granian = str(Path(sys.executable).with_name("granian"))
        self.run(
            name,
            lambda port: [
                granian, "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port),
                "--workers", str(WORKERS), "--blocking-threads", str(THREADS),
                "--workers-kill-timeout", "20", application,
            ],
            self.environment,
        )  # fmt: skip

    def run(self, name: str, command: Callable[[int], list[str]], environment: dict[str, str]) -> None:
        """Start a service on a free port and wait until it listens."""
        port = _free_port()
        log = (self.folder / f"{name}.log").open("wb")
        self.ports[name] = port
        self.services[name] = subprocess.Popen(
            command(port), cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + READY_SECONDS
        while not _listens(port):
            if self.services[name].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"{name} did not start:\n{(self.folder / f'{name}.log').read_text()[-2000:]}"
                )
            time.sleep(0.05)

    def cpu(self) -> dict[str, float]:
        """Processor seconds so far of each service, of PostgreSQL and of Redis."""
        found = {name: processes.cpu_seconds(service.pid) for name, service in self.services.items()}
        for name in ("postgresql", "redis"):
            pid = self.servers.control("resume", name)  # which only asks, for one that runs
            found[name] = processes.cpu_seconds(pid) if pid else 0.0
        return found

    def shares(self, name: str) -> dict[int, float]:
        """Processor seconds so far of each worker of a service, by process id."""
        return processes.children_seconds(self.services[name].pid)

    def admin(self) -> psycopg.Connection[Any]:
        """A superuser's connection, for what the bench itself does."""
        return psycopg.connect(self.servers.admin_database_url(), autocommit=True)

    def count_statements(self, counting: bool) -> None:
        """Switch the server's statement counter; it is off while time is measured."""
        track = "top" if counting else "none"
        with self.admin() as connection:
            if counting:
                connection.execute("ALTER SYSTEM SET pg_stat_statements.track = 'top'")
            else:
                connection.execute("ALTER SYSTEM SET pg_stat_statements.track = 'none'")
            connection.execute("SELECT pg_reload_conf(), pg_stat_statements_reset()")
            while _setting(connection) != track:
                time.sleep(0.01)
        time.sleep(0.3)  # the other backends read the new value before their next statement

    def statements(self) -> int:
        """Statements of the runtime roles since the counter was switched on, BEGIN and COMMIT left out."""
        with self.admin() as connection:
            row = connection.execute(_COUNTED).fetchone()
        return int(row[0]) if row else 0


def _setting(connection: psycopg.Connection[Any]) -> str:
    row = connection.execute("SELECT current_setting('pg_stat_statements.track')").fetchone()
    return str(row[0]) if row else ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
