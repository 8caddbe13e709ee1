"""Console pages for what people watch over together: approvals, factor resets, access reviews, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts import access_review, approvals, factor_resets, grants, hierarchy
from accounts.models import AccessDecision, AccessReview, AccessReviewItem, ApprovalRequest, FactorReset
from mestore.lib import console
from mestore.lib.actor import Actor
from mestore.lib.console import ConsoleModelAdmin, Ordering, ReasonAction, SearchField, State, display

grants.register_model_permission(
    "accounts.approvalrequest", view="permissions.read.read_only", change="permissions.read.read_only"
)
grants.register_model_permission(
    "accounts.factorreset", view="users.read.read_only", change="users.update.global"
)
grants.register_model_permission("accounts.accessdecision", view="permissions.read.read_only")
for _model in ("accounts.accessreview", "accounts.accessreviewitem"):
    grants.register_model_permission(
        _model, view="permissions.read.read_only", change="permissions.revoke.global"
    )

NEWEST = (Ordering("newest", gettext_lazy("newest first"), ("-pk",)),)
PROOF_WORDS = {
    "mailed_code": gettext_lazy("code from a message"),
    "backup_code": gettext_lazy("backup code"),
    "password": gettext_lazy("password"),
    "approval": gettext_lazy("two administrators"),
}
# Who may decide is asked by the use case: not who asked, not whom it is about, and with the right it needs.
APPROVE = ReasonAction(
    name="approve",
    verb=gettext_lazy("Approve"),
    question=lambda count: ngettext("Approve %d request?", "Approve %d requests?", count) % count,
    effect=gettext_lazy("What was asked for happens, in the name of who asked and with your approval."),
    undo=gettext_lazy("Not here. What happened may have its own way back."),
    done=lambda count: ngettext("%d request approved.", "%d requests approved.", count) % count,
    permission="accounts.change_approvalrequest",
    run=lambda row, *, reason, by: approvals.approve(row.pk, reason=reason, by=by),
    offered=lambda row: row.waits(),
    step_up="approvals.decide",
)
REFUSE = ReasonAction(
    name="refuse",
    verb=gettext_lazy("Refuse"),
    question=lambda count: ngettext("Refuse %d request?", "Refuse %d requests?", count) % count,
    effect=gettext_lazy("Nothing happens. Who asked may ask again."),
    undo=gettext_lazy("No."),
    done=lambda count: ngettext("%d request refused.", "%d requests refused.", count) % count,
    permission="accounts.change_approvalrequest",
    run=lambda row, *, reason, by: approvals.refuse(row.pk, reason=reason, by=by),
    offered=lambda row: row.waits(),
    step_up="approvals.decide",
)
WITHDRAW = ReasonAction(
    name="withdraw",
    verb=gettext_lazy("Withdraw"),
    question=lambda count: ngettext("Withdraw %d request?", "Withdraw %d requests?", count) % count,
    effect=gettext_lazy("Your own request waits no longer."),
    undo=gettext_lazy("You may ask again."),
    done=lambda count: ngettext("%d request withdrawn.", "%d requests withdrawn.", count) % count,
    permission="accounts.change_approvalrequest",
    run=lambda row, *, reason, by: approvals.withdraw(row.pk, by=by),  # noqa: ARG005 - asked of all
    offered=lambda row: row.waits(),
)


def _waiting(rows: Any, value: str) -> Any:
    now, opened = timezone.now(), ApprovalRequest.State.OPEN
    waits = rows.filter(state=opened, expires_at__gt=now)
    return waits if value == "waiting" else rows.exclude(pk__in=waits.values("pk"))


@admin.register(ApprovalRequest)
class ApprovalAdmin(ConsoleModelAdmin):
    """What waits for a second person, and what became of the rest."""

    group, position = "people", 50
    label = gettext_lazy("Approvals")
    summary = gettext_lazy("What one person may not do alone: asked by one, decided by another within a day.")
    empty = gettext_lazy("Requests appear here when somebody asks for what needs a second person.")
    list_display = ("what", "state_mark", "asked_by_label", "asked_at", "expires_at", "decided_by_label")
    list_select_related = ("about", "asked_by")
    list_filter = (
        console.choice_filter(
            parameter="waits",
            title=gettext_lazy("State"),
            choices=[("waiting", gettext_lazy("waiting")), ("decided", gettext_lazy("decided or over"))],
            narrow=_waiting,
        ),
    )
    orderings = NEWEST
    search_in = (SearchField("id"), SearchField("about"))
    search_help_text = gettext_lazy("The whole id of the request or of the account it is about")
    sections = (
        (
            gettext_lazy("Request"),
            ("action", "subject", "target", "reason", "asked_by_label", "asked_at", "expires_at"),
        ),
        (gettext_lazy("Decision"), ("state_mark", "decided_by_label", "decided_at", "decided_why")),
        (gettext_lazy("Exactly this is approved"), ("exactly",)),
    )
    reason_actions = (APPROVE, REFUSE, WITHDRAW)

    def name_of(self, row: ApprovalRequest) -> str:
        return f"{row.action}: {row.about or row.target_id}"

    def state_of(self, row: ApprovalRequest) -> SafeString:
        return approval_state(row)

    @admin.display(description=gettext_lazy("what"))
    def what(self, row: ApprovalRequest) -> SafeString:
        return display.two_lines(self.name_of(row), row.reason)

    @admin.display(description=gettext_lazy("state"))
    def state_mark(self, row: ApprovalRequest) -> SafeString:
        return approval_state(row)

    @admin.display(description=gettext_lazy("about"))
    def subject(self, row: ApprovalRequest) -> SafeString | str:
        if row.about is None:
            return display.EMPTY
        return display.link(reverse("admin:accounts_user_change", args=[row.about_id]), str(row.about))

    @admin.display(description=gettext_lazy("target"))
    def target(self, row: ApprovalRequest) -> str:
        return f"{row.target_type} {row.target_id}"

    @admin.display(description=gettext_lazy("details"))
    def exactly(self, row: ApprovalRequest) -> SafeString:
        return display.block(json.dumps(row.details, indent=2, sort_keys=True, ensure_ascii=False))


def approval_state(row: ApprovalRequest) -> SafeString:
    """Whether a request waits, or how it ended, in a word with its mark."""
    if not row.is_intact():
        return display.state(State.CRITICAL, _("altered: it opens nothing"))
    if row.waits():
        return display.state(State.WARNING, _("waiting"))
    if row.state == ApprovalRequest.State.OPEN:
        return display.state(State.UNKNOWN, _("expired"))
    good = row.state in {ApprovalRequest.State.APPROVED, ApprovalRequest.State.DONE}
    return display.state(State.GOOD if good else State.UNKNOWN, row.get_state_display())


def stop_reset(reset: FactorReset, *, reason: str, by: Actor) -> None:
    """Stop a factor reset of somebody below. Raises hierarchy.NotAllowed, factor_resets.ResetOver."""
    hierarchy.demand_reason(reason)
    hierarchy.demand_over(hierarchy.authority_of(by), reset.user, by)
    factor_resets.cancel(reset, by=by)


STOP = ReasonAction(
    name="stop",
    verb=gettext_lazy("Stop"),
    question=lambda count: ngettext("Stop %d factor reset?", "Stop %d factor resets?", count) % count,
    effect=gettext_lazy("The factors stay, and every session of the account ends. The owner is told."),
    undo=gettext_lazy("The owner may begin the recovery again."),
    done=lambda count: ngettext("%d factor reset stopped.", "%d factor resets stopped.", count) % count,
    permission="accounts.change_factorreset",
    run=stop_reset,
    offered=lambda reset: reset.is_open,
)


def _open_resets(rows: Any, value: str) -> Any:
    if value == "waiting":
        return rows.filter(cancelled_at=None, carried_out_at=None)
    return rows.exclude(cancelled_at=None, carried_out_at=None)


@admin.register(FactorReset)
class FactorResetAdmin(ConsoleModelAdmin):
    """Accounts whose factors are about to be removed, and what became of earlier ones."""

    group, position = "people", 16
    label = gettext_lazy("Factor resets")
    summary = gettext_lazy(
        "People who lost their factors and gave two proofs. Each waits, so that the owner can stop it."
    )
    empty = gettext_lazy("Resets appear here when somebody gives two proofs that they lost their factors.")
    list_display = ("who", "state", "proved_by", "requested_at", "due_at")
    list_select_related = ("user",)
    list_filter = (
        console.choice_filter(
            parameter="state",
            title=gettext_lazy("State"),
            choices=[("waiting", gettext_lazy("waiting")), ("over", gettext_lazy("over"))],
            narrow=_open_resets,
        ),
    )
    orderings = NEWEST
    search_in = (SearchField("user"), SearchField("id"))
    search_help_text = gettext_lazy("The whole id of the account or of the reset")
    sections = (
        (gettext_lazy("Factor reset"), ("id", "account", "proved_by", "requested_at", "due_at")),
        (gettext_lazy("End"), ("cancelled_at", "cancelled_by", "carried_out_at")),
    )
    reason_actions = (STOP,)

    def name_of(self, row: FactorReset) -> str:
        return _("Factor reset of %(user)s") % {"user": row.user}

    def state_of(self, row: FactorReset) -> SafeString:
        return self.state(row)

    @admin.display(description=gettext_lazy("account"))
    def who(self, reset: FactorReset) -> SafeString:
        return display.two_lines(str(reset.user), reset.user.user_type)

    @admin.display(description=gettext_lazy("account"))
    def account(self, reset: FactorReset) -> SafeString:
        return display.link(reverse("admin:accounts_user_change", args=[reset.user_id]), str(reset.user))

    @admin.display(description=gettext_lazy("state"))
    def state(self, reset: FactorReset) -> SafeString:
        if reset.is_open:
            return display.state(State.WARNING, _("waiting"))
        if reset.cancelled_at is not None:
            return display.state(State.UNKNOWN, _("stopped"))
        return display.state(State.GOOD, _("carried out"))

    @admin.display(description=gettext_lazy("proofs"))
    def proved_by(self, reset: FactorReset) -> str:
        return ", ".join(str(PROOF_WORDS.get(proof, proof)) for proof in reset.proofs)


FINISH = ReasonAction(
    name="finish",
    verb=gettext_lazy("Finish and sign"),
    question=lambda count: ngettext("Finish %d review?", "Finish %d reviews?", count) % count,
    effect=gettext_lazy("The outcome is sealed, and its fingerprint is kept in the audit trail."),
    undo=gettext_lazy("No. Begin another review instead."),
    done=lambda count: ngettext("%d review finished.", "%d reviews finished.", count) % count,
    permission="accounts.change_accessreview",
    run=lambda review, *, reason, by: access_review.finish(review.pk, by=by),  # noqa: ARG005 - asked of all
    offered=lambda review: review.finished_at is None,
)
KEEP = ReasonAction(
    name="keep",
    verb=gettext_lazy("Keep"),
    question=lambda count: ngettext("Keep %d grant?", "Keep %d grants?", count) % count,
    effect=gettext_lazy("The review says that it is still needed."),
    undo=gettext_lazy("Yes, until the review is finished."),
    done=lambda count: ngettext("%d grant kept.", "%d grants kept.", count) % count,
    permission="accounts.change_accessreviewitem",
    run=lambda item, *, reason, by: access_review.decide(item.pk, outcome="keep", reason=reason, by=by),
    offered=lambda item: item.review.finished_at is None and item.outcome != "revoke",
)
REVOKE = ReasonAction(
    name="revoke",
    verb=gettext_lazy("Revoke"),
    question=lambda count: ngettext("Revoke %d grant?", "Revoke %d grants?", count) % count,
    effect=gettext_lazy("The permission is gone with the holder's next request."),
    undo=gettext_lazy("Not here. It can be given again."),
    done=lambda count: ngettext("%d grant revoked.", "%d grants revoked.", count) % count,
    permission="accounts.change_accessreviewitem",
    run=lambda item, *, reason, by: access_review.decide(item.pk, outcome="revoke", reason=reason, by=by),
    offered=lambda item: item.review.finished_at is None and item.outcome != "revoke",
)


@admin.register(AccessReview)
class AccessReviewAdmin(ConsoleModelAdmin):
    """Reviews of who holds what."""

    group, position = "people", 60
    label = gettext_lazy("Access reviews")
    summary = gettext_lazy(
        "A look at every grant in force: who has what, when it was last used, does it stay."
    )
    empty = gettext_lazy("A review appears here when somebody who may revoke grants begins one.")
    list_display = ("begun", "state", "started_by_label", "finished_at", "finished_by_label")
    orderings = NEWEST
    search_in = (SearchField("id"),)
    search_help_text = gettext_lazy("The whole id of the review")
    sections = (
        (gettext_lazy("Review"), ("id", "started_at", "started_by_label", "decided")),
        (
            gettext_lazy("Outcome"),
            ("finished_at", "finished_by_label", "fingerprint", "unaltered"),
        ),
    )
    reason_actions = (FINISH,)

    def name_of(self, row: AccessReview) -> str:
        return _("Review of %(day)s") % {
            "day": row.started_at.astimezone(display.BOGOTA).strftime("%Y-%m-%d")
        }

    def state_of(self, row: AccessReview) -> SafeString:
        return self.state(row)

    def links(self, request: HttpRequest, row: AccessReview) -> Iterable[tuple[str, str]]:
        items = reverse("admin:accounts_accessreviewitem_changelist")
        yield _("Go through the grants"), f"{items}?review_id={row.pk}"
        if request.user.has_perm("accounts.change_accessreview"):
            yield _("Download as CSV"), reverse("console-review-csv", args=[row.pk])

    def list_links(self, request: HttpRequest) -> Iterable[tuple[str, str]]:
        if request.user.has_perm("accounts.change_accessreview"):
            yield _("Begin a review"), reverse("console-review-start")

    @admin.display(description=gettext_lazy("review"))
    def begun(self, row: AccessReview) -> str:
        return self.name_of(row)

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: AccessReview) -> SafeString:
        if row.finished_at is None:
            return display.state(State.WARNING, _("under way"))
        return display.state(State.GOOD, _("finished and sealed"))

    @admin.display(description=gettext_lazy("decided"))
    def decided(self, row: AccessReview) -> str:
        done, everything = row.items.exclude(outcome="").count(), row.items.count()
        return _("%(done)d of %(all)d") % {"done": done, "all": everything}

    @admin.display(description=gettext_lazy("fingerprint of the outcome"))
    def fingerprint(self, row: AccessReview) -> SafeString:
        return display.code(row.outcome_digest)

    @admin.display(description=gettext_lazy("as it was sealed"))
    def unaltered(self, row: AccessReview) -> SafeString | str:
        if row.finished_at is None:
            return display.EMPTY
        if access_review.is_unaltered(row):
            return display.state(State.GOOD, _("yes"))
        return display.state(State.CRITICAL, _("no: somebody changed it by hand"))


@admin.register(AccessReviewItem)
class AccessReviewItemAdmin(ConsoleModelAdmin):
    """The grants of a review, one decision each."""

    group, position, in_sidebar = "people", 61, False  # it is reached from its review
    label = gettext_lazy("Reviewed grants")
    summary = gettext_lazy("Every grant of a review with when it was last used. Decide about each of them.")
    empty = gettext_lazy("Grants appear here when an access review begins.")
    list_display = ("what", "decision", "last_used_at", "granted", "decided_by_label")
    list_select_related = ("review", "grant__user", "grant__permission")
    list_filter = (
        console.choice_filter(
            parameter="outcome",
            title=gettext_lazy("Decision"),
            choices=[("none", gettext_lazy("none yet")), *AccessReviewItem.Outcome.choices],
            narrow=lambda rows, value: rows.filter(outcome="" if value == "none" else value),
        ),
    )
    open_lookups = ("review_id",)
    orderings = NEWEST
    search_in = (SearchField("grant"), SearchField("id"))
    search_help_text = gettext_lazy("The whole id of the grant")
    sections = (
        (gettext_lazy("Grant"), ("what", "risk", "granted", "granted_by", "why", "last_used_at")),
        (gettext_lazy("Decision"), ("decision", "decided_by_label", "decided_at", "reason")),
    )
    reason_actions = (KEEP, REVOKE)

    def name_of(self, row: AccessReviewItem) -> str:
        return f"{row.grant.permission.name} → {row.grant.user}"

    def state_of(self, row: AccessReviewItem) -> SafeString:
        return self.decision(row)

    @admin.display(description=gettext_lazy("grant"))
    def what(self, item: AccessReviewItem) -> SafeString:
        return display.two_lines(
            item.grant.permission.name, f"{item.grant.user} · {item.grant.user.user_type}"
        )

    @admin.display(description=gettext_lazy("decision"))
    def decision(self, item: AccessReviewItem) -> SafeString:
        if not item.outcome:
            return display.state(State.WARNING, _("none yet"))
        good = item.outcome == AccessReviewItem.Outcome.KEEP
        return display.state(State.GOOD if good else State.UNKNOWN, item.get_outcome_display())

    @admin.display(description=gettext_lazy("risk"))
    def risk(self, item: AccessReviewItem) -> str:
        return item.grant.permission.risk.lower()

    @admin.display(description=gettext_lazy("granted"))
    def granted(self, item: AccessReviewItem) -> SafeString:
        return display.moment(item.grant.granted_at)

    @admin.display(description=gettext_lazy("granted by"))
    def granted_by(self, item: AccessReviewItem) -> str:
        return item.grant.granted_by_label

    @admin.display(description=gettext_lazy("why it was given"))
    def why(self, item: AccessReviewItem) -> str:
        return item.grant.reason


@admin.register(AccessDecision)
class AccessDecisionAdmin(ConsoleModelAdmin):
    """Why somebody was refused."""

    group, position = "people", 70
    label = gettext_lazy("Refusals")
    summary = gettext_lazy(
        "Why somebody was refused: search by the request's id, which their error page shows."
    )
    empty = gettext_lazy("A refusal appears here when somebody asks for what they hold no permission for.")
    list_display = ("what", "rule", "who", "at")
    list_filter = (console.WindowFilter.on("at"),)
    open_lookups = ("user_id",)
    orderings = NEWEST
    search_in = (SearchField("request_id"), SearchField("user_id"), SearchField("id"))
    search_help_text = gettext_lazy("The whole id of the request or of the account")
    sections = (
        (gettext_lazy("Refusal"), ("asked", "rule", "at", "who", "request_id", "session_id")),
        (gettext_lazy("What was seen"), ("seen",)),
        (gettext_lazy("What the rule needs"), ("needed",)),
    )

    @admin.display(description=gettext_lazy("asked for"))
    def what(self, row: AccessDecision) -> SafeString:
        return display.two_lines(row.asked, row.request_id)

    @admin.display(description=gettext_lazy("account"))
    def who(self, row: AccessDecision) -> SafeString | str:
        if row.user_id is None:
            return display.EMPTY
        return display.link(
            reverse("admin:accounts_user_change", args=[row.user_id]), display.short_id(row.user_id)
        )

    @admin.display(description=gettext_lazy("inputs"))
    def seen(self, row: AccessDecision) -> SafeString:
        return display.block(json.dumps(row.inputs, indent=2, sort_keys=True, ensure_ascii=False))

    @admin.display(description=gettext_lazy("limits"))
    def needed(self, row: AccessDecision) -> SafeString:
        return display.block(json.dumps(row.limits, indent=2, sort_keys=True, ensure_ascii=False))
