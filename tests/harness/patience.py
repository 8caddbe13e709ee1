"""Time limits of the service, wide enough for a busy machine.

They protect a service from a neighbour that hangs. In a test they would decide by how busy the machine is
whether a lock is waited for, Redis is asked, a call is answered or a check is late. Tests of a limit set it
back themselves; the values of production are tested by reading the settings in a process of their own.
"""

from __future__ import annotations

from dataclasses import replace

SECONDS = 60


def have() -> None:
    """Widen the limits of this process, before its first connection."""
    from django.conf import settings

    from accounts import hashers
    from finance import outbound
    from monitoring import cosigning, health, push, readiness, retirement, sequencer

    for database in settings.DATABASES.values():
        options = database["OPTIONS"]
        options["connect_timeout"] = str(SECONDS)
        options["options"] = (
            f"-c lock_timeout={SECONDS}s -c timezone=UTC"
            f" -c idle_in_transaction_session_timeout={10 * SECONDS}s"
            " -c plan_cache_mode=force_generic_plan"
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
    for module in (outbound, cosigning, push):
        wide = replace(
            module.LIMITS, connect_seconds=SECONDS, read_seconds=SECONDS, total_seconds=2 * SECONDS
        )
        setattr(module, "LIMITS", wide)  # noqa: B010 - a constant everywhere else
    setattr(retirement, "LONGEST_WAIT_SECONDS", 10.0 * SECONDS)  # noqa: B010
