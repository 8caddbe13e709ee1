"""Free ports on the loopback address, which are still free when a server wants the one of last time again.

The kernel gives outgoing connections any port of its own range, so a server's port from there may belong to
a client a moment later: servers get theirs from below that range.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

from mestore.servers.certificates import HOST
from mestore.servers.errors import ServersUnavailableError

LOWEST = 15_000
ATTEMPTS = 50
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free(wanted: int | None = None) -> int:
    """Return `wanted` if nobody listens there, else another free port. Raises ServersUnavailableError."""
    below = _first_of_the_kernel() - 1
    others = [random.randint(LOWEST, below) for _ in range(ATTEMPTS)] if below > LOWEST else []  # noqa: S311 - not a secret
    for candidate in [*([] if wanted is None else [wanted]), *others, 0]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, candidate))
            except OSError:
                continue
            port: int = probe.getsockname()[1]
            return port
    raise ServersUnavailableError("no free port on the loopback address")


def _first_of_the_kernel() -> int:
    try:
        return int(EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0  # no Linux: the kernel chooses
