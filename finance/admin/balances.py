"""What vendors have: available, reserved, pending, owed; with their statements, and journals by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseNotAllowed
from django.urls import path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts import grants, vendors
from finance import journals, statements, vendor_balances
from finance.admin.cells import amount, book, entry_link
from finance.api import statements as statement_answers
from finance.models import GuardedBalance, LedgerAccount
from mestore.lib import actor, sql
from mestore.lib.actor import Actor
from mestore.lib.console import ConsoleModelAdmin, Ordering, ReasonAction, SearchField, Table, display
from mestore.lib.console.actions import ReasonForm
from mestore.lib.errors import MeStoreError

grants.register_model_permission(
    "finance.guardedbalance", view="transactions.read.read_only", change=journals.ASKING
)

_SHOWN: Final = 25
# For one page of accounts: the other balances of the same vendor and currency, from the last snapshot on.
_BESIDE: Final = """
SELECT a.book_id, a.currency, a.kind,
       coalesce(s.credit, 0) - coalesce(s.debit, 0)
       + coalesce((SELECT sum(t.amount) FROM ledger_transfer t
                   WHERE t.book_id = a.book_id AND t.credit = a.id AND t.xid >= coalesce(s.horizon, '0'::xid8)
                     AND t.phase IN ('single', 'post')), 0)
       - coalesce((SELECT sum(t.amount) FROM ledger_transfer t
                   WHERE t.book_id = a.book_id AND t.debit = a.id AND t.xid >= coalesce(s.horizon, '0'::xid8)
                     AND t.phase IN ('single', 'post')), 0)
FROM ledger_account a
LEFT JOIN LATERAL (
    SELECT s.debit, s.credit, s.horizon FROM ledger_snapshot s
    WHERE s.book_id = a.book_id AND s.account_id = a.id ORDER BY s.horizon DESC LIMIT 1) s ON true
