"""The process that owns the private servers and outlives nobody.

It is started by running.py as a plain script (standard library only, so it starts in milliseconds) and is
the parent of the servers. Its standard input is a pipe from whoever wanted them: when that closes, because
the starter stopped them, ended, or was killed with SIGKILL, the servers are stopped and a throw-away folder
is deleted. A pidfd of the starter is watched too, since a forked child of it may hold the pipe open.

Arguments: the starter's process id, and the folder to delete at the end (empty: none).
Input: lines of JSON, {"command": start|stop|kill|pause|resume|status, "name", "server": what to run, with
start}. Output: one line of JSON per command, {"name", "pid"}; the pid is null when the server does not run.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PATIENCE_SECONDS = 20


class Keeper:
    """Runs servers for one starter; see the module for its life."""

    def __init__(self, starter: int, remove: str) -> None:
        self.starter = starter
        self.remove = remove
        self.stop_signals: dict[str, int] = {}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.libc = ctypes.CDLL(None, use_errno=True)

    def start(self, name: str, server: dict[str, Any]) -> None:
        stop_signal = self.stop_signals[name] = int(server["stop_signal"])

        def die_with_keeper() -> None:
            # Runs after the change of user, which would have cleared it: a keeper killed by force leaves
            # nothing.
            self.libc.prctl(PR_SET_PDEATHSIG, stop_signal)

        with Path(server["log"]).open("ab") as log:
            self.running[name] = subprocess.Popen(  # noqa: S603 - our own command
                server["argv"],
                cwd=server["cwd"],
                env=server["env"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=server["uid"],
                group=server["gid"],
                extra_groups=None if server["gid"] is None else [server["gid"]],
                umask=0o077,
                start_new_session=True,  # a Ctrl-C in the terminal is for the starter, not for the servers
                preexec_fn=die_with_keeper,  # noqa: PLW1509 - this process has one thread
            )

    def stop(self, name: str, how: int | None = None) -> None:
        process = self.running.pop(name, None)
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)  # a paused server cannot answer a request to stop
            process.send_signal(self.stop_signals[name] if how is None else how)
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def obey(self, line: bytes) -> None:
        request = json.loads(line)
        command, name = request["command"], request["name"]
        if command == "start":
            self.stop(name)
            self.start(name, request["server"])
        elif command == "stop":
            self.stop(name)
        elif command == "kill":
            self.stop(name, signal.SIGKILL)
        elif command in ("pause", "resume") and name in self.running:
            self.running[name].send_signal(signal.SIGSTOP if command == "pause" else signal.SIGCONT)
        process = self.running.get(name)
        alive = process is not None and process.poll() is None
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.write(
                json.dumps({"name": name, "pid": process.pid if process and alive else None}) + "\n"
            )
            sys.stdout.flush()

    def watch(self) -> None:
        """Obey until the starter is gone."""
        selector = selectors.DefaultSelector()
        selector.register(0, selectors.EVENT_READ)
        with contextlib.suppress(
            OSError, AttributeError
        ):  # an old kernel has no pidfd; the pipe is enough then
            selector.register(os.pidfd_open(self.starter), selectors.EVENT_READ)
        pending = b""
        while os.getppid() == self.starter:
            if 0 not in {key.fd for key, _ in selector.select()}:
                return
            received = os.read(0, 65536)
            if not received:
                return
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                self.obey(line)

    def close(self) -> None:
        for name in reversed(list(self.running)):
            self.stop(name)
        if self.remove:
            shutil.rmtree(self.remove, ignore_errors=True)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    keeper = Keeper(int(sys.argv[1]), sys.argv[2])
    try:
        keeper.watch()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second request must not interrupt the cleaning
        keeper.close()


if __name__ == "__main__":
    main()
