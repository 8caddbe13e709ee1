"""The console's pages about events for the storefront: where they go, and what became of each."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts import grants
from finance import endpoints, outbound
from finance.models import EventDelivery, WebhookEndpoint
from finance.states import DeliveryState
from mestore.lib.actor import Actor
from mestore.lib.console import (
    ConsoleModelAdmin,
    Ordering,
    ReasonAction,
    SearchField,
    State,
    Table,
    choice_filter,
    display,
)

for _model in ("eventdelivery", "webhookendpoint"):
    grants.register_model_permission(
        f"finance.{_model}", view="payments.read.read_only", change="payments.manage.global"
    )

DELIVERY_WORDS = {
    DeliveryState.WAITING: (State.UNKNOWN, gettext_lazy("waiting")),
    DeliveryState.DELIVERED: (State.GOOD, gettext_lazy("taken")),
    DeliveryState.FAILED: (State.CRITICAL, gettext_lazy("not taken")),
}


def _replay(delivery: EventDelivery, *, reason: str, by: Actor) -> None:
    outbound.replay(delivery, reason=reason, by=by)


def _close(endpoint: WebhookEndpoint, *, reason: str, by: Actor) -> None:
    endpoints.close(endpoint, reason=reason, by=by)


def _open(endpoint: WebhookEndpoint, *, reason: str, by: Actor) -> None:
    endpoints.reopen(endpoint, reason=reason, by=by)


REPLAY = ReasonAction(
    name="replay",
    verb=gettext_lazy("Send again"),
    question=lambda count: ngettext("Send %d event again?", "Send %d events again?", count) % count,
    effect=gettext_lazy(
        "The same event with the same id is sent again; a receiver that has it counts it once."
    ),
    undo=gettext_lazy("No: what was sent is there."),
    done=lambda count: ngettext("%d event is on its way.", "%d events are on their way.", count) % count,
    permission="finance.change_eventdelivery",
    run=_replay,
    offered=lambda delivery: delivery.state != DeliveryState.WAITING,
)
CLOSE = ReasonAction(
    name="close",
    verb=gettext_lazy("Close"),
    question=lambda count: ngettext("Close %d address?", "Close %d addresses?", count) % count,
    effect=gettext_lazy(
        "No event is sent there any more; what waits is given up and can be sent again later."
    ),
    undo=gettext_lazy("Yes: it can be opened again."),
    done=lambda count: ngettext("%d address is closed.", "%d addresses are closed.", count) % count,
    permission="finance.change_webhookendpoint",
    run=_close,
    offered=lambda endpoint: endpoint.is_active,
    step_up="clients.manage",
)
OPEN = ReasonAction(
    name="open",
    verb=gettext_lazy("Open"),
    question=lambda count: ngettext("Open %d address?", "Open %d addresses?", count) % count,
    effect=gettext_lazy("Events that happen from now on are sent there."),
    undo=gettext_lazy("Yes: it can be closed again."),
    done=lambda count: ngettext("%d address is open.", "%d addresses are open.", count) % count,
    permission="finance.change_webhookendpoint",
    run=_open,
    offered=lambda endpoint: not endpoint.is_active,
    step_up="clients.manage",
)


@admin.register(EventDelivery)
class EventDeliveryAdmin(ConsoleModelAdmin):
    """What became of each event at each address, newest first."""

    group, position = "money", 60
    label = gettext_lazy("Events for the storefront")
    summary = gettext_lazy(
        "What the storefront was told of orders, refunds and payouts, and whether it took it."
    )
    empty = gettext_lazy("Events appear here once an address is entered with `manage.py webhook_endpoints`.")
    list_display = ("what", "state_mark", "address", "tries", "happened")
    list_select_related = ("event", "endpoint")
    numeric_columns = ("tries",)
    list_filter = (
        choice_filter(
            parameter="state",
            title=gettext_lazy("State"),
            choices=[(state.value, word) for state, (_kind, word) in DELIVERY_WORDS.items()],
        ),
    )
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-id",)),)
    search_in = (SearchField("event_id"), SearchField("id"))
    search_help_text = gettext_lazy("The id of the event")
    reason_actions = (REPLAY,)
    labels = {
        "last_status": gettext_lazy("last answer"),
        "last_error": gettext_lazy("last error"),
    }
    sections = (
        (gettext_lazy("Event"), ("what", "event_number", "happened")),
        (
            gettext_lazy("Delivery"),
            (
                "state_mark",
                "address",
                "tries",
                "last_at",
                "last_status",
                "last_error",
                "next_at",
                "delivered_at",
            ),
        ),
    )

    def name_of(self, row: EventDelivery) -> str:
        return row.event.type

    def state_of(self, row: EventDelivery) -> SafeString:
        return self.state_mark(row)

    @admin.display(description=gettext_lazy("event"))
    def what(self, delivery: EventDelivery) -> SafeString:
        event = delivery.event
        return display.two_lines(event.type, f"{event.subject_type} {event.subject_id}")

    @admin.display(description=gettext_lazy("id"))
    def event_number(self, delivery: EventDelivery) -> SafeString:
        return display.code(str(delivery.event_id))

    @admin.display(description=gettext_lazy("state"))
    def state_mark(self, delivery: EventDelivery) -> SafeString:
        kind, word = DELIVERY_WORDS[DeliveryState(delivery.state)]
        return display.state(kind, word)

    @admin.display(description=gettext_lazy("address"))
    def address(self, delivery: EventDelivery) -> str:
        return delivery.endpoint.name

    @admin.display(description=gettext_lazy("attempts"))
    def tries(self, delivery: EventDelivery) -> int:
        return delivery.attempts

    @admin.display(description=gettext_lazy("happened"))
    def happened(self, delivery: EventDelivery) -> SafeString:
        return display.moment(delivery.event.created_at)

    def tables(self, request: HttpRequest, row: EventDelivery) -> Iterable[Table]:
        """The bytes that are signed."""
        return (
            Table(
                title=_("What is sent"),
                headers=(_("Body"),),
                rows=[(display.code(row.event.body),)],
                empty="",
            ),
        )


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(ConsoleModelAdmin):
    """Where events go. Secrets are made and shown by the command alone."""

    group, position = "money", 61
    label = gettext_lazy("Addresses for events")
    summary = gettext_lazy("Where the storefront's events are sent, signed with a secret that no page shows.")
    empty = gettext_lazy("`manage.py webhook_endpoints create` enters one and prints its secret, once.")
    secret_fields = ("secret", "former_secret")
    list_display = ("name", "state_mark", "url", "wanted", "overlap")
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-id",)),)
    search_in = (SearchField("name"), SearchField("id"))
    search_help_text = gettext_lazy("The whole name")
    reason_actions = (CLOSE, OPEN)
    sections = ((gettext_lazy("Address"), ("name", "state_mark", "url", "wanted", "overlap", "created_at")),)

    def state_of(self, row: WebhookEndpoint) -> SafeString:
        return self.state_mark(row)

    @admin.display(description=gettext_lazy("state"))
    def state_mark(self, endpoint: WebhookEndpoint) -> SafeString:
        if endpoint.is_active:
            return display.state(State.GOOD, _("open"))
        return display.state(State.CRITICAL, _("closed"))

    @admin.display(description=gettext_lazy("events"))
    def wanted(self, endpoint: WebhookEndpoint) -> str:
        return ", ".join(endpoint.event_types) or _("all")

    @admin.display(description=gettext_lazy("former secret signs until"))
    def overlap(self, endpoint: WebhookEndpoint) -> SafeString | str:
        return display.moment(endpoint.former_until) if endpoint.former_until else _("it does not")
