"""The books: entries, their transfers, the accounts between which they move."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from finance.admin.cells import amount, book, entry_link
from finance.models import LedgerAccount, LedgerEntry, LedgerTransfer
from mestore.lib import sql
from mestore.lib.console import ConsoleModelAdmin, Ordering, SearchField, Table, display
from monitoring.models import AuditEvent


class LedgerPage(ConsoleModelAdmin):
    """What the pages of the ledger share."""

    group = "money"

    @admin.display(description=gettext_lazy("book"))
    def whose(self, row: Any) -> SafeString | str:
        return book(row.book_id)


@admin.register(LedgerEntry)
class LedgerEntryAdmin(LedgerPage):
    """Business events in the books."""

    position = 70
    label = gettext_lazy("Ledger entries")
    summary = gettext_lazy("One entry per business event and book, newest first. Rows are never changed.")
    empty = gettext_lazy("Entries appear here when a sale counts.")
    secret_fields = ("mac",)
    list_display = ("what", "whose", "occurred_at", "legs", "total")
    numeric_columns = ("legs", "total")
    open_lookups = ("book_id",)
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-id",)),)
    search_in = (SearchField("id"), SearchField("book_id"))
    search_help_text = gettext_lazy("The whole id of the entry or of the book")
    sections = (
        (gettext_lazy("Entry"), ("id", "kind", "source", "whose")),
        (gettext_lazy("Control"), ("transfer_count", "total", "actor_kind", "actor_id")),
        (gettext_lazy("Times"), ("occurred_at", "recorded_at")),
    )

    @admin.display(description=gettext_lazy("source"))
    def source(self, entry: LedgerEntry) -> SafeString | str:
        return source_link(entry.source_event)

    @admin.display(description=gettext_lazy("entry"))
    def what(self, entry: LedgerEntry) -> SafeString:
        return display.two_lines(entry.kind.replace("_", " "), entry.source_event)

    def name_of(self, row: LedgerEntry) -> str:
        return f"{row.kind.replace('_', ' ')} · {row.source_event}"

    @admin.display(description=gettext_lazy("transfers"))
    def legs(self, entry: LedgerEntry) -> SafeString:
        return display.numeric(entry.transfer_count)

    @admin.display(description=gettext_lazy("control total (minor units)"))
    def total(self, entry: LedgerEntry) -> SafeString:
        return display.numeric(display.number(entry.control_total))

    def links(self, request: HttpRequest, row: LedgerEntry) -> Iterable[tuple[str, str]]:
        entries = reverse("admin:finance_ledgerentry_changelist")
        yield _("Entries of this book"), f"{entries}?book_id={row.book_id}"
        if request.user.has_perm("monitoring.view_auditevent"):
            yield _("Proof that it is in the signed log"), reverse("console-event-proof", args=[row.pk])

    def tables(self, request: HttpRequest, row: LedgerEntry) -> Iterable[Table]:
        yield _transfers_of(row)
        yield _reversals_of(row)
        if request.user.has_perm("monitoring.view_auditevent"):
            yield _leaf_of(row)


def _transfers_of(entry: LedgerEntry) -> Table:
    transfers = (
        LedgerTransfer.objects.filter(book_id=entry.book_id, entry_id=entry.pk)
        .select_related("debit", "credit")
        .order_by("seq")
    )
    return Table(
        title=_("Transfers"),
        headers=["#", _("Debit"), _("Credit"), _("Phase"), _("Amount")],
        rows=[
            (
                one.seq,
                _account(one.debit),
                _account(one.credit),
                one.phase,
                amount(one.amount_minor, one.currency),
            )
            for one in transfers
        ],
        note=_(
            "Each row moves one amount from one account of this book to another: it cannot be out of balance."
        ),
        empty=_("No transfers."),
        numeric=frozenset({4}),
    )


# What this entry takes back, and what takes this one back.
_REVERSALS: Final = """
SELECT r.of_entry, r.amount, true FROM ledger_reversal r WHERE r.book_id = %(book)s AND r.entry_id = %(entry)s
UNION ALL
SELECT * FROM (SELECT r.entry_id, r.amount, false FROM ledger_reversal r
               WHERE r.book_id = %(book)s AND r.of_entry = %(entry)s ORDER BY r.seq LIMIT 100) later
