"""Time-ordered ids."""

from __future__ import annotations

import os
import time
import uuid

from mestore.lib import ids


def test_an_id_is_a_version_7_uuid_of_the_standard_library() -> None:
    made = ids.uuid7()

    assert type(made) is uuid.UUID
    assert made.version == 7
    assert made.variant == uuid.RFC_4122


def test_ids_made_in_a_row_sort_in_that_order_and_never_repeat() -> None:
    made = [ids.uuid7() for _ in range(20_000)]

    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_an_id_carries_the_moment_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    milliseconds = ids.uuid7().int >> 80
    after = time.time_ns() // 1_000_000

    assert before <= milliseconds <= after


def test_a_forked_process_does_not_repeat_its_parents_ids() -> None:
    ids.uuid7()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"".join(ids.uuid7().bytes for _ in range(100)))
        os._exit(0)
    own = {ids.uuid7().bytes for _ in range(100)}
    os.waitpid(child, 0)
    theirs = os.read(reading, 1_600)
    os.close(reading)
    os.close(writing)

    assert len(theirs) == 1_600
    assert own.isdisjoint({theirs[at : at + 16] for at in range(0, 1_600, 16)})
