"""Console pages that change machine accounts: a form, one use case, and a new key shown once."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache

from mestore.lib import actor, errors, guard
from mestore.lib.actor import Actor
from sessions_security import clients
from sessions_security.client_admin import CHANGE, STEP_UP
from sessions_security.models import MachineClient

MAX_JWK_LENGTH = 2_000


class Networks(forms.CharField):
    """CIDR blocks, one per line."""

    widget = forms.Textarea(attrs={"rows": 4, "autocomplete": "off", "spellcheck": "false"})

    def clean(self, value: Any) -> list[str]:
        return str(super().clean(value)).split()


class PublicKey(forms.CharField):
    """A public key as JSON (JWK)."""

    widget = forms.Textarea(attrs={"rows": 5, "autocomplete": "off", "spellcheck": "false"})

    def clean(self, value: Any) -> dict[str, Any] | None:
        text = super().clean(value)
        if not text:
            return None
        try:
            return dict(json.loads(text))
        except (ValueError, TypeError, RecursionError):
            raise forms.ValidationError(clients.InvalidPublicKey.message) from None


def _networks() -> Networks:
    return Networks(
        label=gettext_lazy("Allowed networks"),
        max_length=2_500,
        help_text=gettext_lazy("CIDR blocks, one per line. It may call from these and from nowhere else."),
    )


def _bound() -> forms.BooleanField:
    return forms.BooleanField(label=gettext_lazy("Its tokens must be bound to a key (DPoP)"), required=False)


def _public_key(*, required: bool) -> PublicKey:
    return PublicKey(
        label=gettext_lazy("Public key (JWK)"),
        required=required,
        max_length=MAX_JWK_LENGTH,
        help_text=gettext_lazy("Ed25519 or P-256. Never the private key: that stays with the program."),
    )


class Change(forms.Form):
    """What one page asks, and what it then does; `carry_out` returns a key to be shown once, or nothing."""

    title: ClassVar[str | Promise] = ""
    effect: ClassVar[str | Promise] = ""
    verb: ClassVar[str | Promise] = gettext_lazy("Save")
    done: ClassVar[str | Promise] = gettext_lazy("The client was changed.")

    def __init__(self, data: Any = None, *, client: MachineClient) -> None:
        super().__init__(data)
        self.client = client

    def carry_out(self, by: Actor) -> str:
        raise NotImplementedError


class RotateForm(Change):
    """How long the former key goes on working."""

    title = gettext_lazy("New key for %(client)s")
    effect = gettext_lazy(
        "The new key is shown once, on the next page. With no overlap the former key and everything it "
        "opened end at once: for a key that leaked."
    )
    verb = gettext_lazy("Make a new key")
    hours = forms.IntegerField(
        label=gettext_lazy("The former key works for so many hours"), initial=24, min_value=0, max_value=720
    )

    def carry_out(self, by: Actor) -> str:
        return clients.rotate(self.client, by=by, overlap=timedelta(hours=self.cleaned_data["hours"]))


class NetworksForm(Change):
    """The networks that take the place of the present ones."""

    title = gettext_lazy("Networks of %(client)s")
    effect = gettext_lazy("They hold from the next request on, for what is open already as well.")
    networks = _networks()

    def __init__(self, data: Any = None, *, client: MachineClient) -> None:
        super().__init__(data, client=client)
        self.fields["networks"].initial = "\n".join(client.networks)

    def carry_out(self, by: Actor) -> str:
        clients.change_networks(self.client, self.cleaned_data["networks"], by=by)
        return ""


class MethodForm(Change):
    """How it signs in from now on."""

    title = gettext_lazy("How %(client)s signs in")
    effect = gettext_lazy(
        "What it has open ends at once. Signing with assertions voids its key; going back makes a new one."
    )
    method = forms.ChoiceField(label=gettext_lazy("Signs in with"), choices=MachineClient.Method.choices)
    requires_dpop = _bound()

    def __init__(self, data: Any = None, *, client: MachineClient) -> None:
        super().__init__(data, client=client)
        self.fields["method"].initial = client.method
        self.fields["requires_dpop"].initial = client.requires_dpop

    def carry_out(self, by: Actor) -> str:
        given = self.cleaned_data
        return clients.change_method(
            self.client, method=given["method"], requires_dpop=given["requires_dpop"], by=by
        )


class AddKeyForm(Change):
    """A public key and its id."""

    title = gettext_lazy("A public key for %(client)s")
    effect = gettext_lazy("Whoever has its private key can sign in as this client, from its networks.")
    verb = gettext_lazy("Add the key")
    kid = forms.CharField(label=gettext_lazy("Key id"), max_length=64)
    public_key = _public_key(required=True)

    def carry_out(self, by: Actor) -> str:
        clients.add_key(self.client, self.cleaned_data["public_key"], kid=self.cleaned_data["kid"], by=by)
        return ""


class RemoveKeyForm(Change):
    """Which of its public keys."""

    title = gettext_lazy("Withdraw a public key of %(client)s")
    effect = gettext_lazy("What the client has open ends; with another key it signs in again at once.")
    verb = gettext_lazy("Withdraw the key")
    kid = forms.ChoiceField(label=gettext_lazy("Key id"))

    def __init__(self, data: Any = None, *, client: MachineClient) -> None:
        super().__init__(data, client=client)
        kids = [key.kid for key in clients.live_keys(client)]
        self.fields["kid"].choices = [(kid, kid) for kid in kids]  # type: ignore[attr-defined]  # of the ChoiceField above

    def carry_out(self, by: Actor) -> str:
        clients.remove_key(self.client, self.cleaned_data["kid"], by=by)
        return ""


class CreateForm(forms.Form):
    """A new client: with a key of ours, or with a public key of its own."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=clients.MAX_NAME_LENGTH)
    networks = _networks()
    public_key = _public_key(required=False)
    kid = forms.CharField(
        label=gettext_lazy("Key id"),
        max_length=64,
        required=False,
        help_text=gettext_lazy("With a public key. Without one the client gets a key, shown once."),
    )
    requires_dpop = _bound()


