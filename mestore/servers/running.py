"""Start both servers, reach them, stop them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import psycopg
import redis as redis_client

from mestore.servers import certificates as certificate_files
from mestore.servers import ports, postgres, redis, storage
from mestore.servers.errors import ServersUnavailableError

START_ATTEMPTS = 5
READY_SECONDS, ANSWER_SECONDS = 180, 60  # only what is broken needs them
KEEPER = Path(__file__).with_name("keeper.py")


class PortTakenError(Exception):
    """Somebody bound the port between our look and the server's start."""


@dataclass
class Servers:
    """Running servers and how to reach them. A context manager: leaving it stops them."""

    home: Path
    cluster: postgres.Cluster
    cache: redis.Cache | None
    ports: dict[str, int]
    _keeper: subprocess.Popen[str] = field(repr=False)
    others: list[str] = field(default_factory=list)

    @property
    def authority(self) -> Path:
        """The file with the certificate authority that clients trust."""
        return self.cluster.authority

    def database_url(self, database: str = postgres.DATABASE) -> str:
        """As the unprivileged runtime role."""
        return self.cluster.url(postgres.RUNTIME, self.ports["postgresql"], database)

    def owner_database_url(self, database: str = postgres.DATABASE) -> str:
        """As the role that owns the tables and runs migrations."""
        return self.cluster.url(postgres.OWNER, self.ports["postgresql"], database)

    def admin_database_url(self, database: str = postgres.DATABASE) -> str:
        """As the cluster's superuser: for tests that attack as one."""
        return self.cluster.url(postgres.ADMIN, self.ports["postgresql"], database)

    def redis_url(self, database: int = 0) -> str | None:
        """None when no redis-server was found and it was not required."""
        return self.cache.url(self.ports["redis"], database) if self.cache else None

    def environment(self) -> dict[str, str]:
        """The variables through which the settings find these servers."""
        variables = {"DATABASE_URL": self.database_url(), "MIGRATION_DATABASE_URL": self.owner_database_url()}
        if url := self.redis_url():
            variables["REDIS_URL"] = url
        return variables

    def control(
        self, command: Literal["start", "stop", "kill", "pause", "resume", "status"], name: str
    ) -> int | None:
        """Do that to a process by its name, for tests of bad days; its process id if it runs after."""
        if command == "start":
            return self._start_on(name, self.ports[name])
        return self._ask(command, name)

    def run(self, name: str, argv: list[str], *, cwd: Path, env: dict[str, str]) -> int | None:
        """Let the keeper run another process beside the servers, as our own user, to the same end."""
        plan = {
            "argv": argv,
            "cwd": str(cwd),
            "env": env,
            "log": str(self.log(name)),
            "uid": None,
            "gid": None,
        }
        self.log(name).unlink(missing_ok=True)
        pid = self._ask("start", name, plan | {"stop_signal": int(signal.SIGTERM)})
        self.others.append(name)
        return pid

    def names(self) -> list[str]:
        """Everything that is meant to run."""
        return ["postgresql", *(["redis"] if self.cache else []), *self.others]

    def log(self, name: str) -> Path:
        """The file with what that process writes."""
        return self.home / f"{name}.log"

    def stop(self) -> None:
        """Stop both and wait until they are gone (and the folder too, when it was a throw-away one)."""
        _stop_keeper(self._keeper)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_server(self, name: str) -> None:
        """Start one on the port of last time or a free one; on another when somebody took it meanwhile."""
        for attempt in range(START_ATTEMPTS):
            self.ports[name] = ports.free(None if attempt else self.ports.get(name))
            try:
                self._start_on(name, self.ports[name])
            except PortTakenError:
                continue
            return
        raise ServersUnavailableError(f"{name} found no free port in {START_ATTEMPTS} attempts")

    def _start_on(self, name: str, port: int) -> int:
        log = self.log(name)
        runs = self.cluster if name == "postgresql" or self.cache is None else self.cache
        deadline = time.monotonic() + READY_SECONDS
        pid = None
        while pid is None or not self._answers(name):
            if pid is None:
                log.unlink(missing_ok=True)
                self._ask("start", name, runs.plan(port, log))
            time.sleep(0.01)
            pid = self._ask("status", name)
            if pid is None or time.monotonic() > deadline:
                _refuse_unless_temporary(name, log, is_late=time.monotonic() > deadline)
        return self._ask("status", name) or 0

    def _answers(self, name: str) -> bool:
        """Does it answer an authenticated question over TLS?"""
        try:
            if name == "postgresql":
                url = self.cluster.url(postgres.ADMIN, self.ports[name], "postgres")
                psycopg.connect(url, connect_timeout=ANSWER_SECONDS).close()
            else:
                with redis_client.Redis.from_url(
                    self.redis_url() or "", socket_timeout=ANSWER_SECONDS
                ) as client:
                    client.ping()
        except (psycopg.OperationalError, redis_client.RedisError):
            return False
        return True

    def _ask(self, command: str, name: str, server: dict[str, Any] | None = None) -> int | None:
        """Send the keeper one command; the server's process id, None when it does not run."""
        if self._keeper.stdin is None or self._keeper.stdout is None:
            raise ServersUnavailableError("the keeper of the private servers has no pipes")
        line = ""
        with contextlib.suppress(BrokenPipeError, ValueError):  # ValueError: the pipe is closed, by stop()
            self._keeper.stdin.write(json.dumps({"command": command, "name": name, "server": server}) + "\n")
            self._keeper.stdin.flush()
            line = self._keeper.stdout.readline()
        if not line:
            raise ServersUnavailableError("the keeper of the private servers is gone")
        pid: int | None = json.loads(line)["pid"]
        return pid


