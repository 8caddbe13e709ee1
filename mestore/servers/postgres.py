"""A private PostgreSQL cluster: TLS and SCRAM only, an owner role and an unprivileged runtime role."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from mestore.servers.certificates import HOST, Certificates
from mestore.servers.errors import ServersUnavailableError
from mestore.servers.storage import Account, account, write_private

ADMIN, OWNER, RUNTIME, DATABASE = "mestore_admin", "mestore_owner", "mestore_app", "mestore"

# Where distributions keep servers that are not on PATH.
PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/lib64/pgsql*/bin")

ACCESS_RULES = b"""# Nobody comes in without TLS and a SCRAM password; there is no local socket.
hostssl   all all 127.0.0.1/32 scram-sha-256
hostnossl all all all          reject
"""

COMMON = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "ssl": "on",
    "ssl_min_protocol_version": "TLSv1.2",
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
    # A statement that fails is named without its values: those are people's names, addresses and hashes.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "logging_collector": "off",
}
# Speed for servers whose data nobody will miss. Never for a test that kills the server.
THROW_AWAY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


@dataclass(frozen=True)
class Cluster:
    """One data folder and what is needed to run and reach it."""

    binaries: Path
    data: Path
    user: Account
    passwords: dict[str, str]
    authority: Path
    durable: bool

    def url(self, role: str, port: int, database: str = DATABASE) -> str:
        """The address for `role`, with verification of the server's name and channel binding."""
        options = urlencode(
            {"sslmode": "verify-full", "sslrootcert": str(self.authority), "channel_binding": "require"},
            safe="/",
        )
        return (
            f"postgresql://{role}:{quote(self.passwords[role], safe='')}@{HOST}:{port}/{database}?{options}"
        )

    def plan(self, port: int, log: Path) -> dict[str, Any]:
        """What the keeper runs. SIGINT is a clean stop; SIGQUIT an immediate one for data that goes."""
        return {
            "name": "postgresql",
            "argv": [str(self.binaries / "postgres"), "-D", str(self.data), "-p", str(port)],
            "cwd": str(self.data),
            "env": _environment(),
            "log": str(log),
            "uid": self.user.uid,
            "gid": self.user.gid,
            "stop_signal": int(signal.SIGINT if self.durable else signal.SIGQUIT),
        }


def prepare(home: Path, certificates: Certificates, passwords: dict[str, str], *, durable: bool) -> Cluster:
    """The cluster in `home`, made when it is not there. Raises ServersUnavailableError without PostgreSQL."""
    data = home / "postgresql"
    user = account("postgres")
    for role in (ADMIN, OWNER, RUNTIME):
        passwords.setdefault(role, secrets.token_urlsafe(24))
    binaries = find_binaries(_version_of(data))
    cluster = Cluster(binaries, data, user, passwords, certificates.authority, durable)
    if _version_of(data) is None:
        _initialise(cluster)
    write_private(data / "server.crt", certificates.certificate, user)
    write_private(data / "server.key", certificates.key, user)
    write_private(data / "pg_hba.conf", ACCESS_RULES, user)
    settings = COMMON if durable else COMMON | THROW_AWAY
    lines = [f"{name} = '{value}'" for name, value in settings.items()]
    write_private(data / "mestore.conf", "\n".join(lines).encode() + b"\n", user)
    return cluster


def find_binaries(version: int | None = None) -> Path:
    """The folder with the newest server found, or that of `version` for data which exists already."""
    candidates = [folder for place in PLACES for folder in sorted(Path("/").glob(place.lstrip("/")))]
    if on_path := shutil.which("postgres"):
        candidates.append(Path(on_path).resolve().parent)
    usable = [(number, folder) for folder in candidates if (number := _server_version(folder)) is not None]
    if version is not None:
        usable = [(number, folder) for number, folder in usable if number == version]
    if not usable:
        wanted = "15 or newer" if version is None else f"{version}, with which the data here was made"
        raise ServersUnavailableError(f"no PostgreSQL server {wanted} found: install the package postgresql")
    return max(usable)[1]


def create_roles(cluster: Cluster, port: int) -> None:
    """Roles, database and grants of a new cluster; harmless when repeated."""
    with psycopg.connect(cluster.url(ADMIN, port, "postgres"), autocommit=True) as connection:
        known = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
        for role, rights in ((OWNER, "LOGIN CREATEDB"), (RUNTIME, "LOGIN")):
            if role not in known:
                connection.execute(
                    sql.SQL("CREATE ROLE {} {} PASSWORD {}").format(
                        sql.Identifier(role), sql.SQL(rights), sql.Literal(cluster.passwords[role])
                    )
                )
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), sql.Identifier(OWNER))
            )
    with psycopg.connect(cluster.url(OWNER, port), autocommit=True) as connection:
        open_database(connection, DATABASE)
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")


def open_database(connection: psycopg.Connection[Any], database: str) -> None:
    """Let the runtime role, and nobody else, connect to `database`. Copies do not inherit this."""
    name, role = sql.Identifier(database), sql.Identifier(RUNTIME)
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
    connection.execute(sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(name, role))


def _initialise(cluster: Cluster) -> None:
    # A first attempt that was killed leaves a folder without a version: it is made again.
    shutil.rmtree(cluster.data, ignore_errors=True)
    cluster.data.mkdir(mode=0o700)
    cluster.user.own(cluster.data)
    password_file = cluster.data.with_name("postgresql.password")
    write_private(password_file, cluster.passwords[ADMIN].encode(), cluster.user)
    draft = cluster.data / "cluster"
    command = [str(cluster.binaries / "initdb"), "-D", str(draft), "-U", ADMIN, "--auth=scram-sha-256"]
    command += [
        f"--pwfile={password_file}",
        "-E",
        "UTF8",
        "--locale=C.UTF-8",
        "--no-sync",
        "--data-checksums",
    ]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command; its one variable is a path of ours
            command,
            cwd=cluster.data,
            env=_environment(),
            user=cluster.user.uid,
            group=cluster.user.gid,
            extra_groups=None if cluster.user.gid is None else [cluster.user.gid],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        password_file.unlink(missing_ok=True)
    if done.returncode:
        raise ServersUnavailableError(f"initdb failed: {done.stderr.strip()}")
    with (draft / "postgresql.conf").open("a") as file:
        file.write("\ninclude 'mestore.conf'\n")
    # Moved into place last, so that a folder with a version is always complete.
    for entry in sorted(draft.iterdir(), key=lambda path: path.name == "PG_VERSION"):
        entry.rename(cluster.data / entry.name)
    draft.rmdir()


def _environment() -> dict[str, str]:
    """No variable of ours reaches the server: PG* ones would change what it does, others may be secrets."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}


def _server_version(folder: Path) -> int | None:
    """The major version of a server from 15 on, or None when there is no such server."""
    if not all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb")):
        return None
    said = subprocess.run(  # noqa: S603 - the binary just found
        [str(folder / "postgres"), "--version"], capture_output=True, text=True, check=False
    ).stdout
    found = re.search(r"\) (\d+)", said)
    return int(found[1]) if found and int(found[1]) >= 15 else None


def _version_of(data: Path) -> int | None:
    file = data / "PG_VERSION"
    return int(file.read_text()) if file.is_file() else None