@never_cache
def create(request: HttpRequest) -> HttpResponseBase:
    """Create a client; its key is on the answer, once."""
    _demand(request)
    form = CreateForm(request.POST if request.method == "POST" else None)
    back = reverse("admin:sessions_security_machineclient_changelist")
    refusal = None
    if form.is_valid():
        given = form.cleaned_data
        try:
            made = clients.create_with(
                given["name"],
                networks=given["networks"],
                public_jwk=given["public_key"],
                kid=given["kid"],
                requires_dpop=given["requires_dpop"],
                by=actor.of(request),
            )
            return _changed(request, made.client, made.key, _("The client was created."))
        except errors.MeStoreError as refused:
            refusal = refused
    effect = _("It may do nothing until permissions are granted to its account.")
    return _page(request, form, refusal, _("New client"), effect, _("Create"), back)


def changing(form_class: type[Change]) -> Callable[[HttpRequest, UUID], HttpResponseBase]:
    """Return the view that asks what `form_class` asks about one client, and carries it out."""

    @never_cache
    def view(request: HttpRequest, client_id: UUID) -> HttpResponseBase:
        _demand(request)
        client = MachineClient.objects.select_related("user").filter(pk=client_id).first()
        if client is None:
            raise Http404
        form = form_class(request.POST if request.method == "POST" else None, client=client)
        refusal = None
        if form.is_valid():
            try:
                return _changed(request, client, form.carry_out(actor.of(request)), str(form.done))
            except errors.MeStoreError as refused:
                refusal = refused
        title = str(form.title) % {"client": client}
        return _page(request, form, refusal, title, str(form.effect), str(form.verb), _address(client))

    return view


rotate = changing(RotateForm)
change_networks = changing(NetworksForm)
change_method = changing(MethodForm)
add_key = changing(AddKeyForm)
remove_key = changing(RemoveKeyForm)


def _demand(request: HttpRequest) -> None:
    if not request.user.has_perm(CHANGE):
        raise PermissionDenied
    guard.require(STEP_UP, request)


def _address(client: MachineClient) -> str:
    return reverse("admin:sessions_security_machineclient_change", args=[client.pk])


def _changed(request: HttpRequest, client: MachineClient, key: str, done: str) -> HttpResponseBase:
    """Show a key that there is, on this answer and nowhere else; otherwise go back to the client."""
    if not key:
        messages.success(request, done)
        return HttpResponseRedirect(_address(client))
    context = {
        **admin.site.each_context(request),
        "title": _("Key of %(client)s") % {"client": client},
        "client": client,
        "key": key,
        "back": _address(client),
    }
    return TemplateResponse(request, "console/client_key.html", context)


def _page(
    request: HttpRequest,
    form: forms.Form,
    refusal: errors.MeStoreError | None,
    title: str,
    effect: str,
    verb: str,
    back: str,
) -> HttpResponseBase:
    if refusal is not None:
        form.add_error(None, str(refusal.message))
    status = refusal.status if refusal is not None else 400 if form.is_bound else 200
    context = {
        **admin.site.each_context(request),
        "title": title,
        "summary": effect,
        "form": form,
        "verb": verb,
        "back": back,
    }
    return TemplateResponse(request, "console/client_form.html", context, status=status)
