"""The console's pages about machine accounts: how they sign in, from where, what they may do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts import grants
from mestore.lib.actor import Actor
from mestore.lib.console import ConsoleModelAdmin, Ordering, ReasonAction, SearchField, State, Table, display
from sessions_security import client_listing, clients
from sessions_security.models import MachineClient

CHANGE = "sessions_security.change_machineclient"
STEP_UP = "clients.manage"

grants.register_model_permission(
    "sessions_security.machineclient", view="settings.read.read_only", change="settings.configure.system"
)


def _revoke(client: MachineClient, *, reason: str, by: Actor) -> None:
    clients.revoke(client, reason=reason, by=by)


REVOKE = ReasonAction(
    name="revoke",
    verb=gettext_lazy("Revoke"),
    question=lambda count: ngettext("Revoke %d client?", "Revoke %d clients?", count) % count,
    effect=gettext_lazy("Its keys stop working and what it has open ends with the next request."),
    undo=gettext_lazy("No. A new client takes its place."),
    done=lambda count: ngettext("%d client revoked.", "%d clients revoked.", count) % count,
    permission=CHANGE,
    run=_revoke,
    offered=lambda client: client.is_active,
    step_up=STEP_UP,
)


@admin.register(MachineClient)
class MachineClientAdmin(ConsoleModelAdmin):
    """Programs that may ask for tokens."""

    group, position = "system", 10
    summary = gettext_lazy("Programs that may ask for tokens, how they sign in, and from where.")
    empty = gettext_lazy("A machine account appears here when somebody creates one.")
    secret_fields = ("key_hash", "previous_key_hash")
    list_display = ("client_id", "state", "signs_in_with", "allowed_from", "last_sign_in", "overlap")
    list_select_related = ("user",)
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-pk",)),)
    search_in = (SearchField("client_id"), SearchField("id"))
    search_help_text = gettext_lazy("The whole client id")
    reason_actions = (REVOKE,)
    sections = (
        (
            gettext_lazy("Client"),
            ("client_id", "account", "signs_in_with", "allowed_from", "created_at", "last_sign_in"),
        ),
        (gettext_lazy("Key"), ("rotated_at", "overlap")),
    )

    def state_of(self, row: MachineClient) -> SafeString:
        return self.state(row)

    @admin.display(description=gettext_lazy("state"))
    def state(self, client: MachineClient) -> SafeString:
        if client.is_active and client.user.is_active:
            return display.state(State.GOOD, _("active"))
        return display.state(State.CRITICAL, _("deactivated"))

    @admin.display(description=gettext_lazy("signs in with"))
    def signs_in_with(self, client: MachineClient) -> str:
        method = str(client.get_method_display())
        return _("%(method)s, bound tokens") % {"method": method} if client.requires_dpop else method

    @admin.display(description=gettext_lazy("allowed from"))
    def allowed_from(self, client: MachineClient) -> str:
        return ", ".join(client.networks) or _("nowhere")

    @admin.display(description=gettext_lazy("last sign-in"))
    def last_sign_in(self, client: MachineClient) -> SafeString | str:
        return display.moment(client.user.last_login) if client.user.last_login else _("never")

    @admin.display(description=gettext_lazy("former key works until"))
    def overlap(self, client: MachineClient) -> SafeString | str:
        until = client.previous_key_until
        return display.moment(until) if until and until > timezone.now() else _("it does not")

    @admin.display(description=gettext_lazy("account"))
    def account(self, client: MachineClient) -> SafeString:
        return display.link(reverse("admin:accounts_user_change", args=[client.user_id]), client.user)

    def tables(self, request: HttpRequest, row: MachineClient) -> Iterable[Table]:  # noqa: ARG002  # the base's
        """What it signs with and what it may do; a machine's permissions are its grants, and only those."""
        listed = client_listing.one(row)
        return (
            Table(
                title=_("Public keys"),
                headers=(_("Key id"),),
                rows=[(display.code(kid),) for kid in listed.kids],
                empty=_("None is registered."),
            ),
            Table(
                title=_("What it may do"),
                headers=(_("Permission"),),
                rows=[(display.code(name),) for name in listed.permissions],
                empty=_("Nothing was granted to it."),
            ),
        )

    def links(self, request: HttpRequest, row: MachineClient) -> Iterable[tuple[str, str]]:
        """What may be changed about a client that is not closed."""
        if not row.is_active or not request.user.has_perm(CHANGE):
            return ()
        pages: list[tuple[Any, str]] = [
            (_("Change networks"), "console-client-networks"),
            (_("Change how it signs in"), "console-client-method"),
            (_("Add a public key"), "console-client-add-key"),
            (_("Withdraw a public key"), "console-client-remove-key"),
        ]
        if row.method == MachineClient.Method.KEY:
            pages.insert(0, (_("New key"), "console-client-rotate"))
        return [(str(verb), reverse(name, args=[row.pk])) for verb, name in pages]

    def list_links(self, request: HttpRequest) -> Iterable[tuple[str, str]]:
        """Where a client is created."""
        if not request.user.has_perm(CHANGE):
            return ()
        return [(_("New client"), reverse("console-client-create"))]
