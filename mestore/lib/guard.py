"""Two questions that lower packages ask and higher packages answer: a fresh factor, a second person.

The package that knows sessions registers the step-up check, the one that knows approvals registers the second
person's; both do so when Django starts. As long as nobody has registered, the answer is no.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from mestore.lib import errors

# Called with the action and the request. Returns when the caller's factor is fresh enough; raises an error
# that says how to prove one otherwise.
StepUpCheck = Callable[[str, Any], None]
# Called with the action and keywords. Returns when another person has approved it in this context; raises
# otherwise.
SecondPersonCheck = Callable[..., None]


class NothingRegistered(errors.Forbidden):
    """A check that cannot run says no."""

    message = _("This action cannot be confirmed at the moment, so it is refused.")


@dataclass(slots=True)
class _Registered:
    step_up: StepUpCheck | None = None
    second_person: SecondPersonCheck | None = None


_registered = _Registered()


def register_step_up(check: StepUpCheck) -> None:
    """Make `check` the one step-up check. Raises RuntimeError when another is registered already."""
    if _registered.step_up is not None and _registered.step_up is not check:
        raise RuntimeError("a step-up check is registered already")
    _registered.step_up = check


def require(action: str, request: Any) -> None:
    """Return when the caller proved a factor freshly enough for `action`; raise an error otherwise."""
    if _registered.step_up is None:
        raise NothingRegistered
    _registered.step_up(action, request)


def register_second_person(check: SecondPersonCheck) -> None:
    """Make `check` the one second-person check. Raises RuntimeError when another is registered already."""
    if _registered.second_person is not None and _registered.second_person is not check:
        raise RuntimeError("a second-person check is registered already")
    _registered.second_person = check


def require_second_person(action: str, **context: Any) -> None:
    """Return when somebody else approved `action` for this context (`by=`, `target=` …); raise otherwise."""
    if _registered.second_person is None:
        raise NothingRegistered
    _registered.second_person(action, **context)
