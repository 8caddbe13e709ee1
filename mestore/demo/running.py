"""The demo at work: servers, preparation, the web server and the worker, in this order; the end in the other.

The web server and the worker are given to the same keeper as the servers (mestore/servers/keeper.py):
however this process ends, nothing it started outlives it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mestore import servers
from mestore.demo import installation, watching
from mestore.demo.installation import ROOT, State
from mestore.servers.storage import write_private

HOST = "127.0.0.1"
READY_SECONDS = 120
LOOK_SECONDS = 1.0


class DemoError(Exception):
    """The demo cannot start or has broken; the sentence says why."""


def say(sentence: str) -> None:
    """A line of progress, on standard error: standard output belongs to the result."""
    with contextlib.suppress(OSError):  # the terminal may be gone already
        sys.stderr.write(f"{sentence}\n")
        sys.stderr.flush()


@dataclass
class Demo:
    """A running demo. Leaving the context stops it."""

    folder: Path
    port: int
    state: State
    servers: servers.Servers
    variables: dict[str, str]
    env_file: Path
    witness: watching.Witness

    def description(self) -> dict[str, Any]:
        """Where everything is and who may come in."""
        return {
            "url": f"http://localhost:{self.port}",
            "database_url": self.variables["DATABASE_URL"],
            "owner_database_url": self.variables["MIGRATION_DATABASE_URL"],
            "redis_url": self.variables.get("REDIS_URL"),
            **self.state.people,
            "metrics_token": self.variables["MESTORE_METRICS_TOKEN"],
            "env_file": str(self.env_file),
        }

    def watch(self) -> None:
        """Stay until a signal ends us. Raises DemoError when a part of the demo ends by itself."""
        while True:
            for name in self.servers.names():
                if self.servers.control("status", name) is None:
                    raise DemoError(f"{name} has ended by itself: {_last_words(self.servers.log(name))}")
            time.sleep(LOOK_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.servers.stop()


def start(folder: Path, *, port: int, orders: int | None) -> Demo:
    """Start everything in `folder` and return when it answers.

    Raises DemoError (port taken, preparation failed, no answer) and ServersUnavailableError; then nothing
    runs.
    """
    folder = folder.resolve()
    _refuse_taken_port(port)
    state = installation.load(folder)
    say("Starting PostgreSQL and Redis")
    private = servers.start(folder, require_redis=False)
    try:
        addresses = private.environment()
        if "REDIS_URL" not in addresses:
            say(
                "No redis-server here: caches stay in one process. Install the package redis-server for more."
            )
        variables = installation.environment(folder, state, addresses, port)
        witness = watching.prepare(
            folder, origin=installation.ORIGIN, signing_key=variables["MESTORE_AUDIT_SIGNING_KEY"]
        )
        variables["MESTORE_AUDIT_WITNESSES"] = witness.configured
        env_file = installation.write_env_file(folder, variables)
        _prepare(folder, state, variables, orders)
        demo = Demo(folder, port, state, private, variables, env_file, witness)
        _serve(demo)
    except BaseException:
        private.stop()
        raise
    return demo


def _refuse_taken_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise DemoError(f"port {port} is taken: choose another with --port (make demo PORT=…)") from error


def _prepare(folder: Path, state: State, variables: dict[str, str], orders: int | None) -> None:
    """Migrate, create people, load orders: in a process of its own, and only when something is missing."""
    schema = installation.schema_fingerprint()
    if state.schema == schema:
        return
    result = folder / "people.json"
    if state.people:  # an older demo, whose schema is brought up to date: its people are known
        write_private(result, json.dumps(state.people).encode())
    command = [sys.executable, "-m", "mestore.demo.preparation", "--result", str(result)]
    if orders is not None:
        command += ["--orders", str(orders)]
    process = subprocess.Popen(  # noqa: S603 - our own module
        command,
        cwd=ROOT,
        env=installation.process_environment(variables | {"MESTORE_LOG_LEVEL": "WARNING"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C reaches it through us, once
    )
    try:
        code = process.wait()
    except BaseException:
        process.kill()  # whatever it had not committed is not there; the next start goes on
        process.wait()
        raise
    if code:
        raise DemoError("its database could not be prepared; the lines above say why")
    state.people = json.loads(result.read_text())
    state.schema = schema
    state.save(folder)
    result.unlink()


def _serve(demo: Demo) -> None:
    say("Starting the web server, the witness of the audit log and the worker")
    metrics = demo.folder / "metrics"
    shutil.rmtree(metrics, ignore_errors=True)  # gauges of processes that are gone
    metrics.mkdir(mode=0o700)
    (demo.folder / "static").mkdir(exist_ok=True)
    environment = installation.process_environment(
        demo.variables | {"PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    )
    demo.servers.run("web", _granian(demo), cwd=ROOT, env=environment | _granian_defaults(demo))
    deadline = time.monotonic() + READY_SECONDS
    while not _is_ready(demo.port):
        if demo.servers.control("status", "web") is None or time.monotonic() > deadline:
            raise DemoError(f"the web server does not answer: {_last_words(demo.servers.log('web'))}")
        time.sleep(0.05)
    demo.servers.run("witness", demo.witness.command, cwd=ROOT, env=watching.environment())
    # Nothing that a request needs waits for the worker: it starts when the web server is up.
    manage = [sys.executable, str(ROOT / "manage.py")]
    demo.servers.run("worker", [*manage, "worker"], cwd=ROOT, env=environment)


def _granian(demo: Demo) -> list[str]:
    command = [
        sys.executable,
        "-m",
        "granian",
        "--interface",
        "wsgi",
        "--host",
        HOST,
        "--port",
        str(demo.port),
    ]
    # Without a limit a worker that hangs would hold up the end of everything.
    return [*command, "--no-ws", "--workers-kill-timeout", "5", "mestore.wsgi:application"]


def _granian_defaults(demo: Demo) -> dict[str, str]:
    # Without Redis the throttles count inside one process: more would multiply every limit.
    workers = min(2, os.cpu_count() or 1) if demo.servers.cache else 1
    defaults = {"GRANIAN_WORKERS": str(workers), "GRANIAN_BLOCKING_THREADS": "4"}
    return {name: os.environ.get(name, value) for name, value in defaults.items()}


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        connection.request("GET", "/readyz", headers={"Host": f"localhost:{port}"})
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    return " / ".join(lines[-3:]) or "it said nothing"
