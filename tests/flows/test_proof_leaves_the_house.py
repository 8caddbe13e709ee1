"""A sale is placed; a vendor takes away its proof as a file and checks it with only Python and a key."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from finance import orders
from mestore.lib import merkle, notes, sql
from monitoring import checkpoints, log, sequencer
from tests.finance.conftest import MACHINE, form, order_body, vendor  # noqa: F401 - fixtures
from tests.monitoring.test_verification import tamper

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

SCRIPT = Path(settings.BASE_DIR, "docs", "verify_proof.py")
SALE = "SELECT id FROM audit_event WHERE type = 'order.recorded'"
ENTRY = "SELECT id::text FROM audit_event WHERE type = 'finance.ledger_entry.posted' LIMIT 1"


@pytest.fixture(autouse=True)
def _sale(order_body: Callable[..., dict[str, Any]]) -> None:  # noqa: F811 - the fixture
    orders.place(form(order_body()), key="key-1", by=MACHINE)
    sequencer.drain()


def proof(*arguments: str) -> str:
    out = io.StringIO()
    call_command("audit_proof", *arguments, stdout=out)
    return out.getvalue()


def check(file: Path, key: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As a stranger would: no site packages, no environment, another folder."""
    return subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT), str(file), "--key", key, *arguments],
        cwd=file.parent, capture_output=True, text=True, timeout=300, check=False, env={},
    )  # fmt: skip


@pytest.mark.parametrize("query", [SALE, ENTRY], ids=["sale", "entry of the ledger"])
def test_its_proof_is_checked_without_us(query: str, tmp_path: Path) -> None:
    event_id, file = str(sql.fetch_all(query)[0][0]), tmp_path / "sale.tlog-proof"
    key = proof("--key").strip()

    proof(event_id, "--out", str(file))

    done = check(file, key)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.partition("\n")[2])["id"] == event_id

    file.write_text(file.read_text().replace("index ", "index 1"))
    assert check(file, key).returncode == 1


def test_a_proof_by_number_is_that_by_id() -> None:
    event_id = str(sql.fetch_all("SELECT event_id FROM audit_leaf WHERE leaf_index = 1")[0][0])
    assert proof("--leaf", "1") == proof(event_id)


def test_a_witness_is_on_the_proof_once_it_cosigned(tmp_path: Path) -> None:
    witness = notes.Signer.of_seed("witness.example/w1", bytes([7]) * 32, cosigner=True)
    event_id, file = str(sql.fetch_all(SALE)[0][0]), tmp_path / "sale.tlog-proof"
    with pytest.raises(CommandError, match="Ningún testigo") as refused:
        proof(event_id, "--with-cosignatures")
    assert refused.value.returncode == 1
    newest = checkpoints.last()
    assert newest is not None
    sql.execute(
        """INSERT INTO audit_cosignature (epoch, size, witness, line, cosigned_at)
           VALUES (1, %s, %s, %s, now())""",
        (newest.size, witness.verifier.name, witness.line(notes.parse(newest.note).text, at=1_700_000_000)),
    )

    proof(event_id, "--with-cosignatures", "--out", str(file))

    done = check(file, proof("--key").strip(), "--witness", str(witness.verifier))
    assert done.returncode == 0, done.stderr
    assert "cosigned by witness.example/w1" in done.stdout


def test_the_log_proves_that_it_only_grew() -> None:
    size = log.state().size
    said = json.loads(proof("--from", "1", "--to", str(size)))

    merkle.verify_consistency(
        1, size, [base64.b64decode(part) for part in said["proof"]],
        base64.b64decode(said["old_root"]), base64.b64decode(said["new_root"]),
    )  # fmt: skip
    newest = checkpoints.last()
    assert newest is not None
    assert (base64.b64decode(said["new_root"]), said["new_size"]) == (newest.root, newest.size)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["01920000-0000-7000-8000-000000000000"], 1), (["--leaf", "99999"], 1), (["--from", "9999"], 1),
        (["--from", "3", "--to", "2"], 1), ([], 2), (["--leaf", "1", "--from", "1"], 2),
        (["--leaf", "1", "--out", "/nowhere/at/all"], 2), (["--key", "--leaf", "1"], 2),
    ],
)  # fmt: skip
def test_what_there_is_no_proof_of(arguments: list[str], code: int) -> None:
    with pytest.raises(CommandError) as refused:
        proof(*arguments)
    assert refused.value.returncode == code


def test_a_tampered_event_has_no_proof(superuser_dsn: str) -> None:
    event_id = str(sql.fetch_all(SALE)[0][0])
    tamper(superuser_dsn, ("UPDATE audit_event SET canon = canon || ' ' WHERE id = %s", (event_id,)))
    with pytest.raises(CommandError) as refused:
        proof(event_id)
    assert refused.value.returncode == 1
