"""Calls to other people's services: the one way out of this house.

Each counterpart has a client of its own with the hosts that it may call, and everybody's limits: TLS with
verified certificates (plain HTTP to this very machine only, where that is allowed), no redirects, no proxy of
the environment, bounded answers, time limits per step and in all, a few repetitions with growing, jittered
pauses for calls that may be repeated, and a breaker, so that a dead service costs others nothing.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import httpx
import stamina

from mestore.lib.breaker import Breaker, Open

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
REPEATED: Final = frozenset({429, 502, 503, 504})
"""Answers after which a call that may be repeated is."""
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class OutboundError(Exception):
    """No answer that could be used. The texts carry no address and no secret."""


class NotAllowed(OutboundError):
    """The address is not one that this client may call. Nothing was sent."""


class Unreachable(OutboundError):
    """Nobody answered in time, or the service has been failing and is left alone for a while."""


class AnswerTooLarge(OutboundError):
    """The answer is longer than this client reads."""


class _TryAgain(Exception):
    """An answer that says "later"; carries it, should the last attempt end so."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever the status."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how much, in seconds, bytes and attempts."""

    connect_seconds: float = 3.0
    read_seconds: float = 10.0
    total_seconds: float = 20.0
    largest_answer: int = 1_048_576
    attempts: int = 3
    first_pause_seconds: float = 0.2


@dataclass(slots=True)
class Client:
    """Calls one counterpart. `hosts` are `name` or `name:port`; `ca_file` replaces the usual authorities."""

    name: str
    hosts: Collection[str]
    limits: Limits = field(default_factory=Limits)
    ca_file: str = ""
    plain_on_loopback: bool = False
    _breaker: Breaker = field(init=False)

    def __post_init__(self) -> None:
        self._breaker = Breaker(f"outbound {self.name}", counted=(httpx.TransportError, _TryAgain))

    def send(
        self,
        method: str,
        url: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        may_repeat: bool | None = None,
    ) -> Answer:
        """Return the answer to one request; repeated where `may_repeat` (default: idempotent methods).

        Raises NotAllowed before anything is sent, Unreachable, AnswerTooLarge.
        """
        self.demand_allowed(url)
        repeats = method in IDEMPOTENT if may_repeat is None else may_repeat
        until = time.monotonic() + self.limits.total_seconds
        try:
            return self._attempts(method, url, content, dict(headers or {}), repeats=repeats, until=until)
        except _TryAgain as later:
            return later.answer
        except Open as error:
            raise Unreachable(f"{self.name} is left alone for {error.retry_after} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(f"{self.name}: {type(error).__name__}") from None

    def demand_allowed(self, url: str) -> None:
        """Raise NotAllowed unless `url` is a plain https address of one of this client's hosts."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise NotAllowed(f"{self.name}: no address") from None
        host = parts.hostname or ""
        is_plain = self.plain_on_loopback and parts.scheme == "http" and host in LOOPBACK
        named = {host, f"{host}:{port}"} if port is not None else {host}
        is_named = any(one in self.hosts for one in named)
        if not (parts.scheme == "https" or is_plain) or not is_named or parts.username or parts.password:
            raise NotAllowed(f"{self.name}: not one of the hosts that may be called")

    def _attempts(
        self, method: str, url: str, content: bytes, headers: dict[str, str], *, repeats: bool, until: float
    ) -> Answer:
        for attempt in stamina.retry_context(
            on=(httpx.TransportError, _TryAgain),
            attempts=self.limits.attempts if repeats else 1,
            timeout=self.limits.total_seconds,
            wait_initial=self.limits.first_pause_seconds,
            wait_max=2.0,
            wait_jitter=self.limits.first_pause_seconds,
        ):
            with attempt, self._breaker:
                answer = self._once(method, url, content, headers, until)
                if answer.status in REPEATED:
                    raise _TryAgain(answer)
                return answer
        raise AssertionError("the last attempt either returns or raises")

    def _once(self, method: str, url: str, content: bytes, headers: dict[str, str], until: float) -> Answer:
        left = until - time.monotonic()
        if left <= 0:
            raise httpx.ReadTimeout("out of time")
        timeout = httpx.Timeout(
            min(self.limits.read_seconds, left), connect=min(self.limits.connect_seconds, left)
        )
        with (
            httpx.Client(
                verify=self._context(), timeout=timeout, follow_redirects=False, trust_env=False
            ) as client,
            client.stream(method, url, content=content, headers=headers) as response,
        ):
            body = b"".join(self._read(response.iter_bytes(), until))
            return Answer(response.status_code, dict(response.headers), body)

    def _read(self, chunks: Iterator[bytes], until: float) -> Iterator[bytes]:
        size = 0
        for chunk in chunks:
            size += len(chunk)
            if size > self.limits.largest_answer:
                raise AnswerTooLarge(f"{self.name}: more than {self.limits.largest_answer} bytes")
            # A drop every few seconds would never run into the limit of a single read.
            if time.monotonic() > until:
                raise httpx.ReadTimeout("out of time")
            yield chunk

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context
