"""Seeing the service as somebody else, from the console: the question, the view of it, the way back."""

from __future__ import annotations

from uuid import UUID

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST, require_safe

from accounts.models import User
from mestore.lib import actor, errors, guard
from mestore.lib.console import ReasonAction, actions
from sessions_security import impersonation
from sessions_security.security_views import inside, session_of

BEGIN = ReasonAction(
    name="impersonate",
    verb=gettext_lazy("Act as this account"),
    question=lambda _count: _("See the service as this account?"),
    effect=gettext_lazy(
        "For 15 minutes you see what this person sees and can change nothing. They get a message about it."
    ),
    undo=gettext_lazy("You stop it whenever you like, at the top of every page. The record stays."),
    done=lambda _count: "",
    permission="accounts.change_user",
    run=impersonation.begin_in_browser,
)


@inside
def begin(request: HttpRequest, user_id: UUID) -> HttpResponseBase:
    """Ask for the reason, then begin."""
    guard.require("users.impersonate", request)
    target = User.objects.filter(pk=user_id).first()
    if target is None:
        raise Http404
    form = actions.ReasonForm(request.POST if request.method == "POST" else None)
    status = None
    if form.is_valid():
        try:
            impersonation.begin_in_browser(
                request, target, reason=form.cleaned_data["reason"], by=actor.of(request)
            )
            response = HttpResponseRedirect(reverse("console-impersonation"))
            impersonation.keep_way_back(request, response)
            return response
        except errors.MeStoreError as refused:
            form.add_error(None, str(refused.message))
            status = refused.status
    back = (_("Account"), reverse("admin:accounts_user_change", args=[target.pk]))
    rows = [(str(target.pk), str(target))]
    return actions.ask(request, BEGIN, rows=rows, form=form, site=admin.site, back=back, status=status)


@never_cache
@csrf_protect
@require_safe
def present(request: HttpRequest) -> HttpResponseBase:
    """Where an impersonated session stands: the staff see the console, others what is here."""
    session = getattr(request, "user_session", None)
    banner = impersonation.banner(session)
    if session is None:
        return HttpResponseRedirect(reverse("admin:login"))
    if banner is None:
        return HttpResponseRedirect(reverse("admin:index"))
    enters = admin.site.has_permission(request)
    return render(
        request,
        "console/impersonation.html",
        {"banner": banner, "account": session_of(request).user, "enters": enters},
    )


@never_cache
@csrf_protect
@require_POST
def stop(request: HttpRequest) -> HttpResponseBase:
    """Go back to one's own session, or to the sign-in when that has ended meanwhile."""
    if getattr(request, "user_session", None) is None:
        return HttpResponseRedirect(reverse("admin:login"))
    response: HttpResponse = HttpResponseRedirect(reverse("admin:index"))
    impersonation.stop_in_browser(request, response)
    return response
