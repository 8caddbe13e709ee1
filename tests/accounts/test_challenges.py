"""Challenges of passkeys: random, for one flow, once, five minutes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from accounts import challenges
from accounts.challenges import ChallengeOver, Purpose
from accounts.models import PasskeyChallenge
from tests.accounts.passkey_house import HERE

DATABASES = ["default", "audit"]
pytestmark = pytest.mark.django_db(databases=DATABASES)
committed = pytest.mark.django_db(transaction=True, databases=[*DATABASES, "owner"])

Race = Callable[[Sequence[Callable[[], Any]]], list[Any]]


def test_ten_thousand_challenges_have_32_bytes_and_never_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PasskeyChallenge, "save", lambda self, **_how: None)

    made = {challenges.issue(Purpose.SIGN_IN, bound_to="") for _number in range(10_000)}

    assert len(made) == 10_000
    assert {len(challenge) for challenge in made} == {32}


def test_the_table_does_not_hold_the_challenge() -> None:
    challenge = challenges.issue(Purpose.SIGN_IN, bound_to="")

    row = PasskeyChallenge.objects.get()

    assert challenge not in b"".join(
        bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
        for value in (row.challenge_hash, row.bound_to, row.id)
    )


def test_a_challenge_is_used_up_once() -> None:
    challenge = challenges.issue(Purpose.STEP_UP, bound_to=HERE)

    challenges.consume(challenge, Purpose.STEP_UP, bound_to=HERE)

    with pytest.raises(ChallengeOver):
        challenges.consume(challenge, Purpose.STEP_UP, bound_to=HERE)


@pytest.mark.parametrize(
    ("purpose", "bound_to"), [(Purpose.SIGN_IN, HERE), (Purpose.STEP_UP, "session:2"), (Purpose.STEP_UP, "")]
)
def test_a_challenge_of_another_purpose_or_flow_is_refused_and_used_up(
    purpose: Purpose, bound_to: str
) -> None:
    challenge = challenges.issue(Purpose.STEP_UP, bound_to=HERE)

    with pytest.raises(ChallengeOver):
        challenges.consume(challenge, purpose, bound_to=bound_to)
    with pytest.raises(ChallengeOver):
        challenges.consume(challenge, Purpose.STEP_UP, bound_to=HERE)


def test_a_challenge_ends_after_five_minutes() -> None:
    challenge = challenges.issue(Purpose.STEP_UP, bound_to=HERE)
    row = PasskeyChallenge.objects.get()
    assert row.expires_at - row.created_at == dt.timedelta(minutes=5)
    PasskeyChallenge.objects.update(
        created_at=timezone.now() - dt.timedelta(minutes=6),
        expires_at=timezone.now() - dt.timedelta(seconds=1),
    )

    with pytest.raises(ChallengeOver):
        challenges.consume(challenge, Purpose.STEP_UP, bound_to=HERE)
    assert challenges.remove_ended() == 1


@committed
def test_of_many_answers_at_once_one_uses_the_challenge_up(race: Race) -> None:
    challenge = challenges.issue(Purpose.STEP_UP, bound_to=HERE)

    outcomes = race([partial(challenges.consume, challenge, Purpose.STEP_UP, bound_to=HERE)] * 20)

    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, ChallengeOver) for outcome in outcomes) == 19


@committed
def test_a_challenge_cannot_be_used_inside_of_a_transaction_that_could_revive_it() -> None:
    challenge = challenges.issue(Purpose.STEP_UP, bound_to=HERE)

    with pytest.raises(RuntimeError), transaction.atomic():
        challenges.consume(challenge, Purpose.STEP_UP, bound_to=HERE)
