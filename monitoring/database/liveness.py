"""Is a pooled connection still alive? Asked at every checkout, so it must cost nothing while all is well.

A server that stops, restarts or ends a session closes its side of the socket: the socket becomes readable
while nobody asked anything. A silent socket is alive as far as anybody can tell without waiting.
"""

from __future__ import annotations

import select
from typing import Any

from psycopg import Error
from psycopg.pq import ConnStatus
from psycopg_pool import ConnectionPool


def is_alive(connection: Any) -> bool:
    """Say whether `connection` can be used, without a round trip in the usual case."""
    if connection.closed or connection.pgconn.status != ConnStatus.OK:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN | select.POLLPRI)
    if not poll.poll(0):
        return True
    # Something came unasked: a goodbye, or harmless news (a notice, a TLS ticket). One round trip tells.
    try:
        ConnectionPool.check_connection(connection)
    except Error:
        return False
    return True
