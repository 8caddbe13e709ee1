"""Data keys of people: one each, made once, whoever asks first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import connections, transaction

from mestore.lib import crypto, sql
from monitoring import subjects
from monitoring.models import SubjectKey

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
committing = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])


@committing
def test_racing_processes_end_with_the_same_key(
    race: Callable[[Sequence[Callable[[], Any]]], list[Any]],
) -> None:
    names = [f"person-{number}" for number in range(20)]

    def ask() -> dict[str, crypto.DataKey]:
        subjects.forget_cached_keys()
        try:
            return subjects.keys_for(names)
        finally:
            connections.close_all()

    answers = race([ask] * 8)

    assert all(answer == answers[0] for answer in answers)
    assert len(answers[0]) == 20
    assert SubjectKey.objects.count() == 20


@committing
def test_key_outlives_the_rollback_of_who_needed_it_first() -> None:
    with transaction.atomic():
        key = subjects.keys_for(["p"])["p"]
        transaction.set_rollback(True)

    subjects.forget_cached_keys()
    assert subjects.keys_for(["p"])["p"] == key


def test_key_is_wrapped_at_rest() -> None:
    key = subjects.keys_for(["p"])["p"]

    row = sql.fetch_one("SELECT wrapped FROM subject_key WHERE subject = 'p'", using="audit")

    assert len(key) == subjects.KEY_BYTES
    assert row is not None
    assert bytes(key) not in bytes(row[0])


def test_key_of_another_person_cannot_be_put_in_its_place() -> None:
    subjects.keys_for(["p"])
    sql.execute(
        "INSERT INTO subject_key (subject, wrapped) SELECT 'q', wrapped FROM subject_key WHERE subject = 'p'",
        using="audit",
    )

    with pytest.raises(crypto.Unreadable):
        subjects.keys_for(["q"])


def test_known_key_costs_no_statement(django_assert_num_queries: Any) -> None:
    subjects.keys_for(["p"])

    with django_assert_num_queries(0, connection=connections["audit"]):
        subjects.keys_for(["p", "p"])


def test_cache_is_bounded() -> None:
    first, second, third = (crypto.DataKey(bytes([number]) * 32) for number in range(3))
    cache = subjects._Cache(2)
    cache.put({"a": first, "b": second})
    cache.take(["a"])
    cache.put({"c": third})

    assert cache.take(["a", "b", "c"]) == {"a": first, "c": third}


def test_a_cipher_is_made_once_and_forgotten_with_its_key() -> None:
    cipher = subjects.keys_for(["p"])["p"].cipher

    assert subjects.keys_for(["p"])["p"].cipher is cipher
    subjects.forget("p")
    assert subjects.keys_for(["p"])["p"].cipher is not cipher
