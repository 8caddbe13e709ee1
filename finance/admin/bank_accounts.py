"""The console's page of bank accounts: masked; the whole number is shown once, for a reason, and recorded."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts import grants
from finance import bank_accounts
from finance.admin.cells import vendor
from finance.models import BankAccount
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
    choice_filter,
    display,
)

grants.register_model_permission(
    "finance.bankaccount", view=bank_accounts.READING, change=bank_accounts.MANAGING
)
CHANGE = "finance.change_bankaccount"


def _remove(account: BankAccount, *, reason: str, by: Actor) -> None:  # noqa: ARG001  # the capture keeps who
    bank_accounts.remove(account.vendor_id, account.pk, by=by)


REMOVE = ReasonAction(
    name="remove",
    verb=gettext_lazy("Remove"),
    question=lambda count: ngettext("Remove %d bank account?", "Remove %d bank accounts?", count) % count,
    effect=gettext_lazy("No money goes there any more; payouts to it that were not sent are cancelled."),
    undo=gettext_lazy("No. The vendor enters it again, with a new cooling-off."),
    done=lambda count: ngettext("%d account removed.", "%d accounts removed.", count) % count,
    permission=CHANGE,
    run=_remove,
    offered=lambda account: account.removed_at is None,
    step_up="bank.change",
)
REVEAL = ReasonAction(
    name="reveal",
    verb=gettext_lazy("Reveal"),
    question=lambda _count: _("Reveal the number of this bank account?"),
    effect=gettext_lazy("It is shown once, on the next page. The trail keeps who saw it, and why."),
    undo=gettext_lazy("No: what was seen was seen."),
    done=lambda _count: _("Revealed."),
    permission=CHANGE,
    run=bank_accounts.reveal,
    step_up="bank.reveal",
)
_NAMES = {
    "number": gettext_lazy("Account number"),
    "holder": gettext_lazy("Holder"),
    "document": gettext_lazy("Document"),
}


@admin.register(BankAccount)
class BankAccountAdmin(ConsoleModelAdmin):
    """Where vendors' money goes."""

    group, position = "money", 42
    summary = gettext_lazy("Bank accounts of vendors. A new one waits until its cooling-off is over.")
    empty = gettext_lazy("A bank account appears here when a vendor enters one.")
    secret_fields = ("number_index", "fingerprint")
    list_display = ("what", "state_word", "vendor_name", "account_type", "created_at", "usable_from")
    list_select_related = ("vendor", "vendor__vendor_profile")
    list_filter = (
        choice_filter(
            parameter="removed",
            title=gettext_lazy("State"),
            choices=[("no", gettext_lazy("in use")), ("yes", gettext_lazy("removed"))],
            narrow=lambda rows, value: rows.filter(removed_at__isnull=value == "no"),
        ),
    )
    open_lookups = ("vendor_id",)
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-id",)),)
    search_in = (SearchField("id"),)
    search_help_text = gettext_lazy("The whole id")
    reason_actions = (REMOVE,)
    sections = (
        (
            gettext_lazy("Bank account"),
            (
                "id", "vendor_name", "bank_name", "bank_code", "account_type", "masked", "currency", "shared",
                "intact",
            ),
        ),
        (gettext_lazy("Times"), ("created_at", "entered_by", "usable_from", "removed_at")),
    )  # fmt: skip

    @admin.display(description=gettext_lazy("account"))
    def what(self, account: BankAccount) -> SafeString:
        return display.two_lines(str(account), account.currency)

    @admin.display(description=gettext_lazy("state"))
    def state_word(self, account: BankAccount) -> SafeString | str:
        if account.removed_at is not None:
            return _("removed")
        if account.usable_from > timezone.now():
            return display.state(State.WARNING, _("cools off"))
        return display.state(State.GOOD, _("usable"))

    def state_of(self, row: BankAccount) -> SafeString | str:
        return self.state_word(row)

    @admin.display(description=gettext_lazy("vendor"))
    def vendor_name(self, account: BankAccount) -> SafeString:
        return vendor(account.vendor)

    @admin.display(description=gettext_lazy("number"))
    def masked(self, account: BankAccount) -> str:
        return f"···{account.last_four}"

    @admin.display(description=gettext_lazy("other vendors with this number"))
    def shared(self, account: BankAccount) -> SafeString | str:
        count = bank_accounts.others_with(account)
        return display.state(State.WARNING, str(count)) if count else _("none")

    @admin.display(description=gettext_lazy("as it was entered"))
    def intact(self, account: BankAccount) -> SafeString:
        if bank_accounts.is_intact(account):
            return display.state(State.GOOD, _("yes"))
        return display.state(State.CRITICAL, _("no: no payout goes there"))

    @admin.display(description=gettext_lazy("entered by"))
    def entered_by(self, account: BankAccount) -> SafeString:
        url = reverse("admin:accounts_user_change", args=[account.created_by])
        return display.link(url, display.short_id(account.created_by))

    def links(self, request: HttpRequest, row: BankAccount) -> Iterable[tuple[str, str]]:
        if request.user.has_perm(CHANGE):
            yield str(REVEAL.verb), reverse("admin:finance_bankaccount_reveal", args=[row.pk])
        if request.user.has_perm("finance.view_payout"):
            url = reverse("admin:finance_payout_changelist")
            yield _("Payouts to this account"), f"{url}?bank_account_id={row.pk}"

    def get_urls(self) -> list[URLPattern]:
        reveal = path(
            "<uuid:account_id>/reveal/",
            self.admin_site.admin_view(self.reveal_view),
            name="finance_bankaccount_reveal",
        )
        return [reveal, *super().get_urls()]

    def reveal_view(self, request: HttpRequest, account_id: UUID) -> HttpResponse:
        """Ask for the reason, then show the number, once."""
        if not REVEAL.allowed(request):
            raise PermissionDenied
        account = BankAccount.objects.filter(pk=account_id).first()
        if account is None:
            raise Http404(_("There is no such bank account."))
        request.step_up_back = request.path  # type: ignore[attr-defined]  # read at the edge
        guard.require(REVEAL.step_up, request)
        form = REVEAL.form(request.POST if request.method == "POST" else None)
        back = (str(account), reverse("admin:finance_bankaccount_change", args=[account.pk]))
        if form.is_valid():
            found = bank_accounts.reveal(
                account, reason=form.cleaned_data["reason"], by=actor.of(request)
            )  # fmt: skip
            answer: HttpResponse = self._shown(request, found, back)
        else:
            answer = actions.ask(
                request,
                REVEAL,
                rows=[(str(account.pk), str(account))],
                form=form,
                site=self.admin_site,
                back=back,
            )
        answer["Cache-Control"] = "no-store"
        return answer

    def _shown(
        self, request: HttpRequest, found: list[tuple[str, str]], back: tuple[str, str]
    ) -> TemplateResponse:
        request.current_app = self.admin_site.name
        table = Table(
            title=_("Values"),
            headers=[_("What"), _("Value")],
            rows=[(str(_NAMES[name]), value or display.EMPTY) for name, value in found],
            empty="",
        )
        context = {
            **self.admin_site.each_context(request), "title": _("Number of a bank account"),
            "summary": _("Shown once: it is kept by no page, and the trail says that you saw it."),
            "tables": [table], "back": back,
        }  # fmt: skip
        return TemplateResponse(request, "console/tables.html", context)
