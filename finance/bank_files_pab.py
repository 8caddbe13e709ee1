"""The PAB layout of Bancolombia: payments to suppliers as records of 264 characters. Pure.

One control record (type 1) with count and sum, then one record (type 6) per payment; numbers are padded with
zeros on the left, texts with spaces on the right, amounts have 15 digits and two decimals without a point.
Source: the bank's public description of the format (control record, detail record; class 220 is a payment to
suppliers). Where the bank asks for another class or application, the settings say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from finance.bank_files import FileRefused, PaymentLine, PaymentOrder, folded
from finance.states import BankAccountType

WIDTH: Final = 264
_MOST_CENTS: Final = 10**17 - 1
_INTO: Final = {BankAccountType.CHECKING: "27", BankAccountType.SAVINGS: "37"}
_FROM: Final = {BankAccountType.CHECKING: "D", BankAccountType.SAVINGS: "S"}
_DOCUMENTS: Final = {"CC": "1", "CE": "2", "NIT": "3", "TI": "4", "PAS": "5"}


@dataclass(frozen=True, slots=True)
class Pab:
    """Bancolombia's file. `application`: I at once, M midday, N night; `batch` tells files of a day apart."""

    transaction_class: str = "220"
    application: str = "I"
    purpose: str = "PAGOS"
    batch: str = "A1"

    name = "pab"
    extension = "txt"

    def obstacle(self, line: PaymentLine, currency: str) -> str:
        """Return in one word why a payment does not fit, or an empty text."""
        digits = line.number
        if currency != "COP":
            return "currency"
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 17):
            return "account_number"
        if not (line.bank_code.isascii() and line.bank_code.isdigit() and len(line.bank_code) <= 9):
            return "bank_code"
        document = folded(line.document)
        if line.document_type not in _DOCUMENTS or not document.isdigit() or len(document) > 15:
            return "document"
        if line.minor % 100:
            return "amount_not_in_steps"
        return "" if folded(line.holder_name) else "holder_name"

    def write(self, order: PaymentOrder) -> str:
        """Return the file, each record ended by CR LF. Raises `FileRefused`."""
        for line in order.lines:
            obstacle = self.obstacle(line, order.currency)
            if obstacle:
                raise FileRefused(line.reference, obstacle)
        if not order.payer.document.isdigit() or not order.payer.account.isdigit():
            raise FileRefused(order.number, "payer")
        records = [self._control(order), *(self._detail(line, order) for line in order.lines)]
        return "".join(f"{record}\r\n" for record in records)

    def _control(self, order: PaymentOrder) -> str:
        totals = order.totals
        return _record(
            "1",
            _number(order.payer.document, 15),
            self.application,
            _text("", 15),
            _number(self.transaction_class, 3),
            _text(self.purpose, 10),
            f"{order.made_at:%Y%m%d}",
            _text(self.batch, 2),
            f"{order.pay_on:%Y%m%d}",
            _number(str(totals.count), 6),
            _number("0", 17),
            _cents(totals.minor, order.number),
            _number(order.payer.account, 11),
            _FROM[order.payer.account_type],
            _text("", 149),
        )

    def _detail(self, line: PaymentLine, order: PaymentOrder) -> str:
        return _record(
            "6",
            _number(folded(line.document), 15),
            _text(line.holder_name, 30),
            _number(line.bank_code, 9),
            _number(line.number, 17),
            _text("", 1),
            _INTO[line.account_type],
            _cents(line.minor, line.reference),
            f"{order.pay_on:%Y%m%d}",
            _text(line.reference, 21),
            _DOCUMENTS[line.document_type],
            _number("0", 5),
            _text("", 15),
            _text("", 80),
            _text("", 15),
            _text("", 27),
        )


def _record(*fields: str) -> str:
    record = "".join(fields)
    if len(record) != WIDTH:
        raise ValueError(f"a record has {WIDTH} characters, this one {len(record)}")
    return record


def _number(digits: str, width: int) -> str:
    if len(digits) > width or not digits.isdigit():
        raise ValueError("a number does not fit its field")
    return digits.rjust(width, "0")


def _text(text: str, width: int) -> str:
    return folded(text)[:width].ljust(width)


def _cents(minor: int, reference: str) -> str:
    if not 0 <= minor <= _MOST_CENTS:
        raise FileRefused(reference, "amount")
    return str(minor).rjust(17, "0")
