"""My security: what a member of the staff may do with their own factors and sessions, and confirming again.

Forms only; scripts are needed for passkeys alone. Whatever asks for a fresh proof raises, and the edge sends
the person to `Confirm` and back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST, require_safe

from accounts import devices, factor_resets, factors
from accounts.models import KnownDevice
from mestore.lib import actor, errors
from mestore.lib.console import State, display
from sessions_security import (
    continuity,
    own_factors,
    own_passkeys,
    session_lists,
    session_words,
    sessions,
    stepup,
)
from sessions_security.console_pages import next_of
from sessions_security.console_session import confirm as confirm_session
from sessions_security.models import UserSession

View = Callable[..., HttpResponseBase]
_LONGEST_NAME = 64
_DEVICES = 50

FACTOR_WORDS: dict[str, str | Promise] = {
    factors.TOTP: gettext_lazy("authenticator application"),
    factors.PASSKEY: gettext_lazy("passkey"),
    factors.BACKUP_CODE: gettext_lazy("backup code"),
}
# What the person is about to do, as the page that asks for a proof says it. Others get a general sentence.
ACTION_WORDS: dict[str, str | Promise] = {
    "factors.enrol": gettext_lazy("You are about to add an authenticator application."),
    "factors.remove": gettext_lazy("You are about to remove a factor. Use another one than that."),
    "factors.backup_codes": gettext_lazy("You are about to make new backup codes."),
    "passkeys.register": gettext_lazy("You are about to add a passkey."),
    "passkeys.remove": gettext_lazy("You are about to remove a passkey. Use another factor than that."),
    "users.impersonate": gettext_lazy("You are about to see the shop as somebody else."),
    "users.factor_reset": gettext_lazy("You are about to open the way back for somebody who lost a factor."),
    "sessions.revoke": gettext_lazy("You are about to end your other sessions."),
    "users.end_sessions": gettext_lazy("You are about to end sessions of other people."),
    "users.suspend": gettext_lazy("You are about to close accounts."),
    "permissions.grant": gettext_lazy("You are about to give a permission."),
    "session.continue": gettext_lazy("You go on from another place than you signed in from."),
}


class NotWhileImpersonating(errors.Forbidden):
    """What belongs to the person stays closed to who looks at the service through their eyes."""

    message = gettext_lazy("This is closed while you act as somebody else.")


def inside(view: View) -> View:
    """Make a page of the console of `view`: for staff with a proved session, and never by impersonation."""

    @sensitive_post_parameters("code", "password", "credential")
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if getattr(session_of(request), "impersonator_id", None) is not None:
            raise NotWhileImpersonating
        return view(request, *args, **kwargs)

    wrapped: View = admin.site.admin_view(guarded)
    return wrapped


def session_of(request: HttpRequest) -> UserSession:
    session: UserSession = request.user_session  # type: ignore[attr-defined]  # put there by the guard
    return session


def shown(request: HttpRequest, template: str, *, status: int = 200, **context: Any) -> HttpResponse:
    """Answer with a page in the console's frame."""
    request.current_app = admin.site.name
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context}, status=status)


@inside
@require_safe
def overview(request: HttpRequest) -> HttpResponseBase:
    """Factors, backup codes and sessions of the person who looks."""
    session = session_of(request)
    own = own_factors.overview(session)
    return shown(
        request,
        "console/security.html",
        title=_("My security"),
        summary=_("How you prove who you are, and where you are signed in."),
        own=own,
        factors=[_factor_row(factor) for factor in own.devices],
        codes_state=_codes_state(own),
        sessions=[_session_row(row, session) for row in session_lists.own(session.user).sessions],
        devices=[_device_row(row) for row in devices.of(session.user)[:_DEVICES]],
        reset=factor_resets.open_of(session.user),
    )


@inside
def add_authenticator(request: HttpRequest) -> HttpResponseBase:
    """Name it, scan it, prove it: three forms at one address; the picture is shown once and kept nowhere."""
    session, by = session_of(request), actor.of(request)
    template, title = "console/authenticator.html", _("Add an authenticator application")
    if request.method != "POST":
        stepup.require("factors.enrol", request)
        return shown(request, template, title=title, step="name")
    step = request.POST.get("step", "name")
    device_id = request.POST.get("device", "")[:20]
    try:
        if step == "name":
            name = request.POST.get("name", "")[: _LONGEST_NAME + 1]
            made = own_factors.enrol_totp(session, name=name, by=by)
            return shown(request, template, title=title, step="scan", **_secret(made))
        code = "".join(request.POST.get("code", "").split())
        codes = own_factors.confirm_totp(session, device_id=device_id, code=code, by=by)
    except stepup.StepUpRequired:
        raise
    except errors.MeStoreError as error:
        again = "name" if step == "name" or isinstance(error, errors.Conflict) else "code"
        return shown(
            request, template, status=error.status, title=title, step=again, error=error_text(error),
            device=device_id,
        )  # fmt: skip
    messages.success(request, _("The authenticator application was added. Your other sessions were ended."))
    return _codes_page(request, codes) if codes else _home()


