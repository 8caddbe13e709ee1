"""Where a request comes from, told only by the proxies that we run."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from functools import lru_cache
from typing import Any

from django.conf import settings

# The unspecified address stands for a caller without one, as on a UNIX socket.
UNKNOWN = "0.0.0.0"  # noqa: S104 - nothing is bound to it

DEVICE_COOKIE = "__Host-device"
_DEVICE_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def address_of(request: Any) -> str:
    """Return the client's address as the middleware noted it, or as it is found now."""
    noted: str | None = getattr(request, "client_address", None)
    return noted or client_address(request)


def client_address(request: Any) -> str:
    """The client's address, in canonical text; never raises, and is always a valid address.

    Each trusted proxy appends its peer to ``X-Forwarded-For``, so with ``TRUSTED_PROXY_COUNT`` proxies the
    client is that many entries from the right: whatever stands further left was written by the client itself.
    An entry that is missing or not an address gives way to the next one nearer to us, at last
    ``REMOTE_ADDR``.
    """
    meta = request.META
    remote = meta.get("REMOTE_ADDR", "")
    proxies: int = getattr(settings, "TRUSTED_PROXY_COUNT", 0)
    forwarded = meta.get("HTTP_X_FORWARDED_FOR", "") if proxies > 0 else ""
    if forwarded:
        for entry in forwarded.rsplit(",", proxies)[-proxies:]:
            address = _parse(entry)
            if address is not None:
                return str(address)
    return str(_parse(remote) or UNKNOWN)


def network_of(address: str) -> str:
    """The network to count an address under: IPv4 as it is, IPv6 as its /64 (what one subscriber is given).

    Text that is no address counts under one common network.
    """
    parsed = _parse(address)
    if parsed is None:
        return UNKNOWN
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))


def device_digest(request: Any) -> str | None:
    """The SHA-256 (hex) of the cookie that a browser got at a sign-in; None without a proper one."""
    token = getattr(request, "COOKIES", {}).get(DEVICE_COOKIE, "")
    if _DEVICE_TOKEN.fullmatch(token) is None:
        return None
    return hashlib.sha256(token.encode("ascii")).hexdigest()


@lru_cache(maxsize=4096)
def _parse(text: str) -> _Address | None:
    """An address from ``1.2.3.4``, ``1.2.3.4:56``, ``2001:db8::1``, ``[2001:db8::1]:56``."""
    text = text.strip(" \t")
    if (
        len(text) > 64 or "%" in text
    ):  # a scope id ("%eth0") means something only on the machine that wrote it
        return None
    if text.startswith("["):
        inside, closed, port = text[1:].partition("]")
        if not closed or ":" not in inside or not (port == "" or _is_port(port)):
            return None
        text = inside
    elif text.count(":") == 1:
        text, colon, port = text.partition(":")
        if not _is_port(colon + port):
            return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # ::ffff:1.2.3.4 is an IPv4 client seen by a dual-stack socket: it must not get a second set of limits.
    return getattr(address, "ipv4_mapped", None) or address


def _is_port(text: str) -> bool:
    digits = text[1:]
    return text.startswith(":") and len(digits) <= 5 and digits.isascii() and digits.isdigit()
