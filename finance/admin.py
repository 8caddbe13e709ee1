"""The console's pages about money: orders, commissions and the ledger. Nothing here can be changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import grants
from finance.models import Commission, LedgerAccount, LedgerEntry, LedgerTransfer, Order
from finance.money import text_of
from finance.postings import PLATFORM_BOOK
from finance.states import CommissionStatus, CommissionType, OrderStatus
from mestore.lib import console
from mestore.lib.console import ConsoleModelAdmin, Ordering, SearchField, State, Table, WindowFilter, display
from monitoring.models import AuditEvent

grants.register_model_permission("finance.order", view="orders.read.read_only")
grants.register_model_permission("finance.commission", view="commissions.read.read_only")
for _ledger_model in ("ledgerentry", "ledgertransfer", "ledgeraccount"):
    grants.register_model_permission(f"finance.{_ledger_model}", view="transactions.read.read_only")

ORDER_WORDS = {
    OrderStatus.PENDING: gettext_lazy("pending"),
    OrderStatus.CONFIRMED: gettext_lazy("confirmed"),
    OrderStatus.PROCESSING: gettext_lazy("processing"),
    OrderStatus.SHIPPED: gettext_lazy("shipped"),
    OrderStatus.DELIVERED: gettext_lazy("delivered"),
    OrderStatus.CANCELLED: gettext_lazy("cancelled"),
    OrderStatus.REFUNDED: gettext_lazy("refunded"),
}
COMMISSION_WORDS = {
    CommissionStatus.PENDING: gettext_lazy("pending"),
    CommissionStatus.APPROVED: gettext_lazy("approved"),
    CommissionStatus.PAID: gettext_lazy("paid"),
    CommissionStatus.DISPUTED: gettext_lazy("disputed"),
    CommissionStatus.REFUNDED: gettext_lazy("refunded"),
    CommissionStatus.CANCELLED: gettext_lazy("cancelled"),
}
TYPE_WORDS = {
    CommissionType.STANDARD: gettext_lazy("standard"),
    CommissionType.PREMIUM: gettext_lazy("premium"),
    CommissionType.PROMOTIONAL: gettext_lazy("promotional"),
    CommissionType.CATEGORY_BASED: gettext_lazy("by category"),
}


def amount(minor: int, currency: str) -> SafeString:
    """Minor units as people read them."""
    return display.amount(text_of(minor, currency), currency)


def book(book_id: UUID) -> SafeString | str:
    """Whose book it is: the platform's own, or a vendor's with a link to the account."""
    if book_id == PLATFORM_BOOK:
        return _("platform")
    return display.link(reverse("admin:accounts_user_change", args=[book_id]), display.short_id(book_id))


def entry_link(entry_id: UUID | None) -> SafeString | str:
    if entry_id is None:
        return _("not posted")
    return display.link(reverse("admin:finance_ledgerentry_change", args=[entry_id]), str(entry_id))


@admin.register(Order)
class OrderAdmin(ConsoleModelAdmin):
    """Orders as money."""

    group, position = "money", 10
    summary = gettext_lazy("Orders by the moment they were placed, newest first.")
    empty = gettext_lazy("Orders appear here when the storefront posts one or `import_orders` reads a file.")
    list_display = ("what", "state", "placed_at", "source", "total_amount")
    list_select_related = ("buyer",)
    list_filter = (
        console.choice_filter(
            parameter="status",
            title=gettext_lazy("Status"),
            choices=[(status.value, word) for status, word in ORDER_WORDS.items()],
        ),
        WindowFilter.on("placed_at"),
    )
    orderings = (
        Ordering("placed", gettext_lazy("newest placed"), ("-placed_at", "-id")),
        Ordering("recorded", gettext_lazy("newest recorded"), ("-id",)),
    )
    numeric_columns = ("total_amount",)
    labels = {"shipping_city": gettext_lazy("city"), "shipping_country": gettext_lazy("country")}
    search_in = (SearchField("order_number", "exact", str.upper), SearchField("id"))
    search_help_text = gettext_lazy("The whole order number or id")
    sections = (
        (
            gettext_lazy("Order"),
            (
                "id",
                "order_number",
                "source",
                "external_reference",
                "buyer_name",
                "shipping_city",
                "shipping_country",
            ),
        ),
        (gettext_lazy("Amounts"), ("subtotal", "tax", "shipping", "discount", "total_amount")),
        (
            gettext_lazy("Times"),
            (
                "placed_at",
                "confirmed_at",
                "shipped_at",
                "delivered_at",
                "cancelled_at",
                "created_at",
                "updated_at",
            ),
        ),
    )

    @admin.display(description=gettext_lazy("order"))
    def what(self, order: Order) -> SafeString:
        return display.two_lines(order.order_number, order.external_reference or order.buyer_reference)

    @admin.display(description=gettext_lazy("status"))
    def state(self, order: Order) -> str:
        return str(ORDER_WORDS.get(OrderStatus(order.status), order.status))

    def state_of(self, row: Order) -> str:
        return self.state(row)

    @admin.display(description=gettext_lazy("buyer"))
    def buyer_name(self, order: Order) -> str:
        return str(order.buyer) if order.buyer else order.buyer_reference

    @admin.display(description=gettext_lazy("subtotal"))
    def subtotal(self, order: Order) -> SafeString:
        return amount(order.subtotal_minor, order.currency)

    @admin.display(description=gettext_lazy("tax"))
    def tax(self, order: Order) -> SafeString:
        return amount(order.tax_minor, order.currency)

    @admin.display(description=gettext_lazy("shipping"))
    def shipping(self, order: Order) -> SafeString:
        return amount(order.shipping_minor, order.currency)

    @admin.display(description=gettext_lazy("discount"))
    def discount(self, order: Order) -> SafeString:
        return amount(order.discount_minor, order.currency)

    @admin.display(description=gettext_lazy("total"))
    def total_amount(self, order: Order) -> SafeString:
        return amount(order.total_minor, order.currency)

    def tables(self, request: HttpRequest, row: Order) -> Iterable[Table]:
        yield _items_of(row)
        yield _payments_of(row)
        if request.user.has_perm("finance.view_commission"):
            yield _commissions_of(row)


def _items_of(order: Order) -> Table:
    items = order.items.select_related("vendor__vendor_profile").order_by("line")[:200]
    return Table(
        title=_("Items"),
        headers=[
            "#",
            _("Product"),
            _("Vendor"),
            _("Quantity"),
            _("Unit price"),
            _("Line total"),
            _("Shipping"),
        ],
        rows=[
            (
                item.line,
                display.two_lines(item.name or item.product_id, item.category),
                _vendor(item.vendor),
                item.quantity,
                amount(item.unit_price_minor, order.currency),
                amount(item.line_total_minor, order.currency),
                amount(item.shipping_minor, order.currency),
            )
            for item in items
        ],
        empty=_("This order has no items."),
        numeric=frozenset({3, 4, 5, 6}),
    )


def _payments_of(order: Order) -> Table:
    return Table(
        title=_("Payments"),
        headers=["#", _("Method"), _("Provider"), _("Installments"), _("Status"), _("Amount")],
        rows=[
            (
                payment.sequence,
                payment.method,
                payment.provider,
                payment.installments,
                payment.status,
                amount(payment.amount_minor, order.currency),
            )
            for payment in order.payments.order_by("sequence")[:100]
        ],
        empty=_("No provider has reported a payment for this order."),
        numeric=frozenset({3, 5}),
    )


def _commissions_of(order: Order) -> Table:
    found = order.commissions.select_related("vendor__vendor_profile").order_by("commission_number")[:100]
    return Table(
        title=_("Commissions"),
        headers=[
            _("Number"),
            _("Vendor"),
            _("Status"),
            _("Base"),
            _("Rate"),
            _("Commission"),
            _("Vendor amount"),
        ],
        rows=[
            (
                display.link(
                    reverse("admin:finance_commission_change", args=[commission.pk]),
                    commission.commission_number,
                ),
                _vendor(commission.vendor),
                COMMISSION_WORDS[CommissionStatus(commission.status)],
                amount(commission.order_amount_minor, commission.currency),
                _percent(commission.rate_ppm),
                amount(commission.commission_amount_minor, commission.currency),
                amount(commission.vendor_amount_minor, commission.currency),
            )
            for commission in found
        ],
        empty=_("No commission: the order has not counted as sold."),
        numeric=frozenset({3, 4, 5, 6}),
    )


def _vendor(user: Any) -> SafeString:
    profile = getattr(user, "vendor_profile", None)
    return display.link(reverse("admin:accounts_user_change", args=[user.pk]), profile or user)


def _percent(ppm: int) -> str:
    whole, rest = divmod(ppm, 10_000)
    return f"{whole}.{rest:04d}".rstrip("0").rstrip(".") + " %"


@admin.register(Commission)
class CommissionAdmin(ConsoleModelAdmin):
    """What the platform keeps of each vendor's part of each order."""

    group, position = "money", 20
    summary = gettext_lazy("One commission per vendor and order, by the moment the sale counted.")
    empty = gettext_lazy("A commission appears here for each vendor of an order that counts as sold.")
    list_display = ("what", "state", "vendor_name", "calculated_at", "rate_text", "kept", "paid_on")
    list_select_related = ("order", "vendor", "vendor__vendor_profile")
    list_filter = (
        console.choice_filter(
            parameter="status",
            title=gettext_lazy("Status"),
            choices=[(status.value, word) for status, word in COMMISSION_WORDS.items()],
        ),
        console.choice_filter(
            parameter="commission_type",
            title=gettext_lazy("Type"),
            choices=[(kind.value, word) for kind, word in TYPE_WORDS.items()],
        ),
        WindowFilter.on("calculated_at"),
    )
    open_lookups = ("vendor_id",)
    orderings = (
        Ordering("calculated", gettext_lazy("newest sale"), ("-calculated_at", "-id")),
        Ordering("recorded", gettext_lazy("newest recorded"), ("-id",)),
    )
    numeric_columns = ("rate_text", "kept", "paid_on")
    search_in = (SearchField("commission_number"), SearchField("id"))
    search_help_text = gettext_lazy("The whole commission number or id")
    sections = (
        (
            gettext_lazy("Commission"),
            ("id", "commission_number", "order_of", "vendor_name", "type_word", "entry", "notes"),
        ),
        (gettext_lazy("Amounts"), ("base", "rate_text", "kept", "paid_on")),
        (gettext_lazy("Times"), ("calculated_at", "approved_at", "paid_at", "created_at", "updated_at")),
    )

    @admin.display(description=gettext_lazy("commission"))
    def what(self, commission: Commission) -> SafeString:
        return display.two_lines(commission.commission_number, commission.order.order_number)

    @admin.display(description=gettext_lazy("status"))
    def state(self, commission: Commission) -> SafeString | str:
        word = COMMISSION_WORDS[CommissionStatus(commission.status)]
        if commission.status == CommissionStatus.DISPUTED:
            return display.state(State.WARNING, word)
        return str(word)

    def state_of(self, row: Commission) -> SafeString | str:
        return self.state(row)

    @admin.display(description=gettext_lazy("order"))
    def order_of(self, commission: Commission) -> SafeString:
        url = reverse("admin:finance_order_change", args=[commission.order_id])
        return display.link(url, commission.order.order_number)

    @admin.display(description=gettext_lazy("vendor"))
    def vendor_name(self, commission: Commission) -> SafeString:
        return _vendor(commission.vendor)

    @admin.display(description=gettext_lazy("type"))
    def type_word(self, commission: Commission) -> str:
        return str(TYPE_WORDS[CommissionType(commission.commission_type)])

    @admin.display(description=gettext_lazy("base"))
    def base(self, commission: Commission) -> SafeString:
        return amount(commission.order_amount_minor, commission.currency)

    @admin.display(description=gettext_lazy("rate"))
    def rate_text(self, commission: Commission) -> SafeString:
        return display.numeric(_percent(commission.rate_ppm))

    @admin.display(description=gettext_lazy("commission"))
    def kept(self, commission: Commission) -> SafeString:
        return amount(commission.commission_amount_minor, commission.currency)

    @admin.display(description=gettext_lazy("vendor amount"))
    def paid_on(self, commission: Commission) -> SafeString:
        return amount(commission.vendor_amount_minor, commission.currency)

    @admin.display(description=gettext_lazy("ledger entry"))
    def entry(self, commission: Commission) -> SafeString | str:
        return entry_link(commission.entry_id)


class LedgerPage(ConsoleModelAdmin):
    """What the pages of the ledger share."""

    group = "money"

    @admin.display(description=gettext_lazy("book"))
    def whose(self, row: Any) -> SafeString | str:
        return book(row.book_id)


@admin.register(LedgerEntry)
class LedgerEntryAdmin(LedgerPage):
    """Business events in the books."""

    position = 30
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
        (gettext_lazy("Entry"), ("id", "kind", "source_event", "whose", "reverses")),
        (gettext_lazy("Control"), ("transfer_count", "total", "actor_kind", "actor_id")),
        (gettext_lazy("Times"), ("occurred_at", "recorded_at")),
    )

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

    def tables(self, request: HttpRequest, row: LedgerEntry) -> Iterable[Table]:
        yield _transfers_of(row)
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

    position = 40
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

    position = 50
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
