"""From pending to available: the runs of the settlement, and what the ledger derives for them.

The tables of the ledger are unmanaged: SQL made them, `ledger_post` and its sister functions write them.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from mestore.lib.ids import uuid7


class SettlementRun(models.Model):
    """One run of `settle`: what was due until `due_before` is settled, vendor by vendor; it can resume."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    due_before = models.DateTimeField(_("due before"))
    started_at = models.DateTimeField(_("started"), db_default=Now())
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    vendors = models.IntegerField(_("vendors"), default=0, db_default=0)
    commissions = models.IntegerField(_("commissions"), default=0, db_default=0)
    # Minor units settled, by currency.
    totals = models.JSONField(_("totals"), default=dict, db_default=models.Value({}, models.JSONField()))

    class Meta:
        verbose_name = _("settlement run")
        verbose_name_plural = _("settlement runs")
        indexes: ClassVar = [models.Index(fields=["-started_at", "-id"], name="settlement_run_by_start")]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["finished_at"], condition=models.Q(finished_at__isnull=True), nulls_distinct=False,
                name="settlement_run_one_at_a_time",
            )
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M}"


class GuardedBalance(models.Model):
    """What may leave an account: posted less reserved never falls below the floor."""

    id = models.BigIntegerField(primary_key=True, db_column="account_id")
    book_id = models.UUIDField(_("book"))
    posted = models.BigIntegerField(_("posted"))
    reserved = models.BigIntegerField(_("reserved"))
    floor = models.BigIntegerField(_("floor"))
    seq = models.BigIntegerField(_("last statement number"))

    class Meta:
        managed = False
        db_table = "ledger_guarded_balance"
        verbose_name = _("guarded balance")
        verbose_name_plural = _("guarded balances")

    def __str__(self) -> str:
        return f"{self.book_id}/{self.id}"


class StatementLine(models.Model):
    """One numbered movement of what a vendor has available, with the balance after it."""

    id = models.BigIntegerField(primary_key=True)
    book_id = models.UUIDField(_("book"))
    account_id = models.BigIntegerField(_("account"))
    currency = models.CharField(_("currency"), max_length=3)
    seq = models.BigIntegerField(_("number"))
    entry_id = models.UUIDField(_("entry"))
    occurred_at = models.DateTimeField(_("occurred"))
    recorded_at = models.DateTimeField(_("recorded"))
    amount_minor = models.BigIntegerField(_("amount"), db_column="amount")
    balance_minor = models.BigIntegerField(_("balance"), db_column="balance")

    class Meta:
        managed = False
        db_table = "ledger_statement_line"
        verbose_name = _("statement line")
        verbose_name_plural = _("statement lines")

    def __str__(self) -> str:
        return f"{self.book_id} {self.currency} {self.seq}"


class BalanceSnapshot(models.Model):
    """The sums of one account over all transactions before `horizon` (an xid8)."""

    id = models.BigIntegerField(primary_key=True)
    book_id = models.UUIDField(_("book"))
    account_id = models.BigIntegerField(_("account"))
    debit = models.BigIntegerField(_("debit"))
    credit = models.BigIntegerField(_("credit"))
    taken_at = models.DateTimeField(_("taken"))

    class Meta:
        managed = False
        db_table = "ledger_snapshot"
        verbose_name = _("balance snapshot")
        verbose_name_plural = _("balance snapshots")

    def __str__(self) -> str:
        return f"{self.book_id}/{self.account_id}"


class PeriodClose(models.Model):
    """Nothing that occurred before `closed_until` is posted any more. Append-only."""

    id = models.BigIntegerField(primary_key=True)
    closed_until = models.DateTimeField(_("closed until"))
    closed_at = models.DateTimeField(_("closed"))
    closed_by = models.TextField(_("closed by"))
    reason = models.TextField(_("reason"))

    class Meta:
        managed = False
        db_table = "ledger_period_close"
        verbose_name = _("period close")
        verbose_name_plural = _("period closes")

    def __str__(self) -> str:
        return f"{self.closed_until:%Y-%m-%d}"