"""
# The beginning of a natural key, and the page of what it names.
_SOURCES: Final = {
    "order": "admin:finance_order_change",
    "refund": "admin:finance_refund_change",
    "payout": "admin:finance_payout_change",
    "settlement": "admin:finance_settlementrun_change",
}


def source_link(source: str) -> SafeString | str:
    """The natural key of an entry, as a link to what it came from where there is a page for it."""
    kind, _slash, rest = source.partition("/")
    which = rest.partition("/")[0]
    page = _SOURCES.get(kind)
    if page is None or not which:
        return source
    return display.link(reverse(page, args=[quote(which)]), source)


def _reversals_of(entry: LedgerEntry) -> Table:
    rows = sql.fetch_all(_REVERSALS, {"book": entry.book_id, "entry": entry.pk})
    return Table(
        title=_("Taken back"),
        headers=[_("What"), _("Entry"), _("Minor units")],
        rows=[
            (
                _("this entry takes back of") if is_of_this else _("of this entry was taken back by"),
                entry_link(other),
                display.number(minor),
            )
            for other, minor, is_of_this in rows
        ],
        empty=_("Nothing of this entry was taken back, and it takes nothing back."),
        numeric=frozenset({2}),
    )


def _leaf_of(entry: LedgerEntry) -> Table:
    leaf = AuditEvent.objects.filter(pk=entry.pk).only("id", "occurred_at", "leaf_hash").first()
    rows = []
    if leaf is not None:
        url = reverse("admin:monitoring_auditevent_change", args=[leaf.pk])
        rows.append(
            (
                display.link(url, leaf.pk),
                display.moment(leaf.occurred_at),
                display.code(bytes(leaf.leaf_hash).hex()),
            )
        )
    return Table(
        title=_("Audit leaf"),
        headers=[_("Event"), _("Recorded"), _("Leaf hash")],
        rows=rows,
        empty=_(
            "There is no leaf for this entry: the database writes it with the entry, so somebody removed it."
        ),
    )


def _account(account: LedgerAccount) -> SafeString:
    words = f"{account.kind} · {account.provider}" if account.provider else account.kind
    return display.link(reverse("admin:finance_ledgeraccount_change", args=[account.pk]), words)


@admin.register(LedgerTransfer)
class LedgerTransferAdmin(LedgerPage):
    """Single amounts between two accounts."""

    position = 71
    label = gettext_lazy("Ledger transfers")
    summary = gettext_lazy("Every amount that moved, newest first. Rows are never changed.")
    empty = gettext_lazy("Transfers appear here with the entries they belong to.")
    list_display = ("what", "debit_account", "credit_account", "moved")
    numeric_columns = ("moved",)
    list_select_related = ("debit", "credit", "entry")
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-id",)),)
    search_in = (SearchField("id"),)
    search_help_text = gettext_lazy("The whole id of the transfer")
    sections = (
        (gettext_lazy("Transfer"), ("id", "entry_of", "seq", "whose")),
        (gettext_lazy("Amount"), ("debit_account", "credit_account", "moved", "phase", "pending_id")),
    )

    @admin.display(description=gettext_lazy("transfer"))
    def what(self, transfer: LedgerTransfer) -> SafeString:
        return display.two_lines(f"{transfer.pk}", f"{transfer.entry.source_event} #{transfer.seq}")

    @admin.display(description=gettext_lazy("entry"))
    def entry_of(self, transfer: LedgerTransfer) -> SafeString | str:
        return entry_link(transfer.entry_id)

    @admin.display(description=gettext_lazy("debit"))
    def debit_account(self, transfer: LedgerTransfer) -> SafeString:
        return _account(transfer.debit)

    @admin.display(description=gettext_lazy("credit"))
    def credit_account(self, transfer: LedgerTransfer) -> SafeString:
        return _account(transfer.credit)

    @admin.display(description=gettext_lazy("amount"))
    def moved(self, transfer: LedgerTransfer) -> SafeString:
        return amount(transfer.amount_minor, transfer.currency)


@admin.register(LedgerAccount)
class LedgerAccountAdmin(LedgerPage):
    """The accounts of every book. An account holds no balance: balances are derived."""

    position = 72
    label = gettext_lazy("Ledger accounts")
    summary = gettext_lazy(
        "The accounts of every book, newest first. They hold no balance: balances are derived."
    )
    empty = gettext_lazy("An account is opened with the first transfer that needs it.")
    list_display = ("what", "whose", "currency", "opened_at")
    open_lookups = ("book_id",)
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-id",)),)
    search_in = (SearchField("id"), SearchField("book_id"))
    search_help_text = gettext_lazy("The whole id of the account or of the book")
    sections = ((gettext_lazy("Account"), ("id", "kind", "provider", "currency", "whose", "opened_at")),)

    @admin.display(description=gettext_lazy("account"))
    def what(self, account: LedgerAccount) -> SafeString:
        return display.two_lines(account.kind, account.provider)

    def name_of(self, row: LedgerAccount) -> str:
        return f"{row.kind} {row.currency}"