WHERE a.book_id = ANY(%s) AND a.kind IN ('vendor_pending', 'vendor_receivable')
"""
KIND_WORDS: Final = {
    "vendor_available": gettext_lazy("available"),
    "vendor_pending": gettext_lazy("pending"),
    "vendor_receivable": gettext_lazy("owed by the vendor"),
    "suspense": gettext_lazy("suspense"),
    "rounding": gettext_lazy("rounding"),
    "platform_fee": gettext_lazy("the platform's commission"),
}


class JournalForm(ReasonForm):
    """From where to where, and how much."""

    debit = forms.ChoiceField(
        label=gettext_lazy("From (debit)"), choices=[(kind, KIND_WORDS[kind]) for kind in journals.KINDS]
    )
    credit = forms.ChoiceField(
        label=gettext_lazy("To (credit)"), choices=[(kind, KIND_WORDS[kind]) for kind in journals.KINDS]
    )
    amount = forms.CharField(
        label=gettext_lazy("Amount"), max_length=24,
        help_text=gettext_lazy("In the currency of the account, as 1500.00"),
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )  # fmt: skip


def _journal(row: GuardedBalance, *, debit: str, credit: str, amount: str, reason: str, by: Actor) -> None:
    currency = LedgerAccount.objects.values_list("currency", flat=True).get(pk=row.pk)
    journals.ask(
        vendor_id=row.book_id, debit=debit, credit=credit, amount=amount.strip(), currency=currency,
        reason=reason, by=by,
    )  # fmt: skip


JOURNAL: Final = ReasonAction(
    name="journal",
    verb=gettext_lazy("Post by hand"),
    question=lambda count: (
        ngettext("Ask for a journal in this account's book?", "Ask for a journal in %(count)s books?", count)
        % {"count": count}
    ),
    effect=gettext_lazy("A second person decides. With their yes the amount moves between the two accounts."),
    undo=gettext_lazy("By another journal in the other direction; both stay in the books."),
    done=lambda _count: _("Asked. Somebody else has to approve it."),
    permission="finance.change_guardedbalance",
    run=_journal,
    step_up=journals.STEP_UP,
    form=JournalForm,
)


@admin.register(GuardedBalance)
class GuardedBalanceAdmin(ConsoleModelAdmin):
    """Balances that money can leave from, with what stands beside them."""

    group = "money"
    position = 30
    label = gettext_lazy("Vendor balances")
    summary = gettext_lazy(
        "One row per vendor and currency from the first settlement on. What is pending and owed is summed up"
        " now, from the ledger."
    )
    empty = gettext_lazy("A balance appears here with a vendor's first settlement.")
    list_display = ("whose", "available", "reserved_now", "pending", "owed", "lines")
    numeric_columns = ("available", "reserved_now", "pending", "owed", "lines")
    open_lookups = ("book_id",)
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-id",)),)
    search_in = (SearchField("book_id"),)
    search_help_text = gettext_lazy("The whole id of the vendor")
    sections = (
        (gettext_lazy("Account"), ("whose", "id", "currency")),
        (gettext_lazy("May leave"), ("available", "reserved_now", "lines")),
    )
    reason_actions = (JOURNAL,)

    def page_read(self, rows: Sequence[GuardedBalance]) -> None:
        """Two more statements for a page: the accounts' currencies, and what stands beside them."""
        currencies = dict(
            LedgerAccount.objects.filter(pk__in=[row.pk for row in rows]).values_list("pk", "currency")
        )
        books = sorted({row.book_id for row in rows})
        beside: dict[tuple[UUID, str, str], int] = {
            (owner, currency, kind): int(minor)
            for owner, currency, kind, minor in (sql.fetch_all(_BESIDE, [books]) if books else ())
        }
        for row in rows:
            row.read = (currencies[row.pk], beside)  # type: ignore[attr-defined]  # for the cells of this page

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        row = super().get_object(request, object_id, from_field)
        if row is not None:
            self.page_read([row])
        return row

    @admin.display(description=gettext_lazy("vendor"))
    def whose(self, row: Any) -> SafeString | str:
        return book(row.book_id)

    @admin.display(description=gettext_lazy("currency"))
    def currency(self, row: Any) -> str:
        return str(row.read[0])

    @admin.display(description=gettext_lazy("available"))
    def available(self, row: Any) -> SafeString:
        return amount(row.posted - row.reserved, row.read[0])

    @admin.display(description=gettext_lazy("reserved"))
    def reserved_now(self, row: Any) -> SafeString:
        return amount(row.reserved, row.read[0])

    @admin.display(description=gettext_lazy("pending"))
    def pending(self, row: Any) -> SafeString:
        return amount(_beside(row, "vendor_pending"), row.read[0])

    @admin.display(description=gettext_lazy("owed by the vendor"))
    def owed(self, row: Any) -> SafeString:
        return amount(-_beside(row, "vendor_receivable"), row.read[0])

    @admin.display(description=gettext_lazy("movements"))
    def lines(self, row: Any) -> SafeString:
        return display.numeric(display.number(row.seq))

    def name_of(self, row: Any) -> str:
        if not hasattr(row, "read"):  # on the page that asks for a reason
            self.page_read([row])
        return f"{display.short_id(row.book_id)} · {row.read[0]}"

    def tables(self, request: HttpRequest, row: Any) -> Iterable[Table]:
        yield _balances_of(row.book_id)
        yield _lines_of(row)

    def links(self, request: HttpRequest, row: Any) -> Iterable[tuple[str, str]]:
        address = reverse("admin:finance_guardedbalance_statement", args=[row.pk])
        yield _("Statement to print"), address
        yield _("Statement as CSV"), f"{address}?format=csv"
        entries = reverse("admin:finance_ledgerentry_changelist")
        yield _("Entries of this book"), f"{entries}?book_id={row.book_id}"

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.statement_view)
        address = path("<path:object_id>/statement/", view, name="finance_guardedbalance_statement")
        return [address, *super().get_urls()]

    def statement_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """The statement of one account: a page to print, or CSV. What is taken away is recorded."""
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(("GET", "HEAD"))
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404(_("There is no such row, or it is gone."))
        form = "csv" if request.GET.get("format") == "csv" else "html"
        try:
            vendor = vendors.find(row.book_id)
        except MeStoreError as gone:
            raise Http404(str(gone.message)) from gone
        statement = statements.read(row.book_id, currency=row.read[0])
        if form == "html" and statement.lines > statements.MOST_PRINTED:
            form = "csv"  # what paper cannot hold
        statements.record_taken(statement, form, by=actor.of(request))
        if form == "csv":
            return statement_answers.csv_answer(statement)
        return statement_answers.print_answer(request, statement, vendor)


def _beside(row: Any, kind: str) -> int:
    currency, beside = row.read
    found: int = beside.get((row.book_id, currency, kind), 0)
    return found


def _balances_of(vendor: UUID) -> Table:
    return Table(
        title=_("Balances"),
        headers=[_("Currency"), _("Available"), _("Reserved"), _("Pending"), _("In transit"), _("Owed")],
        rows=[
            (
                one.currency,
                *(
                    amount(minor, one.currency)
                    for minor in (one.available, one.reserved, one.pending, one.in_transit, one.owed)
                ),
            )
            for one in vendor_balances.balances(vendor)
        ],
        empty=_("Nothing moved yet."),
        numeric=frozenset(range(1, 6)),
    )


def _lines_of(row: Any) -> Table:
    currency = row.read[0]
    newest = statements.Statement(
        row.book_id, currency, (currency,), None, None, row.pk, max(row.seq - _SHOWN, 0), row.seq
    )
    lines = statements.page(newest, limit=_SHOWN)
    return Table(
        title=_("Newest movements"),
        headers=[_("No."), _("Recorded"), _("Movement"), _("Entry"), _("Amount"), _("Balance")],
        rows=[
            (
                line.number,
                display.moment(line.recorded_at),
                line.word,
                entry_link(line.entry_id),
                amount(line.amount, currency),
                amount(line.balance, currency),
            )
            for line in reversed(lines)
        ],
        empty=_("Nothing moved yet."),
        note=_("The numbers have no gap; each balance is the sum of all amounts so far."),
        numeric=frozenset({0, 4, 5}),
    )
