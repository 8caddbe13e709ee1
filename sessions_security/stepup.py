"""Proving a factor again before something that matters: which action asks for what, and how fresh.

The table is the setting STEP_UP. Every proof is kept per session and factor. A proof opens an action when its
method is one of the action's, it is fresh enough, the account had the factor before the session began, and it
is not the factor that the action is about. So nobody who took over a session can add a factor of their own
and confirm the rest with that.

Others ask through `mestore.lib.guard.require(action, request)`, put `RequiresStepUp` on a DRF view or
`@required(action)` on a plain one, or name the action in a console's `ReasonAction`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from typing import Any, NoReturn

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from rest_framework.request import Request

from accounts import factors, passkeys
from mestore.lib import actor, errors, guard
from mestore.lib.actor import Actor
from monitoring import audit, events
from sessions_security import factor_proofs
from sessions_security.models import StepUpProof, UserSession

PASSWORD = factor_proofs.PASSWORD
View = Callable[..., HttpResponseBase]


class StepUpRequired(errors.Forbidden):
    """The session is fine, but no proof in it is fresh enough.

    `methods` may be empty: nothing that the account has will do. A factor that was added in this session
    counts from the next sign-in on.
    """

    code = "STEP_UP_REQUIRED"
    message = _("Confirm that it is you before you go on.")

    def __init__(self, action: str, methods: list[str], max_age_seconds: int) -> None:
        super().__init__(extra={"action": action, "methods": methods, "max_age": max_age_seconds})
        self.action, self.methods, self.max_age_seconds = action, methods, max_age_seconds


class FactorTooNew(errors.Forbidden):
    """A factor that was added in this session proves nothing in it."""

    code = "FACTOR_TOO_NEW"
    message = _("A factor that you added in this session counts from your next sign-in on.")


def check(action: str, request: Any) -> None:
    """What `mestore.lib.guard.require` asks. Raises as `require` does."""
    require(action, request)


def require(action: str, request: Any, *, replaced: str = "") -> str:
    """Return the factor whose proof opens `action` for this request; `replaced` is one that may not.

    Raises `StepUpRequired`; `guard.NothingRegistered` for an action that the table does not have;
    `errors.Unauthorized` for a stranger.
    """
    session = getattr(request, "user_session", None)
    if session is None:
        raise errors.Unauthorized
    return require_for(action, session, replaced=replaced, by=actor.of(request))


def require_for(action: str, session: UserSession, *, replaced: str = "", by: Actor) -> str:
    """As `require`, for a session."""
    if session.impersonator_id is not None:
        # Whoever acts as somebody else confirms nothing in their name.
        raise guard.NothingRegistered
    rule: Mapping[str, Any] | None = settings.STEP_UP.get(action)
    if rule is None:
        raise guard.NothingRegistered
    methods, seconds = list(rule["methods"]), int(rule["max_age_seconds"])
    since = timezone.now() - dt.timedelta(seconds=seconds)
    among = passkeys.device_bound(session.user) if rule.get("device_bound") else None
    factor = _proved(session, methods, since, replaced, among)
    if factor is None and PASSWORD in methods:
        factor = _proved_by_password(session, since)
    if factor is None:
        _refuse(action, session, seconds, by)
    return factor


def methods_for(action: str, session: UserSession) -> list[str]:
    """Return what the account behind `session` can prove for `action`, in the table's order."""
    rule: Mapping[str, Any] = settings.STEP_UP.get(action, {})
    has = {*factors.methods_of(session.user, bound_before=session.created_at)}
    if not factors.has_factor(session.user) and session.client_id is None:
        has.add(PASSWORD)
    if rule.get("device_bound") and not passkeys.device_bound(session.user):
        has.clear()
    return [method for method in rule.get("methods", ()) if method in has]


def prove(
    session: UserSession, *, method: str, answer: factor_proofs.Answer, by: Actor
) -> factor_proofs.Proved:
    """Prove a factor in `session`; what came of it carries the code that replaces a backup code.

    Raises what `factor_proofs.verify` raises, and `FactorTooNew`.
    """
    factor_proofs.check(method, answer)
    bound_to = f"session:{session.pk}"
    proof = factor_proofs.verify(session.user, method, answer, bound_to=bound_to, by=by)
    if method != PASSWORD and proof.bound_at > session.created_at:
        raise FactorTooNew
    with transaction.atomic():
        replacement = proof.use(by)
        note(session, proof)
        audit.record(
            events.STEP_UP_PROVED,
            by=by,
            target=("session", str(session.pk)),
            subject=str(session.user_id),
            data={"method": method, "factor": proof.factor},
        )
    return factor_proofs.Proved(proof, replacement)


def note(session: UserSession, proof: factor_proofs.Proof) -> None:
    """Keep that a factor was proved now, at sign-in or again; runs in the transaction that uses the proof."""
    values = {"method": proof.method, "bound_at": proof.bound_at, "proved_at": timezone.now()}
    StepUpProof.objects.bulk_create(
        [StepUpProof(session=session, factor=proof.factor, **values)],
        update_conflicts=True,
        unique_fields=["session", "factor"],
        update_fields=list(values),
    )


def forget(factor: str) -> None:
    """Drop every proof of a factor that is gone."""
    StepUpProof.objects.filter(factor=factor).delete()


class RequiresStepUp:
    """Put before `APIView`: `step_up = "payouts.request"`, or a dictionary from HTTP method to action."""

    step_up: str | Mapping[str, str] = ""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check permissions and limits first, the factor last."""
        super().initial(request, *args, **kwargs)  # type: ignore[misc] # of APIView, which comes after this
        table = self.step_up
        action = table if isinstance(table, str) else table.get(request.method or "", "")
        if action or isinstance(table, str):
            guard.require(action, request)


def required(action: str, *, back: str = "") -> Callable[[View], View]:
    """Guard a plain Django view: without a fresh proof the person confirms first and then comes back.

    `back` names the page to come back to after a form was sent; without it the view's own address is asked
    for with GET. What was sent is not repeated for anybody: the person does it again. Stands inside of what
    admits the session (`security_views.inside`, `admin_view`).
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if back and request.method not in ("GET", "HEAD"):
                request.step_up_back = reverse(back)  # type: ignore[attr-defined]  # read at the edge
            guard.require(action, request)
            return view(request, *args, **kwargs)

        return guarded

    return decorate


def _proved(
    session: UserSession, methods: list[str], since: dt.datetime, replaced: str, among: Collection[str] | None
) -> str | None:
    fresh = StepUpProof.objects.filter(
        session=session, method__in=methods, proved_at__gt=since, bound_at__lte=session.created_at
    ).exclude(method=PASSWORD)
    if among is not None:
        fresh = fresh.filter(factor__in=among)
    return fresh.exclude(factor=replaced).order_by("-proved_at").values_list("factor", flat=True).first()


def _proved_by_password(session: UserSession, since: dt.datetime) -> str | None:
    """A password is enough only where there is nothing better to ask for."""
    at_sign_in = session.created_at > since and "pwd" in session.amr
    again = StepUpProof.objects.filter(session=session, method=PASSWORD, proved_at__gt=since)
    if (at_sign_in or again.exists()) and not factors.has_factor(session.user):
        return PASSWORD
    return None


def _refuse(action: str, session: UserSession, seconds: int, by: Actor) -> NoReturn:
    possible = methods_for(action, session)
    audit.record_refusal(
        events.STEP_UP_REQUIRED,
        by=by,
        target=("session", str(session.pk)),
        subject=str(session.user_id),
        data={"action": action, "methods": possible},
    )
    raise StepUpRequired(action, possible, seconds)