@inside
def add_passkey(request: HttpRequest) -> HttpResponseBase:
    """Name it and let the browser make it."""
    session = session_of(request)
    template, title = "console/passkey.html", _("Add a passkey")
    if request.method != "POST":
        stepup.require("passkeys.register", request)
        return shown(request, template, title=title)
    try:
        made = own_passkeys.register(
            session,
            name=request.POST.get("name", "")[: _LONGEST_NAME + 1],
            credential=request.POST.get("credential", ""),
            by=actor.of(request),
        )
    except stepup.StepUpRequired:
        raise
    except errors.MeStoreError as error:
        return shown(request, template, status=error.status, title=title, error=error_text(error))
    messages.success(request, _("The passkey was added. Your other sessions were ended."))
    return _codes_page(request, made.backup_codes) if made.backup_codes else _home()


@inside
def remove_factor(request: HttpRequest, device_id: str) -> HttpResponseBase:
    """Ask once more, then remove one factor."""
    session, by = session_of(request), actor.of(request)
    own = own_factors.overview(session)
    factor = next((one for one in own.devices if one.id == device_id), None)
    if factor is None:
        raise errors.NotFound
    title = _("Remove “%(name)s”?") % {"name": factor.name}
    words = FACTOR_WORDS.get(factor.type, factor.type)
    if request.method != "POST":
        return shown(request, "console/factor_remove.html", title=title, factor=factor, kind=words)
    try:
        own_factors.remove_device(session, device_id=device_id, by=by)
    except stepup.StepUpRequired:
        raise
    except errors.MeStoreError as error:
        return shown(
            request, "console/factor_remove.html", status=error.status, title=title, factor=factor,
            kind=words, error=error_text(error),
        )  # fmt: skip
    messages.success(
        request, _("“%(name)s” was removed. Your other sessions were ended.") % {"name": factor.name}
    )
    return _home()


@inside
def backup_codes(request: HttpRequest) -> HttpResponseBase:
    """Say what new codes mean, then make them and show them once."""
    session = session_of(request)
    if request.method != "POST":
        stepup.require("factors.backup_codes", request)
        left = own_factors.overview(session).backup_codes_left
        return shown(request, "console/backup_codes_new.html", title=_("Make new backup codes?"), left=left)
    return _codes_page(request, own_factors.make_backup_codes(session, by=actor.of(request)))


@inside
@require_POST
@stepup.required("sessions.revoke", back="console-security")
def end_session(request: HttpRequest, session_id: str) -> HttpResponseBase:
    """End one of the person's own other sessions, or with `others` all of them."""
    session, by = session_of(request), actor.of(request)
    if session_id == "others":
        count = sessions.end_everywhere(session.user, by=by, why="own_choice", keep=session.pk)
        messages.success(request, ngettext("%d session ended.", "%d sessions ended.", count) % count)
        return _home()
    found = next((one for one in sessions.live(session.user) if str(one.pk) == session_id), None)
    if found is None or found.pk == session.pk:
        raise errors.NotFound
    sessions.end(found, by=by, why="own_choice")
    messages.success(request, _("The session was ended."))
    return _home()


@inside
@require_POST
def forget_device(request: HttpRequest, device_id: UUID) -> HttpResponseBase:
    """Forget one browser that the person signed in from."""
    devices.revoke(session_of(request).user, device_id, by=actor.of(request))
    messages.success(request, _("The device was forgotten."))
    return _home()


@inside
@require_POST
def stop_reset(request: HttpRequest) -> HttpResponseBase:
    """Stop a factor reset of the person's own account that they did not ask for."""
    reset = factor_resets.open_of(session_of(request).user)
    if reset is None:
        raise factor_resets.ResetOver
    factor_resets.cancel(reset, by=actor.of(request))
    # Every session ended with it, this one too: whoever asked may be in one of them.
    return HttpResponseRedirect(reverse("admin:login"))


