"""Typed readers of environment variables: the only way a setting gets in.

Every reader understands `NAME` and `NAME_FILE` (a path whose content is the value), remembers what it
was asked for (so that `.env.example` can be compared with it) and collects what is wrong: `refuse_if_wrong`
then stops the start with one sentence per variable. A sentence names the variable and never its value.
"""

from __future__ import annotations

import base64
import binascii
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

MINIMUM_SECRET_LENGTH = 44
MINIMUM_ENTROPY_BITS = 4.0
KEY_BYTES = 32
MINIMUM_DISTINCT_KEY_BYTES = 16

# Fragments of values that people paste from tutorials, templates and old repositories.
WELL_KNOWN = (
    "change-me", "changeme", "change_me", "django-insecure", "dev-jwt-secret", "dev-secret", "default",
    "example", "insecure", "password", "placeholder", "secret-key", "secret_key", "secretkey",
    "test-secret", "your-", "your_", "123456", "abcdef", "qwerty",
)  # fmt: skip


_FRACTION = re.compile(r"0(\.[0-9]{1,6})?|1(\.0{1,6})?", re.ASCII)
_DOMAIN = re.compile(
    r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII
)


def _is_domain(name: str, *, loopback: bool) -> bool:
    return _DOMAIN.fullmatch(name) is not None or (loopback and name in {"localhost", "testserver"})


def _lies_on(parts: SplitResult, domain: str) -> bool:
    host = parts.hostname or ""
    return host == domain or host.endswith(f".{domain}")


def _origin(parts: SplitResult) -> str:
    default = {"https": 443, "http": 80}.get(parts.scheme)
    port = f":{parts.port}" if parts.port not in {None, default} else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}"


def shannon_bits(text: str) -> float:
    """Return the Shannon entropy of `text` in bits per character."""
    size = len(text)
    return -sum(n / size * math.log2(n / size) for n in Counter(text).values()) if size else 0.0


def _is_plain_address(address: str, schemes: Sequence[str]) -> bool:
    """Say whether it names a scheme and a host, and holds nothing that would have to be kept secret."""
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return False
    secrets = (parts.username, parts.password, parts.query, parts.fragment)
    return parts.scheme in schemes and bool(parts.hostname) and not any(secrets)


def _looks_random(key: bytes) -> bool:
    """Say whether `key` may be random bytes: not typed text, not counted, not the same few bytes again.

    By chance 32 random bytes are all printable less than once in 10^13 keys.
    """
    steps = {(after - before) % 256 for before, after in pairwise(key)}
    is_text = all(0x20 <= byte < 0x7F for byte in key)
    return len(set(key)) >= MINIMUM_DISTINCT_KEY_BYTES and len(steps) > 2 and not is_text


@dataclass(frozen=True, slots=True)
class Database:
    """A PostgreSQL URL, taken apart for Django."""

    name: str
    user: str
    password: str
    host: str
    port: str
    options: dict[str, str]


@dataclass(frozen=True, slots=True)
class MailServer:
    """A mail server's URL, taken apart for Django; without a host there is none."""

    host: str
    port: int
    user: str
    password: str
    scheme: str


NO_MAIL_SERVER = MailServer("", 0, "", "", "")
NO_DATABASE = Database("", "", "", "", "", {})


