"""The form of a commission rule: what people type, read exactly."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final
from uuid import UUID

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy

from accounts.models import User
from accounts.roles import Role
from finance import money, selectors
from finance.admin.cells import TYPE_WORDS
from finance.money import MoneyError
from finance.rule_changes import Proposal
from mestore.lib.console import actions

_PERCENT: Final = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,4}))?", re.ASCII)
_WRONG_PERCENT: Final = gettext_lazy("As 12.345: plain digits with at most four decimals, between 0 and 100.")
_WRONG_AMOUNT: Final = gettext_lazy("Plain digits, with no more decimals than the currency has.")


def ppm_of(percent: str) -> int:
    """Return a percentage in parts per million. Raises ValidationError."""
    match = _PERCENT.fullmatch(percent.strip())
    if match is None:
        raise forms.ValidationError(_WRONG_PERCENT)
    ppm = int(match.group(1)) * 10_000 + int((match.group(2) or "").ljust(4, "0"))
    if ppm > money.PPM:
        raise forms.ValidationError(_WRONG_PERCENT)
    return ppm


def in_business_time(moment: dt.datetime | None) -> dt.datetime | None:
    """Return what was typed as a moment of the business's clock."""
    return None if moment is None else selectors.in_business_time(moment.replace(tzinfo=None))


def _text(label: Any, hint: Any = "", *, longest: int = 128, required: bool = False) -> forms.CharField:
    return forms.CharField(
        label=label, help_text=hint, max_length=longest, required=required, strip=True,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )  # fmt: skip


def _moment(label: Any, hint: Any) -> forms.DateTimeField:
    return forms.DateTimeField(
        label=label, help_text=hint, required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local", "autocomplete": "off"}),
    )  # fmt: skip


class RuleForm(forms.Form):
    """The terms of a rule to be, and why."""

    name = _text(gettext_lazy("Name"), longest=100, required=True)
    currency = _text(gettext_lazy("Currency"), longest=3, required=True)
    vendor = _text(
        gettext_lazy("Only for the vendor"), gettext_lazy("E-mail or id. Nothing: for all."), longest=254
    )
    category = _text(gettext_lazy("Only for the category"), gettext_lazy("Nothing: for all."), longest=100)
    product = _text(gettext_lazy("Only for the product"), gettext_lazy("Its id. Nothing: for all."))
    order = _text(
        gettext_lazy("Only for the order"), gettext_lazy("Its external reference. Nothing: for all.")
    )
    priority = forms.IntegerField(
        label=gettext_lazy("Priority"), initial=0, min_value=-32_768, max_value=32_767,
        help_text=gettext_lazy(
            "The highest wins; of equals the narrower: product, then order, category, vendor."
        ),
    )  # fmt: skip
    kind = forms.ChoiceField(
        label=gettext_lazy("Type"), choices=[(kind.value, word) for kind, word in TYPE_WORDS.items()]
    )
    rate = _text(gettext_lazy("Rate, in percent"), gettext_lazy("As 12.345."), longest=9, required=True)
    fixed = _text(gettext_lazy("Fixed fee"), gettext_lazy("Added to the rate, once per order."), longest=20)
    floor = _text(gettext_lazy("At least"), longest=20)
    cap = _text(gettext_lazy("At most"), longest=20)
    tiers = forms.CharField(
        label=gettext_lazy("Volume tiers"), required=False, max_length=1_000,
        help_text=gettext_lazy("One a line: what was sold before in the month, then the rate: 5000000 4.5"),
        widget=forms.Textarea(attrs={"rows": 3, "autocomplete": "off"}),
    )  # fmt: skip
    starts = _moment(gettext_lazy("Begins"), gettext_lazy("Bogotá time. Nothing: at once, when approved."))
    ends = _moment(gettext_lazy("Ends"), gettext_lazy("Nothing: when somebody ends it."))
    reason = actions.ReasonForm.base_fields["reason"]

    def clean_currency(self) -> str:
        code = str(self.cleaned_data["currency"]).upper()
        if code not in money.EXPONENTS:
            raise forms.ValidationError(gettext_lazy("This must be an ISO 4217 currency code."))
        return code

    def clean_vendor(self) -> UUID | None:
        told = str(self.cleaned_data["vendor"])
        if not told:
            return None
        vendors = User.objects.filter(user_type=Role.VENDOR)
        try:
            found = vendors.filter(pk=UUID(told)).first()
        except ValueError:
            found = vendors.filter(email_key=told.casefold()).first()
        if found is None:
            raise forms.ValidationError(gettext_lazy("There is no such vendor."))
        return found.pk

    def clean_rate(self) -> int:
        return ppm_of(self.cleaned_data["rate"])

    def clean_fixed(self) -> int:
        return self._amount("fixed") or 0

    def clean_floor(self) -> int | None:
        return self._amount("floor")

    def clean_cap(self) -> int | None:
        return self._amount("cap")

    def clean_tiers(self) -> tuple[tuple[int, int], ...]:
        rows = [line.split() for line in self.cleaned_data["tiers"].splitlines() if line.strip()]
        if any(len(row) != 2 for row in rows):
            raise forms.ValidationError(gettext_lazy("One tier a line: an amount and a rate."))
        return tuple((self._minor(sold), ppm_of(rate)) for sold, rate in rows)

    def _amount(self, name: str) -> int | None:
        told = self.cleaned_data[name]
        return self._minor(told) if told else None

    def _minor(self, told: str) -> int:
        try:
            return money.parse(told, self.cleaned_data.get("currency", "COP")).minor
        except MoneyError as error:
            raise forms.ValidationError(_WRONG_AMOUNT) from error

    def proposal(self) -> Proposal:
        """Return what was typed, as the use case takes it."""
        given = self.cleaned_data
        return Proposal(
            name=given["name"], currency=given["currency"], rate_ppm=given["rate"],
            starts=in_business_time(given["starts"]) or timezone.now(),
            ends=in_business_time(given["ends"]), kind=given["kind"], vendor=given["vendor"],
            category=given["category"], product=given["product"], order=given["order"],
            priority=given["priority"], fixed=given["fixed"], floor=given["floor"], cap=given["cap"],
            tiers=given["tiers"],
        )  # fmt: skip
