"""What bodies about bank accounts say, and how one is told: a number only by its last four digits."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.validators import RegexValidator
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from accounts.models import IdentityCard, User
from finance.bank_accounts import AccountForm
from finance.models import BankAccount
from finance.states import BankAccountType
from mestore.lib.shapes import Text

_PLAIN = RegexValidator(
    r"\A[^<>\x00-\x1f\x7f]*\Z", _("This holds characters that are not allowed."), "malicious"
)
_DOCUMENTS = ["CC", "CE", "NIT", "PAS"]
_TYPES = [kind.value for kind in BankAccountType]


def _digits(least: int, most: int) -> Text:
    shape = RegexValidator(
        rf"\A[0-9]{{{least},{most}}}\Z",
        _("This must be %(least)d to %(most)d digits.") % {"least": least, "most": most}, "digits",
    )  # fmt: skip
    return Text(max_length=64, validators=[shape])


def _plain(length: int, **options: Any) -> Text:
    return Text(max_length=length, validators=[_PLAIN], **options)


class BankAccountRequest(serializers.Serializer[Any]):
    """A bank account to be."""

    currency = serializers.ChoiceField(sorted(settings.PAYOUT_BOUNDS), required=False, default="COP")
    bank_name = _plain(100, min_length=3)
    bank_code = Text(
        max_length=9, required=False, allow_blank=True, default="",
        validators=[RegexValidator(r"\A[0-9]{0,9}\Z", _("This must be up to nine digits."), "digits")],
    )  # fmt: skip
    account_type = serializers.ChoiceField(_TYPES)
    account_number = _digits(8, 20)
    account_holder_name = _plain(200, min_length=3)
    document_type = serializers.ChoiceField([*_DOCUMENTS, ""], required=False, default="")
    document = Text(
        max_length=15, required=False, allow_blank=True, default="",
        validators=[RegexValidator(r"\A[0-9A-Z]{0,15}\Z", _("This must be letters and digits."), "document")],
    )  # fmt: skip

    def form(self) -> AccountForm:
        """Return the account as the use case takes it."""
        given = self.validated_data
        return AccountForm(
            bank_name=given["bank_name"].strip(), account_type=BankAccountType(given["account_type"]),
            number=given["account_number"], holder_name=given["account_holder_name"].strip(),
            currency=given["currency"], bank_code=given["bank_code"], document_type=given["document_type"],
            document=given["document"],
        )  # fmt: skip


class BankingRequest(serializers.Serializer[Any]):
    """The bank data of the own shop, as the first system calls them."""

    bank_name = _plain(100, min_length=3)
    account_holder_name = _plain(200, min_length=3)
    account_number = _digits(10, 20)
    tipo_cuenta = serializers.ChoiceField(_TYPES)


class OldBankRequest(serializers.Serializer[Any]):
    """The same in the other words that the first system has for them."""

    banco = _plain(100, min_length=3)
    tipo_cuenta = serializers.ChoiceField(_TYPES)
    numero_cuenta = _digits(8, 50)
    titular = _plain(200, required=False, allow_blank=True, default="")


def account(row: BankAccount) -> dict[str, Any]:
    """One bank account, masked."""
    return {
        "id": row.pk, "currency": row.currency, "bank_name": row.bank_name,
        "bank_code": row.bank_code or None, "account_type": row.account_type,
        "account_number": masked(row), "last_four": row.last_four, "created_at": row.created_at,
        "usable_from": row.usable_from,
    }  # fmt: skip


def banking(row: BankAccount) -> dict[str, Any]:
    """The bank data in the words of the first system."""
    return {"bank_name": row.bank_name, "account_holder_name": row.holder_name,
            "account_number": masked(row), "tipo_cuenta": row.account_type,
            "usable_from": row.usable_from}  # fmt: skip


def old_bank(row: BankAccount) -> dict[str, Any]:
    """The same in its other words."""
    return {"banco": row.bank_name, "tipo_cuenta": row.account_type, "numero_cuenta": masked(row),
            "titular": row.holder_name, "usable_desde": row.usable_from}  # fmt: skip


def masked(row: BankAccount) -> str:
    """A number as it may be shown."""
    return f"****{row.last_four}"


def holder_of(vendor: User) -> tuple[str, str, str]:
    """Return name, kind and number of document of a vendor who names no holder: who they said they are."""
    profile = getattr(vendor, "vendor_profile", None)
    name = vendor.get_full_name().strip() or (profile.business_name if profile else "") or str(vendor.pk)
    card = IdentityCard.objects.filter(user=vendor).first()
    return name, "CC" if card else "", (card.number or "") if card else ""