@inside
def confirm(request: HttpRequest) -> HttpResponseBase:
    """Prove a factor again before something that matters, then go back to where it was asked for."""
    session, by = session_of(request), actor.of(request)
    action = request.POST.get("action", request.GET.get("action", ""))[:64]
    context: dict[str, Any] = {
        "title": _("Confirm that it is you"),
        "summary": ACTION_WORDS.get(action, _("What you are about to do matters, so it asks again.")),
        "action": action,
        "next": next_of(request),
        "methods": stepup.methods_for(action, session),
    }
    if request.method != "POST":
        return shown(request, "console/confirm.html", **context)
    method = request.POST.get("method", "")
    answer = {
        "code": "".join(request.POST.get("code", "").split()),
        "password": request.POST.get("password", ""),
        "credential": request.POST.get("credential", ""),
    }
    try:
        proved = stepup.prove(session, method=method, answer=answer, by=by)
    except errors.MeStoreError as error:
        response = shown(
            request, "console/confirm.html", status=error.status, error=error_text(error), **context
        )
        if "Retry-After" in error.headers:
            response["Retry-After"] = error.headers["Retry-After"]
        return response
    continuity.confirm(session, request, method=method)
    confirm_session(request, proved.proof)
    if proved.replacement_code:
        return shown(
            request, "console/replacement_inside.html", title=_("Your new backup code"),
            code=proved.replacement_code, next=context["next"],
        )  # fmt: skip
    return HttpResponseRedirect(context["next"])


def error_text(error: errors.MeStoreError) -> str:
    """What went wrong, the fields' own sentences before the general one."""
    return " ".join(str(one.message) for one in error.details or ()) or str(error.message)


def _secret(made: own_factors.Enrolment) -> dict[str, Any]:
    groups = [made.secret[start : start + 4] for start in range(0, len(made.secret), 4)]
    return {"qr": made.qr_svg(), "secret": " ".join(groups), "device": str(made.device.pk)}


def _codes_page(request: HttpRequest, codes: list[str]) -> HttpResponse:
    """The one page that ever has these codes."""
    title = _("Your backup codes")
    return shown(
        request, "console/backup_codes.html", title=title, codes=codes, download=codes_file(codes),
        made=timezone.now(), next=reverse("console-security"),
    )  # fmt: skip


def codes_file(codes: list[str]) -> str:
    """The codes as the text of a file to keep."""
    return "\n".join([_("MeStore backup codes. Each works once."), "", *codes, ""])


def _home() -> HttpResponse:
    return HttpResponseRedirect(reverse("console-security"))


def _factor_row(factor: own_factors.OwnFactor) -> dict[str, Any]:
    if factor.is_suspended:
        state = display.state(State.CRITICAL, _("suspended: it may have been copied. Remove it."))
    else:
        state = display.state(State.GOOD, _("in use"))
    kind = str(FACTOR_WORDS.get(factor.type, factor.type))
    if factor.type == factors.PASSKEY and not factor.is_device_bound:
        kind += _(", synchronised between devices")
    return {
        "id": factor.id,
        "what": display.two_lines(factor.name, kind),
        "name": factor.name,
        "state": state,
        "added": display.moment(factor.created_at),
        "used": display.moment(factor.last_used_at),
        "from": factor.bound_address or display.EMPTY,
    }


def _device_row(row: KnownDevice) -> dict[str, Any]:
    return {
        "id": str(row.pk),
        "name": display.agent(row.name) or display.EMPTY,
        "address": row.address or display.EMPTY,
        "added": display.moment(row.created_at),
        "used": display.moment(row.last_used_at),
    }


def _codes_state(own: own_factors.OwnFactors) -> Any:
    left = own.backup_codes_left
    words = ngettext("%d code left", "%d codes left", left) % left
    if not left:
        return display.state(State.CRITICAL, _("no code left"))
    return display.state(State.WARNING if own.backup_codes_low else State.GOOD, words)


def _session_row(row: UserSession, current: UserSession) -> dict[str, Any]:
    ends = [moment for moment in (row.idle_expires_at, row.absolute_expires_at) if moment]
    return {
        "id": str(row.pk),
        "device": display.two_lines(session_words.device(row), row.get_kind_display()),
        "address": display.two_lines(row.address or display.EMPTY, session_words.country(row)),
        "factors": session_words.factors(row),
        "begun": display.two_lines(
            display.moment(row.created_at), _("%(age)s ago") % {"age": display.age(row.created_at)}
        ),
        "seen": display.moment(row.last_seen_at),
        "ends": display.moment(min(ends)),
        "is_current": row.pk == current.pk,
    }
