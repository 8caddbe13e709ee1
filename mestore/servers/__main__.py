"""`python -m mestore.servers remove .demo`: delete a stopped demo's servers and data (for `make clean`)."""

from __future__ import annotations

import sys
from pathlib import Path

from mestore.servers.errors import ServersUnavailableError
from mestore.servers.storage import remove


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] != "remove":
        sys.stderr.write("usage: python -m mestore.servers remove DIRECTORY\n")
        return 2
    try:
        remove(Path(arguments[1]))
    except ServersUnavailableError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
