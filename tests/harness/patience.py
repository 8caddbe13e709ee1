"""Time limits of the service, wide enough for a busy machine.

They protect a service from a neighbour that hangs. In a test they would decide by how busy the machine is
whether a lock is waited for, Redis is asked or a check is late. Tests of a limit set it back themselves; the
values of production are tested by reading the settings in a process of their own.
"""

from __future__ import annotations

SECONDS = 60


def have() -> None:
    """Widen the limits of this process, before its first connection."""
    from django.conf import settings

    from accounts import hashers
    from monitoring import health, readiness, sequencer

    for database in settings.DATABASES.values():
        options = database["OPTIONS"]
        options["connect_timeout"] = str(SECONDS)
        options["options"] = (
            f"-c lock_timeout={SECONDS}s -c timezone=UTC"
            f" -c idle_in_transaction_session_timeout={10 * SECONDS}s"
        )
        if "pool" in options:
            options["pool"]["timeout"] = float(SECONDS)
    settings.CACHES["default"].setdefault("OPTIONS", {}).update(
        SOCKET_CONNECT_TIMEOUT=SECONDS, SOCKET_TIMEOUT=SECONDS
    )
    hashers.WAIT_SECONDS = float(SECONDS)
    health.TIMEOUT_SECONDS = float(SECONDS)
    sequencer.LONGEST_SILENCE = f"{10 * SECONDS}s"
    readiness.STATEMENT_TIMEOUT = f"{SECONDS}s"
