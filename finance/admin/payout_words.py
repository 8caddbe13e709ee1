"""States and reasons of payouts as people read them in the console."""

from __future__ import annotations

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from finance.models import Payout
from finance.payout_rules import Reason
from finance.payout_screening import FOUND
from finance.payout_states import WORDS
from finance.states import PayoutState
from mestore.lib.console import State, display

MARKS = {
    PayoutState.SCREENED: State.WARNING,
    PayoutState.HELD: State.WARNING,
    PayoutState.APPROVED: State.GOOD,
    PayoutState.UNKNOWN: State.CRITICAL,
    PayoutState.PAID: State.GOOD,
    PayoutState.RETURNED: State.WARNING,
}
REASONS = {
    Reason.COOLING_OFF: gettext_lazy("the bank account cools off"),
    Reason.ADDRESS_CHANGED: gettext_lazy("the vendor's e-mail address changed a short while ago"),
    Reason.SHARED_ACCOUNT: gettext_lazy("another vendor has the same bank account"),
    Reason.FIRST_PAYOUT: gettext_lazy("the vendor's first payout"),
    Reason.NEW_ACCOUNT: gettext_lazy("the first payout to this account"),
    Reason.ABOVE_USUAL: gettext_lazy("more than three times the usual amount"),
    Reason.MANY_REFUNDS: gettext_lazy("many refunds in the last month"),
}


def state(payout: Payout) -> SafeString | str:
    """The state in a word with its mark."""
    found = PayoutState(payout.state)
    mark = MARKS.get(found)
    return display.state(mark, WORDS[found]) if mark else str(WORDS[found])


def reason(text: str) -> str:
    """Why a payout stands where it does: what screening found in words, anything else as it was written."""
    if not text.startswith(FOUND):
        return text
    words = [word.strip() for word in text.removeprefix(FOUND).split(",")]
    return "; ".join(str(REASONS[Reason(word)]) if word in set(Reason) else word for word in words if word)


def missing(count: int) -> SafeString | str:
    """How many people still have to agree."""
    if count == 0:
        return _("none")
    text = _("needs one more") if count == 1 else _("needs %(count)d more") % {"count": count}
    return display.state(State.WARNING, text)
