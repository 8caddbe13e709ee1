"""The console's queue of payouts: what is asked for, who agreed, what screening said, what can be done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts import grants
from finance import payout_approvals, payout_ends, payout_outcomes, payout_reads
from finance.admin import payout_words
from finance.admin.cells import amount, entry_link, vendor
from finance.bank_file_answers import Outcome
from finance.models import Payout
from finance.payout_states import UNSENT, WORDS
from finance.states import PayoutState
from mestore.lib.actor import Actor
from mestore.lib.console import (
    ConsoleModelAdmin,
    Ordering,
    ReasonAction,
    SearchField,
    Table,
    WindowFilter,
    choice_filter,
    display,
)
from mestore.lib.console.actions import ReasonForm

grants.register_model_permission(
    "finance.payout", view="payments.read.read_only", change=payout_approvals.APPROVING
)
DECIDE = "finance.change_payout"


class ResolveForm(ReasonForm):
    """What became of a payout, with what shows it as the reason."""

    outcome = forms.ChoiceField(
        label=gettext_lazy("What became of it"),
        choices=[
            (Outcome.PAID.value, gettext_lazy("the bank paid it")),
            (Outcome.RETURNED.value, gettext_lazy("the bank did not pay it, or gave it back")),
        ],
    )


def _approve(payout: Payout, *, reason: str, by: Actor) -> None:
    payout_approvals.approve(payout.pk, reason=reason, content=bytes(payout.content_hash), by=by)


def _reject(payout: Payout, *, reason: str, by: Actor) -> None:
    payout_ends.reject(payout.pk, reason=reason, by=by)


def _hold(payout: Payout, *, reason: str, by: Actor) -> None:
    payout_approvals.hold(payout.pk, reason=reason, by=by)


def _release(payout: Payout, *, reason: str, by: Actor) -> None:
    payout_approvals.release(payout.pk, reason=reason, by=by)


def _unknown(payout: Payout, *, reason: str, by: Actor) -> None:
    payout_outcomes.mark_unknown(payout.pk, reason=reason, by=by)


def _resolve(payout: Payout, *, reason: str, outcome: str, by: Actor) -> None:
    payout_outcomes.ask_to_resolve(payout.pk, outcome=outcome, evidence=reason, by=by)


APPROVE = ReasonAction(
    name="approve",
    verb=gettext_lazy("Approve"),
    question=lambda count: ngettext("Approve %d payout?", "Approve %d payouts?", count) % count,
    effect=gettext_lazy("You agree to this amount to this account. With the last approval it can be sent."),
    undo=gettext_lazy("Until it is in a bank file it can be held or rejected."),
    done=lambda count: ngettext("You approved %d payout.", "You approved %d payouts.", count) % count,
    permission=DECIDE,
    run=_approve,
    offered=lambda payout: payout.state == PayoutState.SCREENED,
    step_up=payout_approvals.STEP_UP,
)
REJECT = ReasonAction(
    name="reject",
    verb=gettext_lazy("Reject"),
    question=lambda count: ngettext("Reject %d payout?", "Reject %d payouts?", count) % count,
    effect=gettext_lazy("The amount is available to the vendor again, who is told the reason."),
    undo=gettext_lazy("No. The vendor asks again."),
    done=lambda count: ngettext("%d payout rejected.", "%d payouts rejected.", count) % count,
    permission=DECIDE,
    run=_reject,
    offered=lambda payout: payout.state in UNSENT,
    step_up=payout_approvals.STEP_UP,
)
HOLD = ReasonAction(
    name="hold",
    verb=gettext_lazy("Hold"),
    question=lambda count: ngettext("Hold %d payout?", "Hold %d payouts?", count) % count,
    effect=gettext_lazy("It waits, with its amount reserved, until somebody lets it go on."),
    undo=gettext_lazy("Yes: release it."),
    done=lambda count: ngettext("%d payout waits.", "%d payouts wait.", count) % count,
    permission=DECIDE,
    run=_hold,
    offered=lambda payout: payout.state in {PayoutState.SCREENED, PayoutState.APPROVED},
)
RELEASE = ReasonAction(
    name="release",
    verb=gettext_lazy("Release"),
    question=lambda count: ngettext("Release %d payout?", "Release %d payouts?", count) % count,
    effect=gettext_lazy("It goes on to its approvals."),
    undo=gettext_lazy("Yes: hold it."),
    done=lambda count: ngettext("%d payout goes on.", "%d payouts go on.", count) % count,
    permission=DECIDE,
    run=_release,
    offered=lambda payout: payout.state == PayoutState.HELD,
    step_up=payout_approvals.STEP_UP,
)
UNKNOWN = ReasonAction(
    name="unknown",
    verb=gettext_lazy("Outcome unknown"),
    question=lambda count: (
        ngettext("Is the outcome of %d payout unknown?", "Is the outcome of %d payouts unknown?", count)
        % count
    ),
    effect=gettext_lazy("Its money stays where it is until evidence shows what the bank did."),
    undo=gettext_lazy("By evidence and a second person only."),
    done=lambda count: ngettext("%d payout is unknown.", "%d payouts are unknown.", count) % count,
    permission=payout_outcomes.MANAGING,
    run=_unknown,
    offered=lambda payout: payout.state == PayoutState.IN_TRANSIT,
)
RESOLVE = ReasonAction(
    name="resolve",
    verb=gettext_lazy("Settle"),
    question=lambda count: (
        ngettext("Settle the outcome of %d payout?", "Settle the outcome of %d payouts?", count) % count
    ),
    effect=gettext_lazy(
        "A second person is asked, with what you write as evidence: the bank's statement, its"
        " reference, who said so. Their yes carries it out."
    ),
    undo=gettext_lazy("No. A payout that was paid can still be returned by the bank."),
    done=lambda count: (
        ngettext(
            "A second person is asked about %d payout.", "A second person is asked about %d payouts.", count
        )
        % count
    ),
    permission=payout_outcomes.MANAGING,
    run=_resolve,
    offered=lambda payout: payout.state == PayoutState.UNKNOWN,
    step_up=payout_approvals.STEP_UP,
    form=ResolveForm,
)


@admin.register(Payout)
class PayoutAdmin(ConsoleModelAdmin):
    """What vendors asked for, and where it is."""

    group, position = "money", 40
    summary = gettext_lazy(
        "Payouts, newest first. Who asked, gets it or entered the account never approves it."
    )
    empty = gettext_lazy("A payout appears here when a vendor asks for one, or `payouts run` does.")
    secret_fields = ("content_hash",)
    list_display = ("what", "state_word", "vendor_name", "account", "needed", "requested_at", "money")
    list_select_related = ("vendor", "vendor__vendor_profile", "bank_account", "batch")
    list_filter = (
        choice_filter(
            parameter="state",
            title=gettext_lazy("State"),
            choices=[(state.value, word) for state, word in WORDS.items()],
        ),
        WindowFilter.on("requested_at"),
    )
    open_lookups = ("vendor_id", "batch_id", "bank_account_id")
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-id",)),)
    numeric_columns = ("money",)
    search_in = (SearchField("payout_number", "exact", str.upper), SearchField("id"))
    search_help_text = gettext_lazy("The whole payout number or id")
    reason_actions = (APPROVE, REJECT, HOLD, RELEASE, UNKNOWN, RESOLVE)
    sections = (
        (
            gettext_lazy("Payout"),
            ("id", "payout_number", "money", "vendor_name", "account", "asked_by", "origin", "observations"),
        ),
        (gettext_lazy("Decision"), ("why", "missing", "needs_lead", "file", "provider_reference")),
        (gettext_lazy("Ledger"), ("reservation", "posting")),
        (
            gettext_lazy("Times"),
            (
                "requested_at", "expires_at", "approved_at", "submitted_at", "paid_at", "closed_at",
            ),
        ),
    )  # fmt: skip

    @admin.display(description=gettext_lazy("payout"))
    def what(self, payout: Payout) -> SafeString:
        return display.two_lines(payout.payout_number, payout_words.reason(payout.state_reason))

    @admin.display(description=gettext_lazy("state"))
    def state_word(self, payout: Payout) -> SafeString | str:
        return payout_words.state(payout)

    def state_of(self, row: Payout) -> SafeString | str:
        return payout_words.state(row)

    @admin.display(description=gettext_lazy("vendor"))
    def vendor_name(self, payout: Payout) -> SafeString:
        return vendor(payout.vendor)

    @admin.display(description=gettext_lazy("account"))
    def account(self, payout: Payout) -> SafeString:
        url = reverse("admin:finance_bankaccount_change", args=[payout.bank_account_id])
        return display.link(url, payout.bank_account)

    @admin.display(description=gettext_lazy("approvals needed"))
    def needed(self, payout: Payout) -> str:
        text = str(payout.approvals_needed)
        return _("%(count)s, a lead among them") % {"count": text} if payout.needs_lead else text

    @admin.display(description=gettext_lazy("amount"))
    def money(self, payout: Payout) -> SafeString:
        return amount(payout.amount_minor, payout.currency)

    @admin.display(description=gettext_lazy("asked for by"))
    def asked_by(self, payout: Payout) -> SafeString | str:
        if payout.requested_by is None:
            return _("a batch run")
        url = reverse("admin:accounts_user_change", args=[payout.requested_by])
        return display.link(url, display.short_id(payout.requested_by))

    @admin.display(description=gettext_lazy("why it stands there"))
    def why(self, payout: Payout) -> str:
        return payout_words.reason(payout.state_reason)

    @admin.display(description=gettext_lazy("people who still have to agree"))
    def missing(self, payout: Payout) -> SafeString | str:
        if payout.state != PayoutState.SCREENED:
            return display.EMPTY
        return payout_words.missing(payout_approvals.standing(payout).missing(payout))

    @admin.display(description=gettext_lazy("bank file"))
    def file(self, payout: Payout) -> SafeString | str:
        if payout.batch is None:
            return display.EMPTY
        return display.link(reverse("admin:finance_payoutbatch_change", args=[payout.batch_id]), payout.batch)

    @admin.display(description=gettext_lazy("reservation"))
    def reservation(self, payout: Payout) -> SafeString | str:
        return entry_link(payout.reserve_entry_id)

    @admin.display(description=gettext_lazy("posting"))
    def posting(self, payout: Payout) -> SafeString | str:
        return entry_link(payout.post_entry_id)

    def tables(self, request: HttpRequest, row: Payout) -> Iterable[Table]:  # the base's
        """Who agreed, and how it came to where it stands."""
        yield _approvals(row)
        yield _changes(row)

    def links(self, request: HttpRequest, row: Payout) -> Iterable[tuple[str, str]]:
        here = reverse("admin:finance_payout_changelist")
        yield _("Payouts of this vendor"), f"{here}?vendor_id={row.vendor_id}"


def _approvals(row: Payout) -> Table:
    cells: list[tuple[Any, ...]] = [
        (
            display.link(reverse("admin:accounts_user_change", args=[one.approver_id]), one.approver),
            _("finance lead") if one.as_lead else _("approver"),
            one.reason,
            display.moment(one.approved_at),
            display.moment(payout_approvals.lives_until(one)),
        )
        for one in payout_reads.approvals_of(row)
    ]
    return Table(
        title=_("Approvals"),
        headers=(_("Who"), _("As"), _("Why"), _("When"), _("Counts until")),
        rows=cells,
        empty=_("Nobody has agreed yet."),
    )


def _changes(row: Payout) -> Table:
    cells: list[tuple[Any, ...]] = [
        (
            WORDS[PayoutState(one.after)],
            payout_words.reason(one.reason),
            display.short_id(one.changed_by) if one.changed_by else display.EMPTY,
            display.moment(one.changed_at),
        )
        for one in payout_reads.changes_of(row)
    ]
    return Table(
        title=_("What happened"),
        headers=(_("State"), _("Why"), _("By"), _("When")),
        rows=cells,
        empty=_("Nothing yet."),
    )
