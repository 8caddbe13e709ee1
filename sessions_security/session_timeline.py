"""What belongs to one session on its page: who uses it, what was proved in it, and all that happened."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from mestore.lib import errors
from mestore.lib.console import Table, display
from monitoring import events, selectors
from monitoring.admin import OUTCOME_WORDS
from monitoring.models import AuditEvent
from monitoring.selectors import Position
from sessions_security import factor_proofs
from sessions_security.models import Impersonation, StepUpProof, UserSession
from sessions_security.session_words import METHOD_WORDS

SHOWN = 25
AT, AFTER = "at", "after"
SEE_TRAIL = "monitoring.view_auditevent"


def who_acts(session: UserSession) -> SafeString | str:
    """Say who uses the session: its account, or the administrator who looks through its eyes."""
    found = Impersonation.objects.select_related("impersonator").filter(session_id=session.pk).first()
    if found is None:
        return _("its account")
    page = reverse("admin:accounts_user_change", args=[found.impersonator_id])
    return display.two_lines(display.link(page, found.impersonator), _("acts as this account"))


def proofs(session: UserSession) -> Table:
    """What was proved in the session, how long ago, and whether it counts for what asks for it."""
    rows = []
    for proof in StepUpProof.objects.filter(session=session).order_by("-proved_at"):
        known = proof.method == factor_proofs.PASSWORD or proof.bound_at <= session.created_at
        rows.append(
            [
                str(METHOD_WORDS.get(proof.method, proof.method)),
                display.moment(proof.proved_at, full=True),
                _("%(age)s ago") % {"age": display.age(proof.proved_at)},
                _("yes") if known else _("no: the factor is newer than the session"),
            ]
        )
    return Table(
        title=_("Proofs in this session"),
        headers=[_("Factor"), _("Proved"), _("Age"), _("Counts")],
        rows=rows,
        empty=_("A proof appears here when a factor is proved at sign-in or again later."),
    )


def timeline(request: HttpRequest, session: UserSession) -> Table:
    """Every event of the session, newest first, a page at a time; linked for who may read the trail."""
    after = _place(request)
    page = selectors.session_events(session.pk, since=session.created_at, after=after, limit=SHOWN)
    linked = request.user.has_perm(SEE_TRAIL)
    here = request.path
    older = ""
    if page.next is not None:
        query = {AT: page.next.occurred_at.isoformat(), AFTER: str(page.next.id)}
        older = f"{here}?{urlencode(query)}"
    return Table(
        title=_("What happened in this session"),
        note=_("From the audit trail, newest first, as of now. Addresses are sealed in it."),
        headers=[_("Event"), _("Outcome"), _("When"), _("Who"), _("Request")],
        rows=[_row(event, linked) for event in page.events],
        empty=_("Events appear here as the session is used for what the audit trail keeps."),
        newest=here if after is not None else "",
        older=older,
    )


def _row(event: AuditEvent, linked: bool) -> list[Any]:
    words = _words(event.type)
    page = reverse("admin:monitoring_auditevent_change", args=[event.pk])
    outcome = OUTCOME_WORDS.get(events.Outcome(event.outcome))
    return [
        display.two_lines(display.link(page, words) if linked else words, event.type),
        display.state(*outcome) if outcome is not None else event.outcome,
        display.moment(event.occurred_at, full=True),
        display.two_lines(display.short_id(event.actor_id or event.actor_kind), event.actor_role),
        display.code(event.request_id),
    ]


def _words(code: str) -> str:
    try:
        return _(events.get(code).description)
    except events.UnknownEvent:
        return code


def _place(request: HttpRequest) -> Position | None:
    """Read where the page begins. Raises errors.BadRequest for what no link of ours says."""
    at, after = request.GET.get(AT), request.GET.get(AFTER)
    if not at and not after:
        return None
    try:
        moment, event_id = parse_datetime(at or ""), UUID(after or "")
    except (ValueError, OverflowError):
        raise errors.BadRequest from None
    if moment is None or timezone.is_naive(moment):
        raise errors.BadRequest
    return Position(moment, event_id)
