"""Money that leaves to vendors: where to, how much, who agreed, and in which file it went."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from finance.models.orders import CURRENCY_SHAPE
from finance.money import MAX_MINOR, Money
from finance.states import BankAccountType, PayoutOrigin, PayoutState
from mestore.lib.fields import EncryptedField
from mestore.lib.ids import uuid7


class BankAccount(models.Model):
    """A vendor's bank account. Its number is sealed; `number_index` finds equal ones without opening any.

    Nothing of it changes but `removed_at`: another account is another row. `fingerprint` is what an approval
    of a payout is bound to.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    vendor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", db_index=False, verbose_name=_("vendor")
    )
    currency = models.CharField(_("currency"), max_length=3, default="COP")
    bank_name = models.CharField(_("bank"), max_length=100)
    bank_code = models.CharField(_("bank's code"), max_length=16, blank=True, default="", db_default="")
    account_type = models.CharField(
        _("type"), max_length=16, choices=[(kind.value, kind.value) for kind in BankAccountType]
    )
    holder_name = EncryptedField(_("holder"))
    holder_document_type = models.CharField(
        _("holder's document"), max_length=8, blank=True, default="", db_default=""
    )
    holder_document = EncryptedField(_("holder's document number"), default="")
    number = EncryptedField(_("number"))
    number_index = models.BinaryField(max_length=32, editable=False)
    last_four = models.CharField(_("last digits"), max_length=4)
    fingerprint = models.BinaryField(max_length=32, editable=False)
    created_by = models.UUIDField(_("entered by"), editable=False)
    created_at = models.DateTimeField(_("entered"), db_default=Now())
    # The first moment at which money may go there.
    usable_from = models.DateTimeField(_("usable from"))
    removed_at = models.DateTimeField(_("removed"), null=True, blank=True)

    class Meta:
        verbose_name = _("bank account")
        verbose_name_plural = _("bank accounts")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["vendor", "number_index", "bank_name", "account_type"],
                condition=Q(removed_at__isnull=True), name="bank_account_once_per_vendor",
            ),
            models.CheckConstraint(
                condition=Q(account_type__in=[kind.value for kind in BankAccountType]),
                name="bank_account_type_known",
            ),
            models.CheckConstraint(
                condition=Q(currency__regex=CURRENCY_SHAPE), name="bank_account_currency_code"
            ),
        ]  # fmt: skip
        indexes: ClassVar = [
            models.Index(fields=["vendor", "-id"], name="bank_account_by_vendor"),
            models.Index(fields=["number_index"], name="bank_account_by_number"),
        ]

    def __str__(self) -> str:
        return f"{self.bank_name} ···{self.last_four}"


