"""A private Redis: TLS only, no default user, one user that sees the keys of MeStore alone."""

from __future__ import annotations

import secrets
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mestore.servers.certificates import HOST, Certificates
from mestore.servers.errors import ServersUnavailableError
from mestore.servers.storage import Account, account, write_private

USER = "mestore"
DATABASES = 64  # one per parallel test process


@dataclass(frozen=True)
class Cache:
    """One Redis folder and what is needed to run and reach it."""

    binary: str
    folder: Path
    user: Account
    password: str
    authority: Path

    def url(self, port: int, database: int = 0) -> str:
        password = quote(self.password, safe="")
        return (
            f"rediss://{USER}:{password}@{HOST}:{port}/{database}?ssl_ca_certs={quote(str(self.authority))}"
        )

    def plan(self, port: int, log: Path) -> dict[str, Any]:
        """What the keeper runs."""
        return {
            "name": "redis",
            "argv": [self.binary, str(self.folder / "redis.conf"), "--tls-port", str(port)],
            "cwd": str(self.folder),
            "env": {"LANG": "C.UTF-8"},
            "log": str(log),
            "uid": self.user.uid,
            "gid": self.user.gid,
            "stop_signal": int(signal.SIGTERM),
        }


def find_binary() -> str | None:
    """Where redis-server is, or None."""
    return shutil.which(
        "redis-server", path="/usr/bin:/usr/local/bin:/usr/sbin:/opt/homebrew/bin"
    ) or shutil.which("redis-server")


def prepare(home: Path, certificates: Certificates, passwords: dict[str, str]) -> Cache:
    """The Redis of `home`, configured anew. Raises ServersUnavailableError without redis-server."""
    binary = find_binary()
    if binary is None:
        raise ServersUnavailableError("no redis-server found: install the package redis-server")
    user = account("redis", "postgres", "nobody")
    folder = home / "redis"
    folder.mkdir(mode=0o700, exist_ok=True)
    user.own(folder)
    password = passwords.setdefault("redis", secrets.token_urlsafe(24))
    write_private(folder / "server.crt", certificates.certificate, user)
    write_private(folder / "server.key", certificates.key, user)
    write_private(folder / "users.acl", _users(password).encode(), user)
    write_private(folder / "redis.conf", _configuration(folder, certificates.authority).encode(), user)
    return Cache(binary, folder, user, password, certificates.authority)


def _users(password: str) -> str:
    # `+@all -@dangerous -@admin`: no KEYS, FLUSHALL, CONFIG or DEBUG, even for who steals the application's
    # password.
    return f"user default off\nuser {USER} on >{password} ~mestore:* &mestore:* +@all -@dangerous -@admin\n"


def _configuration(folder: Path, authority: Path) -> str:
    lines = (
        f"bind {HOST}",
        "port 0",
        f"tls-cert-file {_quoted(folder / 'server.crt')}",
        f"tls-key-file {_quoted(folder / 'server.key')}",
        f"tls-ca-cert-file {_quoted(authority)}",
        "tls-auth-clients no",
        f"aclfile {_quoted(folder / 'users.acl')}",
        f"dir {_quoted(folder)}",
        'save ""',  # caches and throttles only: nothing here is worth a disk write
        "appendonly no",
        "maxmemory 128mb",
        "maxmemory-policy volatile-ttl",
        f"databases {DATABASES}",
        "daemonize no",
    )
    return "\n".join(lines) + "\n"


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