def start(
    directory: Path | None = None, *, durable: bool | None = None, require_redis: bool = True
) -> Servers:
    """Start PostgreSQL and Redis, kept in `directory` or, without one, in a folder that goes with them.

    `durable` keeps fsync on (default: when a directory is given). Raises ServersUnavailableError when a
    server's program is missing, when the directory's servers run already, or when they do not come up.
    """
    home = storage.temporary() if directory is None else storage.kept(directory)
    locked = storage.lock(home)
    keeper = _start_keeper(locked, remove=home if directory is None else None)
    try:
        is_durable = directory is not None if durable is None else durable
        return _start_servers(home, keeper, durable=is_durable, require_redis=require_redis)
    except BaseException:
        _stop_keeper(keeper)
        raise
    finally:
        os.close(locked)  # the keeper holds its own copy


def _start_servers(
    home: Path, keeper: subprocess.Popen[str], *, durable: bool, require_redis: bool
) -> Servers:
    state: dict[str, Any] = {"passwords": {}, "ports": {}, "ready": False} | storage.load_state(home)
    certificates = certificate_files.issue(home)
    cluster = postgres.prepare(home, certificates, state["passwords"], durable=durable)
    cache = None
    if require_redis or redis.find_binary():
        cache = redis.prepare(home, certificates, state["passwords"])
    storage.save_state(home, state)
    servers = Servers(home, cluster, cache, dict(state["ports"]), keeper)
    if cache:
        servers._start_server("redis")
    servers._start_server("postgresql")
    if not state["ready"]:
        postgres.create_roles(cluster, servers.ports["postgresql"])
    storage.save_state(home, state | {"ports": servers.ports, "ready": True})
    return servers


def _start_keeper(locked: int, *, remove: Path | None) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, "-I", "-S", str(KEEPER), str(os.getpid()), str(remove or "")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"LANG": "C.UTF-8", "PATH": os.environ.get("PATH", "")},
        start_new_session=True,
        pass_fds=[locked],  # the folder stays taken as long as the keeper lives
    )


def _stop_keeper(keeper: subprocess.Popen[str]) -> None:
    """Close its pipe and wait until it, the servers and a throw-away folder are gone."""
    for pipe in (keeper.stdin, keeper.stdout):
        if pipe and not pipe.closed:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    keeper.wait()


def _refuse_unless_temporary(name: str, log: Path, *, is_late: bool) -> None:
    """Raise for a server that ended at its start, unless only the children of a killed one are in its way."""
    said = log.read_text(errors="replace").strip()
    if "shared memory block" in said and not is_late:
        return
    if "Address already in use" in said:
        raise PortTakenError
    last = " / ".join(said.splitlines()[-3:])
    raise ServersUnavailableError(f"{name} did not start: {last or 'it says nothing'}")
