"""The console's pages of bank files: making one, handing it over, reading the bank's answer."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts import grants
from finance import payout_batches, payout_outcomes
from finance.admin import payout_words
from finance.admin.cells import amount
from finance.models import Payout, PayoutBatch
from mestore.lib import actor, guard
from mestore.lib.actor import Actor
from mestore.lib.console import (
    ConsoleModelAdmin,
    Ordering,
    ReasonAction,
    SearchField,
    State,
    Table,
    actions,
    display,
)
from mestore.lib.console.actions import ReasonForm
from mestore.lib.errors import MeStoreError
from mestore.lib.http import attachment

grants.register_model_permission(
    "finance.payoutbatch", view="payments.read.read_only", change=payout_batches.EXPORTING
)
CHANGE = "finance.change_payoutbatch"
_SHOWN = 200


class MakeForm(ReasonForm):
    """Which payouts, in which layout."""

    currency = forms.ChoiceField(
        label=gettext_lazy("Currency"), choices=[(code, code) for code in settings.PAYOUT_BOUNDS]
    )
    layout = forms.ChoiceField(
        label=gettext_lazy("Layout"), choices=[("csv", "CSV"), ("pab", "PAB (Bancolombia)")]
    )


class AnswerForm(ReasonForm):
    """What the bank says, as the lines of its file."""

    answer = forms.CharField(
        label=gettext_lazy("The bank's answer"),
        max_length=1_000_000,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 8, "autocomplete": "off", "spellcheck": "false"}),
        help_text=gettext_lazy("CSV with the columns reference, outcome, amount, bank_reference, reason."),
    )


def _discard(batch: PayoutBatch, *, reason: str, by: Actor) -> None:
    payout_batches.discard(batch.pk, reason=reason, by=by)


def _again(batch: PayoutBatch, *, reason: str, by: Actor) -> None:
    payout_batches.ask_again(batch.pk, reason=reason, by=by)


def _is_here(batch: PayoutBatch) -> bool:
    return bool(batch.file)


MAKE = ReasonAction(
    name="make",
    verb=gettext_lazy("Make the file"),
    question=lambda _count: _("Make a bank file?"),
    effect=gettext_lazy(
        "Every approved payout that may go now is put into one file. Somebody else hands it over."
    ),
    undo=gettext_lazy("Yes, until it is handed over: throw it away. Its payouts are rejected then."),
    done=lambda _count: _("The bank file was made."),
    permission=CHANGE,
    run=payout_batches.make,
    step_up=payout_batches.STEP_UP,
    form=MakeForm,
)
TAKE = ReasonAction(
    name="take",
    verb=gettext_lazy("Hand over"),
    question=lambda _count: _("Hand this bank file over?"),
    effect=gettext_lazy("The file is downloaded, and its payouts are sent: their money leaves the books."),
    undo=gettext_lazy("No. What the bank gives back is taken back when its answer is read."),
    done=lambda _count: _("Handed over."),
    permission=CHANGE,
    run=payout_batches.hand_over,
    step_up=payout_batches.STEP_UP,
)
ANSWER = ReasonAction(
    name="answer",
    verb=gettext_lazy("Read the answer"),
    question=lambda _count: _("Read the bank's answer?"),
    effect=gettext_lazy("Each line is taken over by itself; what does not fit changes nothing and is shown."),
    undo=gettext_lazy("A payout that was paid can still be returned. The same answer again changes nothing."),
    done=lambda _count: _("The answer was read."),
    permission=CHANGE,
    run=payout_outcomes.import_answer,
    step_up=payout_batches.STEP_UP,
    form=AnswerForm,
)
DISCARD = ReasonAction(
    name="discard",
    verb=gettext_lazy("Throw away"),
    question=lambda count: ngettext("Throw %d file away?", "Throw %d files away?", count) % count,
    effect=gettext_lazy("Its payouts are rejected, their amounts available to the vendors again."),
    undo=gettext_lazy("No. The vendors ask again."),
    done=lambda count: ngettext("%d file was thrown away.", "%d files were thrown away.", count) % count,
    permission=CHANGE,
    run=_discard,
    offered=lambda batch: _is_here(batch) and batch.sent_at is None,
    step_up=payout_batches.STEP_UP,
)
AGAIN = ReasonAction(
    name="again",
    verb=gettext_lazy("Ask to take it again"),
    question=lambda count: ngettext("Ask for %d file again?", "Ask for %d files again?", count) % count,
    effect=gettext_lazy("A second person is asked. After that you can download it once more."),
    undo=gettext_lazy("Yes: withdraw the request."),
    done=lambda count: (
        ngettext("A second person is asked about %d file.", "A second person is asked about %d files.", count)
        % count
    ),
    permission=CHANGE,
    run=_again,
    offered=lambda batch: _is_here(batch) and batch.sent_at is not None,
    step_up=payout_batches.STEP_UP,
)


@admin.register(PayoutBatch)
class PayoutBatchAdmin(ConsoleModelAdmin):
    """Files for the bank, each with its control totals."""

    group, position = "money", 41
    label = gettext_lazy("Bank files")
    summary = gettext_lazy("One file per run: who made it does not hand it over.")
    empty = gettext_lazy("A bank file appears here when approved payouts are put into one.")
    secret_fields = ("file",)
    list_display = ("what", "state_word", "layout", "payout_count", "made_by", "created_at", "money")
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-id",)),)
    numeric_columns = ("payout_count", "money")
    search_in = (SearchField("batch_number", "exact", str.upper), SearchField("id"))
    search_help_text = gettext_lazy("The whole number of a bank file")
    reason_actions = (DISCARD, AGAIN)
    sections = (
        (gettext_lazy("Bank file"), ("id", "batch_number", "layout", "made_by", "created_at", "sent_at")),
        (gettext_lazy("Control totals"), ("payout_count", "money", "digest")),
    )

    @admin.display(description=gettext_lazy("bank file"))
    def what(self, batch: PayoutBatch) -> SafeString:
        return display.two_lines(batch.batch_number, batch.currency)

    @admin.display(description=gettext_lazy("state"))
    def state_word(self, batch: PayoutBatch) -> SafeString | str:
        if batch.sent_at is not None:
            return display.state(State.GOOD, _("handed over"))
        if not batch.file:
            return _("thrown away")
        return display.state(State.WARNING, _("waits to be handed over"))

    def state_of(self, row: PayoutBatch) -> SafeString | str:
        return self.state_word(row)

    @admin.display(description=gettext_lazy("made by"))
    def made_by(self, batch: PayoutBatch) -> SafeString | str:
        if batch.created_by is None:
            return _("a command")
        url = reverse("admin:accounts_user_change", args=[batch.created_by])
        return display.link(url, display.short_id(batch.created_by))

    @admin.display(description=gettext_lazy("sum"))
    def money(self, batch: PayoutBatch) -> SafeString:
        return amount(batch.total_minor, batch.currency)

    @admin.display(description=gettext_lazy("SHA-256 of the file"))
    def digest(self, batch: PayoutBatch) -> SafeString:
        return display.code(bytes(batch.file_digest or b"").hex())

    def tables(self, request: HttpRequest, row: PayoutBatch) -> Iterable[Table]:  # the base's
        """The payouts in it."""
        found = Payout.objects.filter(batch=row).select_related("bank_account").order_by("id")[:_SHOWN]
        return (
            Table(
                title=_("Payouts in it"),
                headers=(_("Number"), _("State"), _("Account"), _("Amount")),
                rows=[
                    (
                        display.link(
                            reverse("admin:finance_payout_change", args=[one.pk]), one.payout_number
                        ),
                        payout_words.state(one),
                        str(one.bank_account),
                        amount(one.amount_minor, one.currency),
                    )
                    for one in found
                ],
                empty=_("None."),
                numeric=frozenset({3}),
            ),
        )

    def list_links(self, request: HttpRequest) -> Iterable[tuple[str, str]]:
        if request.user.has_perm(CHANGE):
            yield str(MAKE.verb), reverse("admin:finance_payoutbatch_make")

    def links(self, request: HttpRequest, row: PayoutBatch) -> Iterable[tuple[str, str]]:
        if not request.user.has_perm(CHANGE):
            return
        if row.file:
            yield str(TAKE.verb), reverse("admin:finance_payoutbatch_take", args=[row.pk])
        if row.sent_at is not None:
            yield str(ANSWER.verb), reverse("admin:finance_payoutbatch_answer", args=[row.pk])

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("make/", wrap(self.make_view), name="finance_payoutbatch_make"),
            path("<uuid:batch_id>/take/", wrap(self.take_view), name="finance_payoutbatch_take"),
            path("<uuid:batch_id>/answer/", wrap(self.answer_view), name="finance_payoutbatch_answer"),
            *super().get_urls(),
        ]

    def make_view(self, request: HttpRequest) -> HttpResponse:
        """Ask what for, then make the file and show it."""
        form = _asked(request, MAKE)
        if form.is_valid():
            given = form.cleaned_data
            try:
                made = payout_batches.make(
                    currency=given["currency"], layout=given["layout"], by=actor.of(request)
                )
            except MeStoreError as refused:
                form.add_error(None, str(refused.message))
                return self._page(request, MAKE, form, None, status=409)
            for number, why in made.left_out:
                messages.warning(request, f"{number}: {payout_words.reason(why)}")
            if made.batch is None:
                form.add_error(None, _("No approved payout can go into this file."))
                return self._page(request, MAKE, form, None, status=409)
            messages.success(request, _("The bank file was made. Somebody else hands it over."))
            return HttpResponseRedirect(
                reverse("admin:finance_payoutbatch_change", args=[made.batch.pk])
            )  # fmt: skip
        return self._page(request, MAKE, form, None)

    def take_view(self, request: HttpRequest, batch_id: UUID) -> HttpResponse:
        """Ask why, then send the file."""
        batch, form = self._batch(batch_id), _asked(request, TAKE)
        if form.is_valid():
            try:
                file = payout_batches.hand_over(
                    batch_id, reason=form.cleaned_data["reason"], by=actor.of(request)
                )
            except MeStoreError as refused:
                form.add_error(None, str(refused.message))
                return self._page(request, TAKE, form, batch, status=409)
            return attachment(file.name, file.content)
        return self._page(request, TAKE, form, batch)

    def answer_view(self, request: HttpRequest, batch_id: UUID) -> HttpResponse:
        """Ask for the lines of the bank's answer, then say what was done with each that needs a look."""
        batch, form = self._batch(batch_id), _asked(request, ANSWER)
        if form.is_valid():
            content = form.cleaned_data["answer"].encode()
            try:
                read = payout_outcomes.import_answer(batch_id, content, by=actor.of(request))
            except MeStoreError as refused:
                form.add_error(None, str(refused.message))
                return self._page(request, ANSWER, form, batch, status=409)
            counted = {"done": read.count("done"), "unchanged": read.count("unchanged")}
            messages.success(request, _("%(done)d taken over, %(unchanged)d known already.") % counted)
            for line in read.open[:_SHOWN]:
                messages.error(request, f"{line.line}: {line.reference} {line.result}")
            return HttpResponseRedirect(reverse("admin:finance_payoutbatch_change", args=[batch_id]))
        return self._page(request, ANSWER, form, batch)

    def _batch(self, batch_id: UUID) -> PayoutBatch:
        batch = PayoutBatch.objects.filter(pk=batch_id).first()
        if batch is None:
            raise Http404(_("There is no such bank file."))
        return batch

    def _page(
        self,
        request: HttpRequest,
        action: ReasonAction,
        form: ReasonForm,
        batch: PayoutBatch | None,
        *,
        status: int | None = None,
    ) -> HttpResponse:
        back = reverse("admin:finance_payoutbatch_changelist")
        if batch is not None:
            back = reverse("admin:finance_payoutbatch_change", args=[batch.pk])
        rows = [(str(batch.pk), f"{batch.batch_number}, {batch.payout_count}")] if batch else []
        return actions.ask(
            request,
            action,
            rows=rows,
            form=form,
            site=self.admin_site,
            back=(self.title, back),
            status=status,
        )


def _asked(request: HttpRequest, action: ReasonAction) -> ReasonForm:
    """Let in who may and proved a factor freshly; return the form of the page."""
    if not action.allowed(request):
        raise PermissionDenied
    request.step_up_back = request.path  # type: ignore[attr-defined]  # read at the edge
    guard.require(action.step_up, request)
    return action.form(request.POST if request.method == "POST" else None)