class PayoutBatch(models.Model):
    """The payouts of one bank file. The file is sealed; its totals are what the bank is told to compare."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    batch_number = models.CharField(_("number"), max_length=32, unique=True)
    currency = models.CharField(_("currency"), max_length=3)
    layout = models.CharField(_("layout"), max_length=16)
    payout_count = models.IntegerField(_("payouts"))
    total_minor = models.BigIntegerField(_("total"))
    file = EncryptedField(_("file"), default="")
    file_digest = models.BinaryField(_("SHA-256 of the file"), max_length=32, null=True, editable=False)
    created_by = models.UUIDField(_("made by"), null=True, editable=False)
    created_at = models.DateTimeField(_("made"), db_default=Now())
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)

    class Meta:
        verbose_name = _("payout batch")
        verbose_name_plural = _("payout batches")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(payout_count__gt=0, total_minor__gt=0), name="payout_batch_not_empty"
            ),
        ]

    def __str__(self) -> str:
        return self.batch_number


class Payout(models.Model):
    """One payout. Amount, vendor and account never change; states move along `states.PAYOUT_TRANSITIONS`.

    Its id is the provider's idempotency key for every attempt. `content_hash` is what approvals name.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    payout_number = models.CharField(_("number"), max_length=32, unique=True)
    vendor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", db_index=False, verbose_name=_("vendor")
    )
    bank_account = models.ForeignKey(
        BankAccount, models.PROTECT, related_name="payouts", verbose_name=_("bank account")
    )
    currency = models.CharField(_("currency"), max_length=3)
    amount_minor = models.BigIntegerField(_("amount"))
    state = models.CharField(
        _("state"), max_length=16, choices=[(state.value, state.value) for state in PayoutState],
        default=PayoutState.REQUESTED.value,
    )  # fmt: skip
    origin = models.CharField(
        _("origin"), max_length=16, choices=[(origin.value, origin.value) for origin in PayoutOrigin]
    )
    content_hash = models.BinaryField(max_length=32, editable=False)
    approvals_needed = models.SmallIntegerField(_("approvals needed"))
    needs_lead = models.BooleanField(_("needs the finance lead"), default=False, db_default=False)
    observations = models.CharField(_("observations"), max_length=500, blank=True, default="", db_default="")
    state_reason = models.CharField(_("why"), max_length=500, blank=True, default="", db_default="")
    requested_by = models.UUIDField(_("requested by"), null=True, editable=False)
    reserve_entry_id = models.UUIDField(_("reservation"), editable=False)
    post_entry_id = models.UUIDField(_("posting"), null=True, editable=False)
    batch = models.ForeignKey(
        PayoutBatch, models.PROTECT, null=True, blank=True, related_name="payouts", verbose_name=_("batch")
    )
    provider_reference = models.CharField(
        _("bank's reference"), max_length=128, blank=True, default="", db_default=""
    )
    requested_at = models.DateTimeField(_("requested"), db_default=Now())
    expires_at = models.DateTimeField(_("expires"))
    approved_at = models.DateTimeField(_("approved"), null=True, blank=True)
    submitted_at = models.DateTimeField(_("submitted"), null=True, blank=True)
    paid_at = models.DateTimeField(_("paid"), null=True, blank=True)
    closed_at = models.DateTimeField(_("closed"), null=True, blank=True)
    updated_at = models.DateTimeField(_("changed"), db_default=Now())

    class Meta:
        verbose_name = _("payout")
        verbose_name_plural = _("payouts")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(amount_minor__gt=0, amount_minor__lte=MAX_MINOR), name="payout_amount_in_bounds"
            ),
            models.CheckConstraint(condition=Q(currency__regex=CURRENCY_SHAPE), name="payout_currency_code"),
            models.CheckConstraint(
                condition=Q(state__in=[state.value for state in PayoutState]), name="payout_state_known"
            ),
            models.CheckConstraint(condition=Q(approvals_needed__gte=1), name="payout_needs_an_approval"),
            # The natural key of the old request, which has no idempotency key.
            models.UniqueConstraint(
                fields=["vendor", "bank_account", "amount_minor"],
                condition=Q(
                    origin=PayoutOrigin.LEGACY.value,
                    state__in=["requested", "screened", "held", "approved", "submitting"],
                ),
                name="payout_legacy_one_open",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["vendor", "-id"], name="payout_by_vendor"),
            models.Index(fields=["state", "-id"], name="payout_by_state"),
        ]

    def __str__(self) -> str:
        return self.payout_number

    @property
    def amount(self) -> Money:
        """What the vendor gets."""
        return Money(self.amount_minor, self.currency)


class PayoutChange(models.Model):
    """One change of a payout's state. Written by the database itself, append-only."""

    id = models.BigAutoField(primary_key=True)
    payout = models.ForeignKey(
        Payout, models.PROTECT, related_name="changes", db_index=False, verbose_name=_("payout")
    )
    before = models.CharField(_("before"), max_length=16, blank=True)
    after = models.CharField(_("after"), max_length=16)
    reason = models.CharField(_("why"), max_length=500, blank=True)
    changed_by = models.CharField(_("by"), max_length=254, blank=True)
    changed_at = models.DateTimeField(_("at"), db_default=Now())

    class Meta:
        verbose_name = _("change of a payout")
        verbose_name_plural = _("changes of payouts")
        indexes: ClassVar = [models.Index(fields=["payout", "id"], name="payout_change_by_payout")]

    def __str__(self) -> str:
        return f"{self.payout_id} {self.before} → {self.after}"


class PayoutApproval(models.Model):
    """One person's yes to exactly one content, good for a day. Append-only; a trigger refuses makers, stale
    contents and a second yes while the first counts.
    """

    id = models.BigAutoField(primary_key=True)
    payout = models.ForeignKey(
        Payout, models.PROTECT, related_name="approvals", db_index=False, verbose_name=_("payout")
    )
    approver = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", db_index=False, verbose_name=_("approver")
    )
    as_lead = models.BooleanField(_("as finance lead"), default=False, db_default=False)
    content_hash = models.BinaryField(max_length=32, editable=False)
    reason = models.CharField(_("reason"), max_length=500, blank=True, default="", db_default="")
    approved_at = models.DateTimeField(_("approved"), db_default=Now())

    class Meta:
        verbose_name = _("approval of a payout")
        verbose_name_plural = _("approvals of payouts")
        indexes: ClassVar = [models.Index(fields=["payout", "id"], name="payout_approval_by_payout")]

    def __str__(self) -> str:
        return f"{self.payout_id} {self.approver_id}"
