"""The peer, beside MeStore on the same servers: installed, filled with the same rows, run by gunicorn."""

from __future__ import annotations

import hashlib
import json
import secrets
import subprocess
import venv
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from psycopg import sql

from benchmarks.house import ROOT, THREADS, WORKERS, House

NAME = "peer"
ENVIRONMENT = ROOT / ".cache" / "peer"
REQUIREMENTS = ROOT / "benchmarks" / "peer" / "requirements.txt"
INSTALL_SECONDS = 300

# What its row needs, with amounts as it keeps them; one commission of each vendor is the one that is read.
_ROWS = """
    SELECT c.id, commission_number, order_id, vendor_id, currency,
    order_amount_minor / 100.0, rate_ppm / 1000000.0, commission_amount_minor / 100.0,
    vendor_amount_minor / 100.0, commission_type, status, notes, calculated_at, approved_at, paid_at,
    created_at, updated_at, c.id = ANY(%s)
    FROM finance_commission c ORDER BY c.id LIMIT %s"""
_NAMES = (
    "id", "commission_number", "order_id", "vendor", "currency", "order_amount", "commission_rate",
    "commission_amount", "vendor_amount", "commission_type", "status", "notes", "calculated_at",
    "approved_at", "paid_at", "created_at", "updated_at", "wanted",
)  # fmt: skip
MOST_ROWS = 100_000


class PeerMissingError(Exception):
    """The peer's packages cannot be installed here; the reason is its text."""


def install() -> None:
    """Install the pinned packages into an environment of their own, once. Raises `PeerMissingError`."""
    done = ENVIRONMENT / "installed"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if done.is_file() and done.read_text(encoding="ascii") == wanted:
        return
    try:
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        subprocess.run(
            [
                str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "-q",
                "--disable-pip-version-check", "--require-hashes", "-r", str(REQUIREMENTS),
            ],
            check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        said = str(error.stderr).strip().splitlines()
        raise PeerMissingError(said[-1] if said else str(error)) from error
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise PeerMissingError(str(error)) from error
    done.write_text(wanted, encoding="ascii")


def start(house: House, folder: Path, seed: dict[str, Any], *, refresh_tokens: int) -> dict[str, Any]:
    """Fill the peer and serve it; what its clients need. Raises `PeerMissingError`."""
    install()
    environment = house.environment | {
        "PEER_DATABASE_URL": _database(house),
        "DJANGO_SETTINGS_MODULE": "benchmarks.peer.settings",
    }
    environment.pop("PROMETHEUS_MULTIPROC_DIR", None)
    found = _fill(house, folder, environment, seed, refresh_tokens)
    house.run(
        NAME,
        lambda port: [
            str(ENVIRONMENT / "bin" / "gunicorn"), "--worker-class", "gthread", "--workers", str(WORKERS),
            "--threads", str(THREADS), "--keep-alive", "75", "--bind", f"127.0.0.1:{port}",
            "--log-level", "warning", "benchmarks.peer.wsgi:application",
        ],
        environment,
    )  # fmt: skip
    return found


def _database(house: House) -> str:
    """Make the peer's database and role; its URL, with the same TLS settings as ours."""
    password = secrets.token_urlsafe(24)
    with house.admin() as connection:
        connection.execute(sql.SQL("CREATE ROLE peer LOGIN PASSWORD {}").format(sql.Literal(password)))
        connection.execute("CREATE DATABASE peer OWNER peer")
    ours = urlsplit(house.environment["DATABASE_URL"])
    place = f"peer:{password}@{ours.hostname}:{ours.port}"
    return urlunsplit((ours.scheme, place, "/peer", ours.query, ""))


def _fill(
    house: House, folder: Path, environment: dict[str, str], seed: dict[str, Any], refresh_tokens: int
) -> dict[str, Any]:
    rows = folder / "peer-rows.jsonl"
    wanted = [vendor["commission"] for vendor in seed["vendors"]]
    with house.admin() as connection, rows.open("w", encoding="utf-8") as stream:
        cursor = connection.execute(_ROWS, (wanted, MOST_ROWS))
        for row in cursor:
            stream.write(json.dumps(dict(zip(_NAMES, row, strict=True)), default=str) + "\n")
    with rows.open("rb") as stream:
        done = subprocess.run(
            [str(ENVIRONMENT / "bin" / "python"), "-m", "benchmarks.peer.seed", str(refresh_tokens)],
            cwd=ROOT, env=environment, stdin=stream, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"filling the peer failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
