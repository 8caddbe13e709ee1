"""Syslog over TLS (RFC 5424 messages, RFC 5425 framing and transport), with verified certificates.

Syslog acknowledges nothing. What comes nearest is the end of the TLS session: whoever receives answers our
close with its own (RFC 5425, 4.4), after everything before it. Without that answer nothing counts as arrived.
"""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

LOG_AUDIT: Final = 13
"""The facility of audit trails (RFC 5424, table 1)."""
DEFAULT_PORT: Final = 6514
_WORD = bytes(range(33, 127))


class SyslogError(Exception):
    """Nothing that could be counted on arrived. The texts carry no address and no content."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where messages go; `ca_file` replaces the usual authorities."""

    host: str
    port: int = DEFAULT_PORT
    ca_file: str = ""
    connect_seconds: float = 3.0
    total_seconds: float = 20.0


def message(text: str, *, severity: int, at: dt.datetime, host: str, application: str, kind: str) -> bytes:
    """Return one message of the facility for audit trails. `severity` is 0 (emergency) to 7 (debug)."""
    moment = at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    names = f"{_word(host, 255)} {_word(application, 48)} - {_word(kind, 32)} -"
    return f"<{LOG_AUDIT * 8 + severity}>1 {moment} {names} {text}".encode()


def frame(content: bytes) -> bytes:
    """Return a message with its length before it: its text may hold whatever it likes."""
    return b"%d %b" % (len(content), content)


def send(receiver: Receiver, messages: Iterable[bytes]) -> None:
    """Send all of them in one session and wait for its end. Raises SyslogError unless all was taken."""
    until = time.monotonic() + receiver.total_seconds
    try:
        with (
            socket.create_connection(
                (receiver.host, receiver.port), timeout=receiver.connect_seconds
            ) as plain,
            _context(receiver).wrap_socket(plain, server_hostname=receiver.host) as secured,
        ):
            for one in messages:
                secured.settimeout(_left(until))
                secured.sendall(frame(one))
            secured.settimeout(_left(until))
            secured.unwrap().close()
    except (OSError, ValueError) as error:
        raise SyslogError(type(error).__name__) from None


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _context(receiver: Receiver) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=receiver.ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _word(text: str, longest: int) -> str:
    """A header's word: printable ASCII without blanks, or the dash that stands for nothing."""
    kept = bytes(letter for letter in text.encode("ascii", "replace") if letter in _WORD)
    return kept[:longest].decode("ascii") or "-"
