"""Fresh secrets, for the demo, the tests and the checks. A real installation brings its own."""

from __future__ import annotations

import base64
import secrets

KEY_BYTES = 32


def generate() -> dict[str, str]:
    """Return one random value for each secret that the settings demand."""
    return {
        "MESTORE_SECRET_KEY": _token(),
        "MESTORE_METRICS_TOKEN": _token(),
        "MESTORE_MASTER_KEYS": f"k1:{_key()}",
        "MESTORE_PEPPER_KEYS": f"p1:{_key()}",
        "MESTORE_AUDIT_SIGNING_KEY": _key(),
    }


def _token() -> str:
    return secrets.token_urlsafe(48)


def _key() -> str:
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
