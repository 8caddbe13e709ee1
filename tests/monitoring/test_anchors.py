"""A checkpoint that left the database is held against the log, whatever becomes of the database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction

from mestore.lib import actor, notes
from monitoring import anchors, audit, checkpoints, events, sequencer, tasks
from tests.monitoring.test_verification import tamper

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, settings: Any) -> Path:
    settings.AUDIT_ANCHOR_DIR = str(tmp_path / "anchors")
    return tmp_path / "anchors"


def grow(count: int) -> None:
    with transaction.atomic():
        audit.record_many([audit.Entry(events.SIGNED_OUT, by=actor.system("test")) for _ in range(count)])
    sequencer.drain()


def test_each_new_checkpoint_is_kept_once(folder: Path) -> None:
    assert anchors.keep_newest() is None  # nothing is signed yet
    grow(3)

    assert anchors.keep_newest() == "log-1-0000000000000003.checkpoint"
    assert anchors.keep_newest() is None
    grow(300)
    assert tasks.anchor_checkpoint.func(timestamp=0) is True

    first, second = (file for _name, file in anchors.Folder(folder).every())
    assert notes.checkpoint_of(first, log=checkpoints.verifier(1)).size == 3
    assert notes.checkpoint_of(second, log=checkpoints.verifier(1)).size == 303
    assert anchors.disagreements() == []
    assert {file.stat().st_mode & 0o222 for file in folder.iterdir()} == {0}


def test_what_is_there_is_never_written_over(folder: Path) -> None:
    grow(3)
    folder.mkdir()
    (folder / "log-1-0000000000000003.checkpoint").write_text("planted")

    assert anchors.keep_newest() is None

    assert [file.read_text() for file in folder.iterdir()] == ["planted"]
    assert anchors.disagreements() == ["log-1-0000000000000003.checkpoint"]


def test_two_workers_keep_it_once(folder: Path, race: Callable[..., list[Any]]) -> None:
    grow(3)

    outcomes = race([anchors.keep_newest] * 8)

    assert sorted(outcomes, key=str) == [None] * 7 + ["log-1-0000000000000003.checkpoint"]
    assert len(list(folder.iterdir())) == 1


def test_a_log_cut_back_disagrees_with_its_anchor(superuser_dsn: str) -> None:
    grow(3)
    anchors.keep_newest()
    tamper(superuser_dsn, "UPDATE audit_tree SET size = 0, frontier = ''")

    assert anchors.disagreements() == ["log-1-0000000000000003.checkpoint"]


def test_a_log_written_anew_disagrees_with_its_anchor(superuser_dsn: str) -> None:
    grow(3)
    anchors.keep_newest()
    tamper(superuser_dsn, "UPDATE audit_tile SET hashes = set_byte(hashes, 7, 1 # get_byte(hashes, 7))")

    assert anchors.disagreements() == ["log-1-0000000000000003.checkpoint"]


def test_without_a_folder_nothing_is_kept(settings: Any) -> None:
    settings.AUDIT_ANCHOR_DIR = ""
    grow(1)

    assert (anchors.keep_newest(), anchors.disagreements()) == (None, [])
