"""What the staff does to an order from its page: move it on, stop it, give its money back."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.utils.translation import gettext_lazy, ngettext

from finance import money, order_changes, refund_claims, refund_requests
from finance.models import Order
from finance.money import MoneyError
from finance.order_changes import Paid, RefundState, Shipment
from finance.refund_requests import AmountUnreadable, SecondPersonAsked
from finance.refunds import Wish
from finance.states import ORDER_TRANSITIONS, OrderStatus
from mestore.lib.actor import Actor
from mestore.lib.console import ReasonAction
from mestore.lib.console.actions import ReasonForm

CHANGE: Final = "finance.change_order"
REFUND: Final = "finance.change_refund"
STEP_UP: Final = "refund.post"
_PLAIN: Final = {"autocomplete": "off", "spellcheck": "false"}


class PaidForm(ReasonForm):
    """The payment that confirms an order."""

    provider = forms.RegexField(
        r"\A[a-z0-9][a-z0-9_-]{0,31}\Z", label=gettext_lazy("Provider"), strip=True,
        widget=forms.TextInput(attrs=_PLAIN),
        help_text=gettext_lazy("Who has the buyer's money: lower-case letters, digits and hyphens."),
    )  # fmt: skip
    reference = forms.CharField(
        label=gettext_lazy("Reference of the payment"), max_length=128, strip=True,
        widget=forms.TextInput(attrs=_PLAIN),
    )  # fmt: skip


class ShippedForm(ReasonForm):
    """How the parcel can be followed."""

    tracking_number = forms.CharField(
        label=gettext_lazy("Tracking number"), max_length=64, strip=True,
        widget=forms.TextInput(attrs=_PLAIN),
    )  # fmt: skip
    courier = forms.CharField(
        label=gettext_lazy("Courier"), max_length=64, strip=True, required=False,
        widget=forms.TextInput(attrs=_PLAIN),
    )  # fmt: skip


class RefundForm(ReasonForm):
    """How much goes back."""

    amount = forms.CharField(
        label=gettext_lazy("Amount"), max_length=20, strip=True, required=False,
        widget=forms.TextInput(attrs={**_PLAIN, "inputmode": "decimal"}),
        help_text=gettext_lazy(
            "In the order's currency, with a point before the decimals. Empty: all that remains."
        ),
    )  # fmt: skip


def _leads_to(status: OrderStatus) -> Any:
    def offered(order: Order) -> bool:
        return status in ORDER_TRANSITIONS.get(order.status, ())

    return offered


def _confirm(order: Order, *, reason: str, provider: str, reference: str, by: Actor) -> None:
    order_changes.change(order.pk, OrderStatus.CONFIRMED, note=reason, paid=Paid(provider, reference), by=by)


def _process(order: Order, *, reason: str, by: Actor) -> None:
    order_changes.change(order.pk, OrderStatus.PROCESSING, note=reason, by=by)


def _ship(order: Order, *, reason: str, tracking_number: str, courier: str, by: Actor) -> None:
    order_changes.change(
        order.pk, OrderStatus.SHIPPED, note=reason, shipment=Shipment(tracking_number, courier), by=by
    )


def _deliver(order: Order, *, reason: str, by: Actor) -> None:
    order_changes.change(order.pk, OrderStatus.DELIVERED, note=reason, by=by)


def _cancel(order: Order, *, reason: str, by: Actor) -> None:
    order_changes.cancel(order.pk, reason=reason, refund_requested=False, by=by)


def _cancel_and_refund(order: Order, *, reason: str, by: Actor) -> None:
    done = order_changes.cancel(order.pk, reason=reason, refund_requested=True, by=by)
    if done.refund_status == RefundState.PENDING:
        raise SecondPersonAsked


def _refund(order: Order, *, reason: str, amount: str, by: Actor) -> None:
    minor = None
    if amount:
        try:
            minor = money.parse(amount, order.currency).minor
        except MoneyError as error:
            raise AmountUnreadable from error
    wish = Wish(order_id=order.pk, reason=reason, amount=minor, currency=order.currency)
    if refund_requests.post_or_ask(wish, by=by) is None:
        raise SecondPersonAsked


def _give_up(order: Order, *, reason: str, by: Actor) -> None:
    refund_claims.ask_to_give_up(order.pk, reason=reason, by=by)


def _done(count: int) -> str:
    return ngettext("%d order was changed.", "%d orders were changed.", count) % count


CONFIRM = ReasonAction(
    name="confirm",
    verb=gettext_lazy("Confirm"),
    question=lambda count: ngettext("Confirm %d order?", "Confirm %d orders?", count) % count,
    effect=gettext_lazy(
        "The payment counts as approved: the sale and its commissions are posted at today's rules."
    ),
    undo=gettext_lazy("No. Cancelling it takes the sale back with entries of its own."),
    done=_done,
    permission=CHANGE,
    run=_confirm,
    offered=_leads_to(OrderStatus.CONFIRMED),
    form=PaidForm,
)
PROCESS = ReasonAction(
    name="process",
    verb=gettext_lazy("Start processing"),
    question=lambda count: ngettext("Process %d order?", "Process %d orders?", count) % count,
    effect=gettext_lazy("The order is being prepared; the storefront is told."),
    undo=gettext_lazy("No. It can be cancelled."),
    done=_done,
    permission=CHANGE,
    run=_process,
    offered=_leads_to(OrderStatus.PROCESSING),
)
SHIP = ReasonAction(
    name="ship",
    verb=gettext_lazy("Mark shipped"),
    question=lambda count: ngettext("Ship %d order?", "Ship %d orders?", count) % count,
    effect=gettext_lazy("The buyer can follow the parcel and can no longer cancel; the storefront is told."),
    undo=gettext_lazy("No. It can be cancelled by the staff."),
    done=_done,
    permission=CHANGE,
    run=_ship,
    offered=_leads_to(OrderStatus.SHIPPED),
    form=ShippedForm,
)
DELIVER = ReasonAction(
    name="deliver",
    verb=gettext_lazy("Mark delivered"),
    question=lambda count: ngettext("Mark %d order delivered?", "Mark %d orders delivered?", count) % count,
    effect=gettext_lazy("The order has arrived; the hold before its settlement may begin here."),
    undo=gettext_lazy("No. It can be refunded."),
    done=_done,
    permission=CHANGE,
    run=_deliver,
    offered=_leads_to(OrderStatus.DELIVERED),
)
CANCEL = ReasonAction(
    name="cancel",
    verb=gettext_lazy("Cancel without refund"),
    question=lambda count: (
        ngettext("Cancel %d order, no money back?", "Cancel %d orders, no money back?", count) % count
    ),
    effect=gettext_lazy("The order stops. What was paid for it stays where it is until it is refunded."),
    undo=gettext_lazy("No."),
    done=_done,
    permission=CHANGE,
    run=_cancel,
    offered=_leads_to(OrderStatus.CANCELLED),
)
CANCEL_AND_REFUND = ReasonAction(
    name="cancel_and_refund",
    verb=gettext_lazy("Cancel and refund"),
    question=lambda count: (
        ngettext("Cancel and refund %d order?", "Cancel and refund %d orders?", count) % count
    ),
    effect=gettext_lazy(
        "The order stops, and all that was paid goes back: from each vendor as the order's page shows. Above "
        "what one person decides alone, a second one is asked."
    ),
    undo=gettext_lazy("No. A refund that its provider gives up is still due."),
    done=_done,
    permission=REFUND,
    run=_cancel_and_refund,
    offered=_leads_to(OrderStatus.CANCELLED),
    step_up=STEP_UP,
)
REFUND_ORDER = ReasonAction(
    name="refund",
    verb=gettext_lazy("Refund"),
    question=lambda count: ngettext("Refund %d order?", "Refund %d orders?", count) % count,
    effect=gettext_lazy(
        "Money goes back to the buyer, from each vendor in proportion to what the order's page shows. Above "
        "what one person decides alone, a second one is asked."
    ),
    undo=gettext_lazy("No. A refund that its provider gives up is still due."),
    done=lambda count: ngettext("%d refund was posted.", "%d refunds were posted.", count) % count,
    permission=REFUND,
    run=_refund,
    offered=lambda order: order.status != OrderStatus.PENDING and order.refunded_minor < order.total_minor,
    step_up=STEP_UP,
    form=RefundForm,
)
GIVE_UP_CLAIM = ReasonAction(
    name="give_up_claim",
    verb=gettext_lazy("Give up the buyer's claim"),
    question=lambda count: (
        ngettext("Give up what %d buyer is to get?", "Give up what %d buyers are to get?", count) % count
    ),
    effect=gettext_lazy(
        "A second person is asked. With their yes, what is still to be refunded does not go back: it is the "
        "vendors' again."
    ),
    undo=gettext_lazy("Yes: the order can be refunded again."),
    done=lambda count: (
        ngettext("A second person was asked about %d order.", "A second person was asked about %d orders.",
                 count) % count
    ),
    permission=REFUND,
    run=_give_up,
    offered=lambda order: order.refund_due_minor > 0,
    step_up=STEP_UP,
)  # fmt: skip
ORDER_ACTIONS = (
    CONFIRM, PROCESS, SHIP, DELIVER, REFUND_ORDER, CANCEL_AND_REFUND, CANCEL, GIVE_UP_CLAIM,
)  # fmt: skip
