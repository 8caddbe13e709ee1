"""What `manage.py demo` understands, and how its life ends. Imports no Django: there are no settings yet."""

from __future__ import annotations

import json
import signal
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from types import FrameType

from mestore.demo import announcement, installation, running
from mestore.servers import ServersUnavailableError

ABOUT = "Start MeStore on this machine with servers, keys and data of its own, and serve it on loopback."
EXAMPLES = """
examples:
  manage.py demo
  manage.py demo --port 9000 --dir /tmp/mestore --fresh
  manage.py demo --json --orders 20      one line of JSON on standard output when it is ready

Ctrl-C or SIGTERM ends everything it started; the data stays until --fresh or `make clean`.
GRANIAN_WORKERS and GRANIAN_BLOCKING_THREADS set the processes and threads that serve.
exit codes: 0 stopped when asked, 1 could not start or broke, 2 wrong arguments
"""


class Stopped(BaseException):
    """Somebody asked the demo to end. Like KeyboardInterrupt, nobody on the way catches it by mistake."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--dir", type=Path, default=installation.DEFAULT_FOLDER, help="its folder (.demo)")
    parser.add_argument("--port", type=_port, default=8000, help="where to serve, on loopback (8000)")
    parser.add_argument("--fresh", action="store_true", help="delete the folder's data first")
    parser.add_argument(
        "--orders",
        type=_count,
        metavar="N",
        help="make up N orders, in place of importing MESTORE_SAMPLE_DATA",
    )
    parser.add_argument("--json", action="store_true", help="say what it serves as one line of JSON")


def main(arguments: list[str]) -> int:
    """Run the demo until it is asked to stop; the exit code."""
    parser = ArgumentParser(
        "manage.py demo", description=ABOUT, epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    options = parser.parse_args(arguments)
    began = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        if options.fresh:
            installation.delete(options.dir)
        with running.start(options.dir, port=options.port, orders=options.orders) as demo:
            seconds = time.monotonic() - began
            if options.json:
                sys.stdout.write(json.dumps(demo.description()) + "\n")
            else:
                announcement.write(demo.description(), sys.stdout, demo.servers.home, seconds)
            sys.stdout.flush()
            running.say(f"Serving after {seconds:.1f} s")
            demo.watch()
    except Stopped:
        running.say("Stopped; the data is kept")
        return 0
    except (running.DemoError, ServersUnavailableError) as error:
        running.say(f"The demo cannot run: {error}")
        return 1
    return 0


def _stop(_number: int, _frame: FrameType | None) -> None:
    # Only once: a second Ctrl-C must not interrupt the clean end.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise Stopped


def _port(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 65_535:
        raise ValueError(text)
    return number


def _count(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 100_000:
        raise ValueError(text)
    return number
