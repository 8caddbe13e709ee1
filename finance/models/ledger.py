"""The ledger's tables, read only. Django does not make them and nobody writes them: `ledger_post` does.

They are created by SQL in the first migration: composite keys that begin with the book, foreign keys that
are checked at once, triggers that refuse every change, and no right for the runtime role but SELECT.
The database's key is `(book_id, id)`; Django takes `id`, which is unique as well, for its primary key.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from finance.money import Money


class LedgerAccount(models.Model):
    """One account of one book (a vendor's, or the platform's own) in one currency. It holds no balance."""

    id = models.BigIntegerField(primary_key=True)
    book_id = models.UUIDField(_("book"))
    kind = models.TextField(_("kind"))
    provider = models.TextField(_("provider"))
    currency = models.CharField(_("currency"), max_length=3)
    opened_at = models.DateTimeField(_("opened"))

    class Meta:
        managed = False
        db_table = "ledger_account"
        verbose_name = _("ledger account")
        verbose_name_plural = _("ledger accounts")

    def __str__(self) -> str:
        name = f"{self.kind}:{self.provider}" if self.provider else self.kind
        return f"{name} {self.currency} ({self.book_id})"


class LedgerEntry(models.Model):
    """One business event of one book. `source_event` is its natural key: the same event posts once."""

    id = models.UUIDField(primary_key=True)
    book_id = models.UUIDField(_("book"))
    kind = models.TextField(_("kind"))
    source_event = models.TextField(_("source"))
    occurred_at = models.DateTimeField(_("occurred"))
    recorded_at = models.DateTimeField(_("recorded"))
    actor_kind = models.TextField(_("actor kind"))
    actor_id = models.TextField(_("actor"), null=True)  # noqa: DJ001
    reverses = models.UUIDField(_("reverses"), null=True)
    transfer_count = models.IntegerField(_("transfers"))
    control_total = models.BigIntegerField(_("control total"))
    mac = models.BinaryField(editable=False)

    class Meta:
        managed = False
        db_table = "ledger_entry"
        verbose_name = _("ledger entry")
        verbose_name_plural = _("ledger entries")

    def __str__(self) -> str:
        return f"{self.kind} {self.source_event} ({self.book_id})"


class LedgerTransfer(models.Model):
    """One amount from one account to another of the same book and currency: it cannot be out of balance."""

    id = models.BigIntegerField(primary_key=True)
    book_id = models.UUIDField(_("book"))
    entry = models.ForeignKey(
        LedgerEntry, models.DO_NOTHING, related_name="transfers", verbose_name=_("entry")
    )
    seq = models.SmallIntegerField(_("sequence"))
    debit = models.ForeignKey(
        LedgerAccount, models.DO_NOTHING, db_column="debit", related_name="+", verbose_name=_("debit")
    )
    credit = models.ForeignKey(
        LedgerAccount, models.DO_NOTHING, db_column="credit", related_name="+", verbose_name=_("credit")
    )
    currency = models.CharField(_("currency"), max_length=3)
    amount_minor = models.BigIntegerField(_("amount"), db_column="amount")
    phase = models.TextField(_("phase"))
    pending_id = models.BigIntegerField(_("resolves"), null=True)

    class Meta:
        managed = False
        db_table = "ledger_transfer"
        verbose_name = _("ledger transfer")
        verbose_name_plural = _("ledger transfers")

    def __str__(self) -> str:
        return f"{self.entry_id}/{self.seq}"

    @property
    def amount(self) -> Money:
        """The amount with its currency."""
        return Money(self.amount_minor, self.currency)
