"""Key rings for tests of what is encrypted."""

from __future__ import annotations

OLD = b"\x01" * 32
NEW = b"\x02" * 32
OTHER = b"\x03" * 32

ONE_KEY = {"k1": OLD}
ROTATED = {"k2": NEW, "k1": OLD}
AFTER_ROTATION = {"k2": NEW}
