"""A check that nobody registered says no."""

from __future__ import annotations

from typing import Any

import pytest

from mestore.lib import errors, guard


@pytest.fixture(autouse=True)
def nobody_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_registered", guard._Registered())


def test_nothing_registered_is_refused() -> None:
    with pytest.raises(errors.Forbidden):
        guard.require("payout.approve", object())
    with pytest.raises(errors.Forbidden):
        guard.require_second_person("grant.give", by="somebody")


def test_registering_one_check_does_not_answer_for_the_other() -> None:
    guard.register_step_up(lambda _action, _request: None)
    with pytest.raises(errors.Forbidden):
        guard.require_second_person("grant.give")

    guard._registered.step_up = None
    guard.register_second_person(lambda _action, **_context: None)
    with pytest.raises(errors.Forbidden):
        guard.require("grant.give", object())


def test_the_registered_step_up_check_decides() -> None:
    asked: list[tuple[str, Any]] = []

    def check(action: str, request: Any) -> None:
        asked.append((action, request))
        if action == "refused":
            raise errors.Forbidden("A fresh factor is needed.")

    guard.register_step_up(check)
    guard.require("allowed", "a request")
    with pytest.raises(errors.Forbidden, match="fresh factor"):
        guard.require("refused", "a request")

    assert asked == [("allowed", "a request"), ("refused", "a request")]


def test_the_registered_second_person_check_decides() -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def check(action: str, **context: Any) -> None:
        asked.append((action, context))
        if action == "refused":
            raise errors.Forbidden("Another person must approve.")

    guard.register_second_person(check)
    guard.require_second_person("allowed", by="ana", target="payout 1")
    with pytest.raises(errors.Forbidden, match="Another person"):
        guard.require_second_person("refused")

    assert asked == [("allowed", {"by": "ana", "target": "payout 1"}), ("refused", {})]


def test_a_check_cannot_be_replaced_by_another() -> None:
    def step_up(_action: str, _request: Any) -> None:
        raise errors.Forbidden

    def second_person(_action: str, **_context: Any) -> None:
        raise errors.Forbidden

    guard.register_step_up(step_up)
    guard.register_step_up(step_up)
    guard.register_second_person(second_person)
    guard.register_second_person(second_person)

    with pytest.raises(RuntimeError):
        guard.register_step_up(lambda _action, _request: None)
    with pytest.raises(RuntimeError):
        guard.register_second_person(lambda _action, **_context: None)
    with pytest.raises(errors.Forbidden):
        guard.require("anything", object())
    with pytest.raises(errors.Forbidden):
        guard.require_second_person("anything")
