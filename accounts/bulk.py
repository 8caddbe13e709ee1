"""One action on up to a hundred accounts: each is judged alone, all that pass change in one statement.

The checks are those of single changes. An account that is refused, unknown, deleted or of another kind is
named with its reason in the answer and left as it was; the others go on.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import hierarchy, lockout, password_change
from accounts.account_changes import LOCK, MANAGING
from accounts.hierarchy import Authority
from accounts.models import User
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import audit, events

if TYPE_CHECKING:
    from mestore.lib.errors import Text

MOST = 100
UPDATING = "users.update.global"

_WORDS: dict[str, Text] = {
    "unknown": gettext_lazy("User not found."),
    "deleted": gettext_lazy("This account is deleted."),
}
_HIERARCHY: Text = hierarchy.NotAllowed.message


class UnknownAction(errors.Unprocessable):
    message = gettext_lazy("There is no such action.")


@dataclass(frozen=True, slots=True)
class Action:
    """A change that applies to many accounts alike.

    `columns` gives what is written; `concerns` says for which accounts that changes anything; `tell` records
    it, with the reason, and tells the owner, where the owner must know.
    """

    event: str
    right: str
    columns: Callable[[Mapping[str, Any]], dict[str, Any]]
    concerns: Callable[[User, Mapping[str, Any]], bool]
    data: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda _given: {}
    tell: Callable[[User, Actor, str], None] | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """One account that was left as it was, and why in a word and in a sentence."""

    user_id: UUID
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Result:
    """What became of each account. Those that needed no change count as successful and are `unchanged`."""

    action: str
    successful: list[UUID] = field(default_factory=list)
    unchanged: list[UUID] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)

    @property
    def total(self) -> int:
        return len(self.successful) + len(self.failed)


def _mark(column: str, value: bool) -> Action:
    return Action(
        events.USER_CONTACT_MARKED,
        UPDATING,
        columns=lambda _given: {column: value},
        concerns=lambda user, _given: getattr(user, column) is not value,
        data=lambda _given: {column: value},
    )


def _activity(active: bool) -> Action:
    return Action(
        events.USER_REACTIVATED if active else events.USER_DEACTIVATED,
        UPDATING,
        columns=lambda _given: {"is_active": active},
        concerns=lambda user, _given: user.is_active is not active,
    )


ACTIONS: dict[str, Action] = {
    "activate": _activity(True),
    "deactivate": _activity(False),
    "verify_email": _mark("email_verified", True),
    "unverify_email": _mark("email_verified", False),
    "verify": _mark("account_verified", True),
    "force_password_change": Action(
        events.PASSWORD_FLAGGED,
        UPDATING,
        columns=lambda _given: password_change.flag_columns(password_change.ASKED, timezone.now()),
        concerns=lambda user, _given: not user.force_password_change,
        tell=lambda user, by, reason: password_change.tell_flagged(
            user, password_change.ASKED, by=by, reason=reason
        ),
    ),
    "update_clearance": Action(
        events.USER_CLEARANCE_CHANGED,
        MANAGING,
        columns=lambda given: {"security_clearance_level": given["clearance"]},
        concerns=lambda user, given: user.security_clearance_level != given["clearance"],
        data=lambda given: {"to": given["clearance"]},
    ),
    "lock": Action(
        events.USER_LOCKED,
        MANAGING,
        columns=lambda _given: {"locked_until": timezone.now() + LOCK, "auth_epoch": F("auth_epoch") + 1},
        concerns=lambda _user, _given: True,
        data=lambda _given: {"hours": LOCK // dt.timedelta(hours=1)},
    ),
    "unlock": Action(
        events.USER_UNLOCKED,
        MANAGING,
        columns=lambda _given: {"locked_until": None},
        concerns=lambda user, _given: user.locked_until is not None,
    ),
}
"""Every action that is one statement. `reset_failed_attempts` and the second half of `unlock` go through
`lockout`, whose counters are on a connection of their own."""

LIFTING = frozenset({"reset_failed_attempts", "unlock"})
NAMES = frozenset({*ACTIONS, "reset_failed_attempts"})


def run(
    action: str,
    user_ids: Sequence[UUID],
    *,
    reason: str,
    by: Actor,
    parameters: Mapping[str, Any] | None = None,
    strictly: bool = False,
) -> Result:
    """Do `action` to each of `user_ids`; name each that was left out, with its reason.

    `parameters` holds `clearance` for update_clearance. `strictly`: only accounts with less clearance than
    the acting person's. Raises UnknownAction, ValueError for none or too many ids, and hierarchy.NotAllowed
    when the acting person may do this to nobody.
    """
    if action not in NAMES:
        raise UnknownAction
    wanted = list(dict.fromkeys(user_ids))
    if not 1 <= len(wanted) <= MOST:
        raise ValueError(f"between 1 and {MOST} accounts")
    given = parameters or {}
    with transaction.atomic():
        held = hierarchy.hold(by, wanted)
        rule = ACTIONS.get(action)
        hierarchy.demand_right(held.authority, rule.right if rule else MANAGING, by)
        result, chosen = Result(action), []
        for user_id in wanted:
            user = held.users.get(user_id)
            why = _obstacle(held.authority, user, action, given, strictly)
            if user is None or why:
                result.failed.append(_failed(user_id, why, by, user))
                continue
            result.successful.append(user_id)
            chosen.append(user)
        if rule is not None:
            _change(rule, chosen, given, result, reason, by)
    if action in LIFTING:
        for user in chosen:
            lockout.lift_account(user, reason=reason, by=by)
    return result


def _obstacle(
    authority: Authority,
    user: User | None,
    action: str,
    given: Mapping[str, Any],
    strictly: bool,
) -> str:
    if user is None:
        return "unknown"
    why = hierarchy.obstacle_over(authority, user, strictly=strictly)
    if not why and action == "update_clearance":
        why = hierarchy.obstacle(authority, user.role, given["clearance"], strictly=strictly)
    if why:
        return why
    return "deleted" if user.deleted_at is not None else ""


def _failed(user_id: UUID, why: str, by: Actor, user: User | None) -> Failed:
    if why not in {"unknown", "deleted"}:
        hierarchy.refused(why, by, user)
    return Failed(user_id, why, _(str(_WORDS.get(why, _HIERARCHY))))


def _change(
    rule: Action, users: list[User], given: Mapping[str, Any], result: Result, reason: str, by: Actor
) -> None:
    changing = [user for user in users if rule.concerns(user, given)]
    result.unchanged.extend(user.pk for user in users if user not in changing)
    if not changing:
        return
    ids = [user.pk for user in changing]
    User.objects.filter(pk__in=ids).update(**rule.columns(given), updated_at=timezone.now())
    if rule.tell is not None:
        for user in changing:
            rule.tell(user, by, reason)
        return
    data = {**rule.data(given), "reason": reason, "bulk": len(users)}
    audit.record_many(
        [
            audit.Entry(rule.event, by, ("user", str(pk)), data, None, str(pk))
            for pk in ids
        ]
    )  # fmt: skip
