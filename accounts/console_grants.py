"""Console pages about grants that begin something: giving a permission, beginning a review, its CSV."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import access_review, conditions, delegation, exports
from accounts.models import AccessReview, Grant, Permission, User
from mestore.lib import actor, errors, guard
from mestore.lib.console import ReasonAction, actions
from mestore.lib.http import attachment

_FIELD_OF = {"allowed_hours": "hours_from", "allowed_ips": "networks", "allowed_departments": "departments"}
_WRONG = {
    "allowed_hours": gettext_lazy("Give both ends of the hours, as 08:00 and 18:00, and not the same."),
    "allowed_ips": gettext_lazy("Give up to fifty networks, as 10.0.0.0/8 or 2001:db8::/32."),
    "allowed_departments": gettext_lazy("Give up to fifty departments of at most 64 characters."),
}


def _clock(label: Any, hint: Any) -> forms.CharField:
    return forms.CharField(
        label=label,
        required=False,
        max_length=5,
        help_text=hint,
        widget=forms.TextInput(attrs={"type": "time", "autocomplete": "off"}),
    )


def _lines(label: Any, hint: Any) -> forms.CharField:
    return forms.CharField(
        label=label,
        required=False,
        max_length=4_000,
        help_text=hint,
        widget=forms.Textarea(attrs={"rows": 2}),
    )


START = ReasonAction(
    name="start",
    verb=gettext_lazy("Begin"),
    question=lambda _count: _("Begin an access review?"),
    effect=gettext_lazy(
        "All grants in force are listed with when they were last used, for you to decide about."
    ),
    undo=gettext_lazy("It stays open until every grant is decided and somebody finishes it."),
    done=lambda _count: _("The review began."),
    permission="accounts.change_accessreview",
    run=access_review.start,
)


DAYS = (
    (1, gettext_lazy("Monday")), (2, gettext_lazy("Tuesday")), (3, gettext_lazy("Wednesday")),
    (4, gettext_lazy("Thursday")), (5, gettext_lazy("Friday")), (6, gettext_lazy("Saturday")),
    (7, gettext_lazy("Sunday")),
)  # fmt: skip


class GiveForm(forms.Form):
    """Which permission, for how long, under which conditions, and why."""

    permission = forms.ChoiceField(label=gettext_lazy("Permission"))
    days = forms.IntegerField(
        label=gettext_lazy("For how many days"),
        required=False,
        min_value=1,
        max_value=3_650,
        help_text=gettext_lazy("Nothing: until it is revoked."),
    )
    hours_from = _clock(
        gettext_lazy("Only from"), gettext_lazy("As 08:00, Bogotá time. Nothing: at any hour.")
    )
    hours_to = _clock(
        gettext_lazy("until"), gettext_lazy("As 18:00. An end before the beginning goes over midnight.")
    )
    weekdays = forms.TypedMultipleChoiceField(
        label=gettext_lazy("Only on"),
        required=False,
        choices=DAYS,
        coerce=int,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("Nothing: every day. With hours only."),
    )
    networks = _lines(
        gettext_lazy("Only from the networks"),
        gettext_lazy("One a line, as 10.0.0.0/8. Nothing: from anywhere."),
    )
    departments = _lines(
        gettext_lazy("Only for the departments"),
        gettext_lazy("One a line. Nothing: whatever the department."),
    )
    reason = actions.ReasonForm.base_fields["reason"]

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        names = Permission.objects.order_by("name").values_list("name", flat=True)
        self.fields["permission"].choices = [(name, name) for name in names]  # type: ignore[attr-defined]  # of the ChoiceField above

    def clean(self) -> dict[str, Any]:
        """Add `conditions`, as `accounts.conditions` keeps them; what has no meaning is said at its field."""
        given: dict[str, Any] = super().clean() or self.cleaned_data
        try:
            given["conditions"] = conditions.check(_conditions(given)) or None
        except conditions.BadCondition as error:
            part = str(error)
            self.add_error(_FIELD_OF.get(part), _WRONG.get(part, _("These conditions have no meaning.")))
        return given


def give(request: HttpRequest, user_id: UUID) -> HttpResponseBase:
    """Give one permission; one that can do much harm waits for a second person."""
    _demand(request, delegation.GRANTING)
    user = User.objects.filter(pk=user_id).first()
    if user is None:
        raise Http404
    guard.require("permissions.grant", request)
    form = GiveForm(request.POST if request.method == "POST" else None)
    status = 400 if form.is_bound else 200
    if form.is_valid():
        try:
            return _given(request, user, form.cleaned_data)
        except errors.MeStoreError as refused:
            form.add_error(None, str(refused.message))
            status = refused.status
    context = {
        **admin.site.each_context(request),
        "title": _("Give %(user)s a permission") % {"user": user},
        "summary": _("You can give what you hold yourself, to people below you."),
        "form": form,
        "back": reverse("admin:accounts_user_change", args=[user.pk]),
    }
    return TemplateResponse(request, "console/grant_give.html", context, status=status)


def start_review(request: HttpRequest) -> HttpResponseBase:
    """Ask, then take the picture of all grants in force."""
    _demand(request, START.permission)
    back = (_("Access reviews"), reverse("admin:accounts_accessreview_changelist"))
    form = actions.ReasonForm(request.POST if request.method == "POST" else None)
    status = None
    if form.is_valid():
        try:
            review = access_review.start(by=actor.of(request))
            messages.success(request, START.done(1))
            return HttpResponseRedirect(reverse("admin:accounts_accessreview_change", args=[review.pk]))
        except errors.MeStoreError as refused:
            form.add_error(None, str(refused.message))
            status = refused.status
    return actions.ask(request, START, rows=[], form=form, site=admin.site, back=back, status=status)


def review_csv(request: HttpRequest, review_id: UUID) -> HttpResponseBase:
    """A review as a file: asked for by one, approved by another, then downloaded once."""
    _demand(request, START.permission)
    review = AccessReview.objects.filter(pk=review_id).first()
    if review is None:
        raise Http404
    by = actor.of(request)
    here = reverse("console-review-csv", args=[review.pk])
    asked = exports.standing(review, by=by)
    form = actions.ReasonForm(request.POST if request.method == "POST" and asked is None else None)
    if request.method == "POST" and (asked is not None or form.is_valid()):
        reason = form.cleaned_data["reason"] if asked is None else ""
        taken = exports.take_access_review(review, reason=reason, by=by)
        if isinstance(taken, exports.File):
            return attachment(taken.name, taken.content)
        messages.warning(request, _("This waits for a second person to approve it, for 24 hours."))
        return HttpResponseRedirect(here)
    context = {
        **admin.site.each_context(request),
        "title": _("Download the review"),
        "summary": _("A file with many people's data leaves only when a second person agrees, and once."),
        "asked": asked,
        "waits": asked is not None and asked.waits(),
        "form": form,
        "back": reverse("admin:accounts_accessreview_change", args=[review.pk]),
    }
    return TemplateResponse(request, "console/export.html", context, status=400 if form.errors else 200)


def _given(request: HttpRequest, user: User, asked: dict[str, Any]) -> HttpResponse:
    expires = timezone.now() + dt.timedelta(days=asked["days"]) if asked["days"] else None
    made = delegation.give(
        user,
        asked["permission"],
        by=actor.of(request),
        reason=asked["reason"],
        expires_at=expires,
        given=asked["conditions"],
    )
    if isinstance(made, Grant):
        messages.success(request, _("The permission was given."))
        return HttpResponseRedirect(reverse("admin:accounts_grant_change", args=[made.pk]))
    messages.warning(request, _("This waits for a second person to approve it, for 24 hours."))
    return HttpResponseRedirect(reverse("admin:accounts_approvalrequest_change", args=[made.pk]))


def _conditions(given: dict[str, Any]) -> dict[str, Any]:
    """Return what was typed as the conditions of a grant."""
    asked: dict[str, Any] = {}
    if given.get("hours_from") or given.get("hours_to") or given.get("weekdays"):
        hours = {"from": given.get("hours_from"), "to": given.get("hours_to")}
        asked["allowed_hours"] = hours | ({"days": given["weekdays"]} if given.get("weekdays") else {})
    for name, field in (("allowed_ips", "networks"), ("allowed_departments", "departments")):
        lines = [line.strip() for line in given.get(field, "").splitlines() if line.strip()]
        if lines:
            asked[name] = lines
    return asked


def _demand(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied
