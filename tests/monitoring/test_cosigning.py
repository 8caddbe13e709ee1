"""The log shows its checkpoints to real witnesses over TLS, and hears when one knows better."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from django.db import transaction

from mestore.lib import actor, merkle, notes
from mestore.lib.notes import Signer
from monitoring import audit, checkpoints, cosigning, events, log, sequencer, witness
from monitoring.models import Signal
from tests.monitoring.test_verification import tamper

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

BY = actor.system("test")
SIGNER = Signer.of_seed("witness.example/w1", bytes([7]) * 32, cosigner=True)


def grow(count: int) -> int:
    with transaction.atomic():
        audit.record_many([audit.Entry(events.SIGNED_OUT, by=BY, data={"n": n}) for n in range(count)])
    sequencer.drain()
    return log.state().size


@pytest.fixture
def watching(tmp_path: Path, settings: Any) -> Iterator[witness.Witness]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "witness.pem"))
    with contextlib.closing(witness.Store(tmp_path / "store")) as store:
        found = witness.Witness(SIGNER, [checkpoints.verifier(1)], store)
        with witness.serving(found, ("127.0.0.1", 0), certificate=str(tmp_path / "witness.pem")) as server:
            url = f"https://localhost:{server.server_address[1]}"
            settings.AUDIT_WITNESSES = [(url, str(SIGNER.verifier))]
            settings.AUDIT_WITNESS_CA = str(tmp_path / "ca.pem")
            yield found


def test_each_checkpoint_is_cosigned_once(watching: witness.Witness) -> None:
    assert cosigning.last_words() == [cosigning.LastWord(SIGNER.name, None, None)]
    for count in (3, 300):
        size = grow(count)
        assert (cosigning.ask_all(), cosigning.ask_all()) == (1, 0)
        (word,) = cosigning.last_words()
        assert word.size == size
        assert word.cosigned_at is not None
        assert dt.datetime.now(dt.UTC) - word.cosigned_at < dt.timedelta(minutes=1)
        found = checkpoints.last()
        assert found is not None
        assert SIGNER.name in notes.cosigned_at(cosigning.with_cosignatures(found), [SIGNER.verifier])


def test_before_the_first_checkpoint_nobody_is_asked(watching: witness.Witness) -> None:
    assert cosigning.ask_all() == 0


def test_an_answer_that_was_lost_is_asked_for_again(watching: witness.Witness, superuser_dsn: str) -> None:
    grow(5)
    cosigning.ask_all()
    tamper(superuser_dsn, "DELETE FROM audit_cosignature")

    assert cosigning.ask_all() == 1
    assert not Signal.objects.exists()


def test_a_restored_backup_is_refused_and_told(watching: witness.Witness, superuser_dsn: str) -> None:
    """The database goes back to an earlier state as a whole, and then on: no hash in it is wrong."""
    grow(5)
    frontier = log.state().frontier.dump()
    tiles = log.tile_row(0, 0, 5)
    grow(10)
    cosigning.ask_all()
    tamper(
        superuser_dsn,
        "DELETE FROM audit_cosignature",
        "DELETE FROM audit_checkpoint WHERE size > 5",
        "DELETE FROM audit_event WHERE id IN (SELECT event_id FROM audit_leaf WHERE leaf_index >= 5)",
        "DELETE FROM audit_leaf WHERE leaf_index >= 5",
        ("UPDATE audit_tile SET hashes = %s", (tiles,)),
        ("UPDATE audit_tree SET size = 5, frontier = %s", (frontier,)),
    )

    assert cosigning.ask_all() == 0
    grow(20)
    assert cosigning.ask_all() == 0

    signal = Signal.objects.get(rule="audit.witness_refused")
    assert signal.entity_id == SIGNER.name
    assert signal.seen == 2


def test_a_witness_that_is_away_stops_nothing(watching: witness.Witness, settings: Any) -> None:
    (real,) = settings.AUDIT_WITNESSES
    away = Signer.of_seed("away", bytes(32), cosigner=True).verifier
    settings.AUDIT_WITNESSES = [("https://localhost:1", str(away)), real]
    grow(3)

    assert cosigning.ask_all() == 1
    assert [word.size for word in cosigning.last_words()] == [None, 3]


def test_a_witness_with_another_key_is_not_believed(watching: witness.Witness, settings: Any) -> None:
    ((url, _key),) = settings.AUDIT_WITNESSES
    settings.AUDIT_WITNESSES = [(url, str(Signer.of_seed(SIGNER.name, bytes(32), cosigner=True).verifier))]
    grow(3)

    assert cosigning.ask_all() == 0
    assert cosigning.last_words()[0].size is None


def test_a_certificate_of_nobody_we_know_is_not_believed(watching: witness.Witness, settings: Any) -> None:
    settings.AUDIT_WITNESS_CA = ""
    cosigning._clients.clear()
    grow(3)

    assert cosigning.ask_all() == 0


def test_no_witness_is_no_word() -> None:
    grow(1)
    assert (cosigning.ask_all(), cosigning.last_words()) == (0, [])


def test_tiles_that_do_not_prove_growth_are_told(watching: witness.Witness, superuser_dsn: str) -> None:
    grow(300)
    cosigning.ask_all()
    grow(300)
    tamper(
        superuser_dsn,
        ("UPDATE audit_tile SET hashes = %s WHERE level = 1", (merkle.EMPTY_ROOT,)),
    )

    assert cosigning.ask_all() == 0
    assert Signal.objects.filter(rule="audit.witness_refused").count() == 1
