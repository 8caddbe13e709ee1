"""The audit trail under load, in small (`make soak` takes longer): nobody waits for it, nothing is lost."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.db import connections, transaction

from accounts.models import User
from benchmarks.locks import Waiting
from mestore.lib import actor, sql
from monitoring import audit, events, log, sequencer, verifications
from monitoring.verifications import Mode, Plan
from tests.factories.accounts import BuyerFactory
from tests.harness import unmeasured

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

BY = actor.system("test")
WRITERS, EACH, KILLS = 16, 12, 3
PATIENCE_SECONDS = 300
Race = Callable[[Sequence[Callable[[], Any]]], list[Any]]


def write(who: UUID, language: str) -> None:
    """One captured change and one event of the application: two leaves."""
    with transaction.atomic():
        User.objects.filter(pk=who).update(language=language)
        audit.record(events.SIGNED_OUT, by=BY)


def count(query: Any) -> int:
    row = sql.fetch_one(query)
    assert row is not None
    return int(row[0])


def until(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (so := is_so()) and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    return so


def nothing_waits() -> bool:
    sequencer.drain()
    return count("SELECT count(*) FROM audit_pending") == 0


def assert_each_event_is_one_leaf() -> None:
    leaves = count("SELECT count(DISTINCT event_id) FROM audit_leaf")
    assert leaves == count("SELECT count(*) FROM audit_event") == log.state().size
    assert (
        leaves
        == count("SELECT count(*) FROM audit_leaf")
        == count("SELECT max(leaf_index) + 1 FROM audit_leaf")
    )
    assert all(found.is_good for found in verifications.verify(Plan(Mode.FULL), by=BY))


def test_writers_beside_a_sequencer_wait_for_nothing_of_the_trail(superuser_dsn: str, race: Race) -> None:
    people = [BuyerFactory.create(language="es").pk for _ in range(WRITERS)]
    before, stop = count("SELECT count(*) FROM audit_event"), threading.Event()

    def work(who: UUID) -> None:
        for language, _ in zip(itertools.cycle(["en", "es"]), range(EACH), strict=False):
            write(who, language)

    running = threading.Thread(target=sequencer.run, args=(stop,))
    running.start()
    try:
        with Waiting(superuser_dsn) as waiting:
            outcomes = race([partial(work, who) for who in people])
    finally:
        stop.set()
        running.join()

    assert outcomes == [None] * WRITERS
    assert (waiting.on_the_trail, waiting.deadlocks) == ({}, 0)
    assert count("SELECT count(*) FROM audit_event") - before == 2 * WRITERS * EACH
    assert until(nothing_waits)
    assert_each_event_is_one_leaf()


@contextmanager
def writing(who: UUID) -> Iterator[None]:
    """Somebody goes on writing in a thread of his own."""
    stop = threading.Event()

    def work() -> None:
        for language in itertools.cycle(["en", "es"]):
            if stop.wait(0.005):
                break
            write(who, language)
        connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_sequencer_killed_again_and_again_leaves_no_gap_and_no_duplicate() -> None:
    with writing(BuyerFactory.create(language="es").pk):
        for number in range(KILLS):
            before = log.state().size
            worker = subprocess.Popen(
                [sys.executable, "manage.py", "worker"],
                cwd=settings.BASE_DIR, env=unmeasured.environment(), stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                has_begun = until(partial(_has_grown, before))
                threading.Event().wait(0.07 * number)
            finally:
                worker.kill()
            assert (has_begun, worker.wait()) == (True, -signal.SIGKILL)

    # The server may need a moment to see that the last one's connection is gone.
    assert until(nothing_waits)
    assert_each_event_is_one_leaf()


def _has_grown(before: int) -> bool:
    return log.state().size > before
