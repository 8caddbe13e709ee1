"""What the console does with accounts: each action with what it means, as the page before it says."""

from __future__ import annotations

from django.utils.translation import gettext_lazy, ngettext

from accounts import (
    account_changes,
    administration,
    deletion,
    hierarchy,
    lockout,
    password_reset,
    recovery_approval,
    selectors,
    suspension,
)
from accounts.models import LockoutCounter, User
from mestore.lib.actor import Actor
from mestore.lib.console import ReasonAction


def unlock(user: User, *, reason: str, by: Actor) -> None:
    """End every lock of one account and of its factors, whoever or whatever made it.

    Raises as account_changes.unlock does, which asks who may.
    """
    account_changes.unlock(user.pk, reason=reason, by=by)
    lockout.lift_account(user, reason=reason, by=by)
    for method in suspension.suspended(user):
        suspension.resume(user, method, reason=reason, by=by)


def lift(counter: LockoutCounter, *, reason: str, by: Actor) -> None:
    """End one lock or count, unless it guards an account of the staff that `by` does not stand above: more
    guesses at that account are not theirs to give away. Raises hierarchy.NotAllowed.
    """
    owner = selectors.staff_behind(counter)
    if owner is not None:
        hierarchy.demand_over(hierarchy.authority_of(by), owner, by)
    lockout.lift(counter, reason=reason, by=by)


DEACTIVATE = ReasonAction(
    name="deactivate",
    verb=gettext_lazy("Deactivate"),
    question=lambda count: ngettext("Deactivate %d account?", "Deactivate %d accounts?", count) % count,
    effect=gettext_lazy(
        "The account is closed and everything it is signed in with ends at once: browsers, tokens, programs."
    ),
    undo=gettext_lazy("Yes: Reactivate opens it again. Sessions that ended stay ended."),
    done=lambda count: ngettext("%d account deactivated.", "%d accounts deactivated.", count) % count,
    permission="accounts.change_user",
    run=administration.deactivate,
    offered=lambda user: user.is_active,
    step_up="users.suspend",
)
REACTIVATE = ReasonAction(
    name="reactivate",
    verb=gettext_lazy("Reactivate"),
    question=lambda count: ngettext("Reactivate %d account?", "Reactivate %d accounts?", count) % count,
    effect=gettext_lazy("The account may sign in again, with the password and factors it had."),
    undo=gettext_lazy("Yes: Deactivate closes it again."),
    done=lambda count: ngettext("%d account reactivated.", "%d accounts reactivated.", count) % count,
    permission="accounts.change_user",
    run=administration.reactivate,
    offered=lambda user: not user.is_active and user.deleted_at is None,
)

RESTORE = ReasonAction(
    name="restore",
    verb=gettext_lazy("Restore"),
    question=lambda count: ngettext("Restore %d account?", "Restore %d accounts?", count) % count,
    effect=gettext_lazy("The deleted account may sign in again, with the password and factors it had."),
    undo=gettext_lazy("Yes: it can be deleted again."),
    done=lambda count: ngettext("%d account restored.", "%d accounts restored.", count) % count,
    permission=deletion.DELETING,
    run=deletion.restore,
    offered=lambda user: user.deleted_at is not None,
)
DELETE = ReasonAction(
    name="delete",
    verb=gettext_lazy("Delete"),
    question=lambda count: ngettext("Delete %d account?", "Delete %d accounts?", count) % count,
    effect=gettext_lazy(
        "The account is closed and hidden, and everything it is signed in with ends at once."
    ),
    undo=gettext_lazy("Yes: Restore brings it back."),
    done=lambda count: ngettext("%d account deleted.", "%d accounts deleted.", count) % count,
    permission=deletion.DELETING,
    run=deletion.delete,
    offered=lambda user: user.deleted_at is None,
    step_up="users.suspend",
)
UNLOCK = ReasonAction(
    name="unlock",
    verb=gettext_lazy("Unlock"),
    question=lambda count: ngettext("Unlock %d account?", "Unlock %d accounts?", count) % count,
    effect=gettext_lazy(
        "Failed attempts are forgotten, suspended factors count again, and a lock by an administrator ends."
    ),
    undo=gettext_lazy("New failures lock it again."),
    done=lambda count: ngettext("%d account unlocked.", "%d accounts unlocked.", count) % count,
    permission="accounts.change_user",
    run=unlock,
    offered=lambda user: user.deleted_at is None,
)
ASK_RESET = ReasonAction(
    name="factor_reset",
    verb=gettext_lazy("Factors lost"),
    question=lambda count: (
        ngettext("Ask to let %d person back in?", "Ask to let %d people back in?", count) % count
    ),
    effect=gettext_lazy(
        "A second administrator has to approve. Then the owner gets a code by mail, and after a waiting time"
        " that they can stop, all factors are removed."
    ),
    undo=gettext_lazy("Yes, until the waiting time is over."),
    done=lambda count: (
        ngettext("%d request waits for a second person.", "%d requests wait for a second person.", count)
        % count
    ),
    permission="accounts.change_user",
    run=recovery_approval.ask,
    offered=lambda user: user.deleted_at is None and getattr(user, "has_factor", True),
    step_up="users.factor_reset",
)
START_RESET = ReasonAction(
    name="password_reset",
    verb=gettext_lazy("Send a password link"),
    question=lambda count: ngettext("Send %d password link?", "Send %d password links?", count) % count,
    effect=gettext_lazy(
        "The owner gets a link by mail to choose a new password. The old one goes on working."
    ),
    undo=gettext_lazy("The link ends by itself within the hour."),
    done=lambda count: ngettext("%d link sent.", "%d links sent.", count) % count,
    permission="accounts.change_user",
    run=password_reset.start,
    offered=lambda user: user.deleted_at is None and bool(user.email_key),
)

ALL = (DEACTIVATE, REACTIVATE, UNLOCK, START_RESET, ASK_RESET, DELETE, RESTORE)