@dataclass
class Environment:
    """One reading of the environment: `source` is what is read, usually `os.environ`."""

    source: Mapping[str, str] = field(default_factory=lambda: os.environ)
    problems: list[str] = field(default_factory=list)
    asked: dict[str, str] = field(default_factory=dict)

    def refuse_if_wrong(self) -> None:
        """Raise ImproperlyConfigured with every problem found, one sentence each."""
        if self.problems:
            raise ImproperlyConfigured("MeStore does not start:\n- " + "\n- ".join(self.problems))

    def complain(self, sentence: str) -> None:
        self.problems.append(sentence)

    def text(self, name: str, about: str, *, default: str | None = None) -> str:
        """Return the value of `name`; without a default the variable is required."""
        self.asked[name] = about
        value = self._raw(name)
        if value:
            return value
        if default is None:
            self.complain(f"{name} is missing: set it, or {name}_FILE to a file that holds it ({about}).")
        return default or ""

    def integer(self, name: str, about: str, *, default: int, minimum: int, maximum: int) -> int:
        """Return a whole number between `minimum` and `maximum`."""
        value = self.text(name, about, default=str(default))
        number = int(value) if value.isascii() and value.isdigit() and len(value) < 12 else None
        if number is None or not minimum <= number <= maximum:
            self.complain(f"{name} must be a whole number from {minimum} to {maximum}.")
            return default
        return number

    def parts_per_million(self, name: str, about: str, *, default: int) -> int:
        """Return a rate given as a fraction from 0 to 1, such as 0.05, in parts per million and exactly."""
        value = self.text(name, about, default=f"{default / Decimal(1_000_000):f}")
        if _FRACTION.fullmatch(value) is None:
            self.complain(f"{name} must be a fraction from 0 to 1 with at most six decimals, such as 0.05.")
            return default
        return int(Decimal(value).scaleb(6))

    def boolean(self, name: str, about: str, *, default: bool) -> bool:
        """Return True for `1|true|yes|on`, False for `0|false|no|off`, in any case."""
        value = self.text(name, about, default="true" if default else "false").lower()
        if value in {"1", "true", "yes", "on"}:
            return True
        if value not in {"0", "false", "no", "off"}:
            self.complain(f"{name} must be true or false.")
        return False

    def listing(self, name: str, about: str, *, default: str | None = None) -> list[str]:
        """Return the parts of a comma-separated value, without blanks."""
        return [part.strip() for part in self.text(name, about, default=default).split(",") if part.strip()]

    def pairs(self, name: str, about: str, *, default: str | None = None) -> list[tuple[str, str]]:
        """Return the parts of a comma-separated value, each two words with a blank between them."""
        found: list[tuple[str, str]] = []
        for part in self.listing(name, about, default=default):
            first, _blank, second = part.partition(" ")
            if not second.strip() or " " in second.strip():
                self.complain(f"{name} must be pairs of an address and a key, separated by commas.")
            found.append((first, second.strip()))
        return found

    def addresses(self, name: str, about: str, *, schemes: tuple[str, ...]) -> list[str]:
        """Return the addresses of a comma-separated value; none of them may hold a password or a query."""
        found = self.listing(name, about, default="")
        for address in found:
            if not _is_plain_address(address, schemes):
                self.complain(f"{name} must be addresses of {' or '.join(schemes)}, without user or query.")
        return found

    def one_of(self, name: str, about: str, options: tuple[str, ...]) -> str:
        """Return one of `options`, the first where nothing is said."""
        value = self.text(name, about, default=options[0])
        if value not in options:
            self.complain(f"{name} must be one of {', '.join(options)}.")
        return value

    def choice(self, name: str, about: str, options: tuple[str, ...]) -> str:
        """Return one of `options`; there is no default, so that nobody runs in a mode by accident."""
        value = self.text(name, about)
        if value and value not in options:
            self.complain(f"{name} must be one of {', '.join(options)}.")
        return value

    def secret(self, name: str, about: str) -> str:
        """Return a secret that is long, of high entropy and not a known default (CVE-005 of the findings)."""
        value = self.text(name, about)
        if not value:
            return ""
        if len(value) < MINIMUM_SECRET_LENGTH:
            self.complain(f"{name} is too short: at least {MINIMUM_SECRET_LENGTH} characters are needed.")
        elif any(fragment in value.lower() for fragment in WELL_KNOWN):
            self.complain(f"{name} contains a well-known default: generate a random value of its own.")
        elif shannon_bits(value) < MINIMUM_ENTROPY_BITS:
            self.complain(f"{name} is too predictable (low entropy): generate a random value.")
        return value

    def key_ring(self, name: str, about: str) -> dict[str, bytes]:
        """Return `id -> 32 bytes` from `id:base64,id:base64`; the first key is the current one."""
        ring: dict[str, bytes] = {}
        for part in self.listing(name, about):
            identifier, _, encoded = part.partition(":")
            key = self._key_bytes(name, encoded)
            if not identifier.isascii() or not identifier.isalnum() or len(identifier) > 32:
                self.complain(
                    f"{name} needs entries of the form id:base64 (id: up to 32 letters and digits)."
                )
            elif identifier in ring:
                self.complain(f"{name} names one key id twice.")
            elif key:
                ring[identifier] = key
        return ring

    def key(self, name: str, about: str) -> bytes:
        """Return one key of 32 bytes, given in base64."""
        value = self.text(name, about)
        return self._key_bytes(name, value) if value else b""

    def postgresql(
        self, name: str, about: str, *, plain_loopback: bool = False, default: str | None = None
    ) -> Database:
        """Return a PostgreSQL URL taken apart; without `sslmode=verify-full` it is refused.

        `plain_loopback` (the demo alone) allows a server on this machine without TLS.
        """
        value = self.text(name, about, default=default)
        if not value:
            return NO_DATABASE
        parts = self._split(value)
        if parts is None or parts.scheme not in {"postgres", "postgresql"} or len(parts.path) < 2:
            self.complain(
                f"{name} must look like postgresql://user:password@host:port/name?sslmode=verify-full."
            )
            return NO_DATABASE
        options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        host = options.pop("host", "") or parts.hostname or ""
        local = host.startswith("/") or host in {"localhost", "127.0.0.1", "::1"}
        if options.get("sslmode") != "verify-full" and not (plain_loopback and local):
            self.complain(
                f"{name} must carry sslmode=verify-full: the server's certificate is always verified."
            )
        return Database(
            name=unquote(parts.path[1:]),
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            host=host,
            port=str(parts.port or ""),
            options=options,
        )

    def redis(self, name: str, about: str, *, plain_loopback: bool = False) -> str:
        """Return a Redis URL over verified TLS, or "" where `plain_loopback` (the demo) allows none."""
        value = self.text(name, about, default="" if plain_loopback else None)
        if not value:
            return ""
        parts = self._split(value)
        options = parse_qs(parts.query) if parts else {}
        if parts is None or parts.scheme not in {"redis", "rediss"}:
            self.complain(f"{name} must look like rediss://user:password@host:port/0?ssl_ca_certs=FILE.")
        elif parts.scheme == "redis" and not (
            plain_loopback and parts.hostname in {"localhost", "127.0.0.1"}
        ):
            self.complain(f"{name} must use rediss:// (TLS); redis:// is for the demo on this machine only.")
        elif (
            options.get("ssl_cert_reqs", ["required"])[-1] != "required"
            or options.get("ssl_check_hostname", ["true"])[-1].lower() != "true"
        ):
            self.complain(f"{name} must not switch off the check of the server's certificate.")
        return value

    def relying_party(
        self, rp_name: str, origins_name: str, *, addresses: Sequence[str], loopback: bool
    ) -> tuple[str, list[str]]:
        """Return the domain that passkeys belong to and the origins of the pages that may ask for one.

        A browser refuses a passkey on a page whose host is not that domain or below it: a mismatch stops the
        start. Without values: the host of the first of `addresses`, and those `addresses` that lie on it;
        where that host is no domain (a bare address), "" and no origins: there are no passkeys.
        `loopback` allows http on localhost.
        """
        known = [parts for parts in map(self._split, addresses) if parts and parts.hostname]
        host = known[0].hostname or "" if known else ""
        if loopback and host == "127.0.0.1":
            host = "localhost"  # browsers know no passkeys of an address
        rp_id = self.text(
            rp_name, "the domain that passkeys belong to",
            default=host if _is_domain(host, loopback=loopback) else "",
        )  # fmt: skip
        if rp_id and not _is_domain(rp_id, loopback=loopback):
            self.complain(f"{rp_name} must be a domain such as mestore.example: no address, no port.")
        own = dict.fromkeys(_origin(parts) for parts in known if _lies_on(parts, rp_id))
        given = self.listing(
            origins_name, "origins of the pages that ask for a passkey", default=",".join(own)
        )
        for origin in given:
            parts = self._split(origin)
            local = loopback and parts is not None and parts.hostname == "localhost"
            if (
                parts is None
                or not (parts.scheme == "https" or local)
                or _origin(parts) != origin
                or not _lies_on(parts, rp_id)
            ):
                self.complain(
                    f"{origins_name} must name origins such as https://www.mestore.example, each on the"
                    f" domain of {rp_name} or below it."
                )
        return rp_id, given

    def mail_server(self, name: str, about: str, *, required: bool) -> MailServer:
        """Return a mail server's URL taken apart: TLS from the first byte (smtps) or by STARTTLS."""
        value = self.text(name, about, default=None if required else "")
        if not value:
            return NO_MAIL_SERVER
        parts = self._split(value)
        ports = {"smtps": 465, "smtp+starttls": 587}
        if parts is None or parts.scheme not in ports or not parts.hostname:
            self.complain(
                f"{name} must look like smtps://user:password@host:465 or smtp+starttls://user:password@host:587."
            )
            return NO_MAIL_SERVER
        return MailServer(
            host=parts.hostname,
            port=parts.port or ports[parts.scheme],
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            scheme=parts.scheme,
        )

    def _raw(self, name: str) -> str:
        path = self.source.get(f"{name}_FILE", "")
        if not path:
            return self.source.get(name, "").strip()
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            self.complain(f"{name}_FILE names a file that cannot be read.")
            return ""

    def _key_bytes(self, name: str, encoded: str) -> bytes:
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            self.complain(f"{name} needs keys of {KEY_BYTES} random bytes in base64.")
            return b""
        if not _looks_random(key):
            self.complain(f"{name} holds a key that is not random.")
        return key

    def _split(self, value: str) -> SplitResult | None:
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:
            return None
        return parts
