"""Files that a bank carries out: what stands in them, their control totals, and the plain CSV. Pure.

A layout writes a `PaymentOrder` as text of printable ASCII: banks read old character sets, and a name with an
accent would move every column after it. Nothing in it can become a formula of a spreadsheet.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from finance.money import text_of
from finance.states import BankAccountType
from mestore.lib import spreadsheets

#: Hash totals count modulo this, so that they have a fixed width.
HASH_MODULUS: Final = 10**15
_NOT_PLAIN: Final = re.compile(r"[^A-Z0-9 .-]+")
_SPACES: Final = re.compile(r" {2,}")

# Codes of banks in the Colombian clearing house (ACH), by folded name.
_BANKS: Final = {
    "BANCO DE BOGOTA": "1001", "BANCO POPULAR": "1002", "ITAU": "1006", "BANCOLOMBIA": "1007",
    "CITIBANK": "1009", "GNB SUDAMERIS": "1012", "BBVA": "1013", "SCOTIABANK COLPATRIA": "1019",
    "BANCO DE OCCIDENTE": "1023", "BANCO CAJA SOCIAL": "1032", "BANCO AGRARIO": "1040", "DAVIVIENDA": "1051",
    "AV VILLAS": "1052", "BANCO FALABELLA": "1062", "FINANDINA": "1063", "COOPCENTRAL": "1066",
    "NEQUI": "1507", "DAVIPLATA": "1551",
}  # fmt: skip


class FileRefused(ValueError):
    """A payment that the layout cannot express; `reference` says which, `code` why."""

    def __init__(self, reference: str, code: str) -> None:
        super().__init__(f"{reference}: {code}")
        self.reference, self.code = reference, code


@dataclass(frozen=True, slots=True)
class Payer:
    """Who pays, and from which account. `document` is the tax id without its check digit's dash."""

    name: str
    document: str
    account: str
    account_type: BankAccountType


@dataclass(frozen=True, slots=True)
class PaymentLine:
    """One payment: `minor` units to an account. `reference` finds it in the bank's answer."""

    reference: str
    minor: int
    bank_name: str
    bank_code: str
    account_type: BankAccountType
    number: str
    holder_name: str
    document_type: str
    document: str


@dataclass(frozen=True, slots=True)
class Totals:
    """What the bank compares: payments, their sum in minor units, the sum of account numbers modulo 10^15."""

    count: int
    minor: int
    accounts: int


@dataclass(frozen=True, slots=True)
class PaymentOrder:
    """The payments of one file, all in one currency."""

    number: str
    currency: str
    made_at: dt.datetime
    pay_on: dt.date
    payer: Payer
    lines: Sequence[PaymentLine]

    @property
    def totals(self) -> Totals:
        return totals_of(self.lines)


class Layout(Protocol):
    """One form of the file: the port behind which a bank stands."""

    @property
    def name(self) -> str: ...
    @property
    def extension(self) -> str: ...
    def obstacle(self, line: PaymentLine, currency: str) -> str: ...
    def write(self, order: PaymentOrder) -> str: ...


def totals_of(lines: Iterable[PaymentLine]) -> Totals:
    """Return the control totals of these payments."""
    count = minor = accounts = 0
    for line in lines:
        count, minor = count + 1, minor + line.minor
        accounts = (accounts + int(line.number)) % HASH_MODULUS
    return Totals(count, minor, accounts)


def folded(text: str) -> str:
    """Return `text` in capital ASCII letters, digits, spaces, dots, dashes: `Ñandú & Cía` → `NANDU CIA`.

    What has no such letter becomes a space.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii").upper()
    return _SPACES.sub(" ", _NOT_PLAIN.sub(" ", plain)).strip(" -")


def bank_code(name: str) -> str:
    """Return the clearing code of a bank by its name, or an empty text for one that is not in the table."""
    wanted = folded(name)
    return _BANKS.get(wanted) or _BANKS.get(wanted.removeprefix("BANCO ").strip(), "")


class PlainCsv:
    """A header, one row per payment, and a last row with the totals."""

    name = "csv"
    extension = "csv"
    HEADER = (
        "reference", "amount", "currency", "bank", "bank_code", "account_type", "account_number", "holder",
        "document_type", "document",
    )  # fmt: skip

    def obstacle(self, line: PaymentLine, currency: str) -> str:  # noqa: ARG002  # every currency fits
        """Return in one word why a payment does not fit, or an empty text."""
        return "" if line.number.isascii() and line.number.isdigit() else "account_number"

    def write(self, order: PaymentOrder) -> str:
        """Return the file. Raises `FileRefused`."""
        rows = [spreadsheets.line(self.HEADER)]
        for line in order.lines:
            obstacle = self.obstacle(line, order.currency)
            if obstacle:
                raise FileRefused(line.reference, obstacle)
            rows.append(
                spreadsheets.line((
                    line.reference, text_of(line.minor, order.currency), order.currency,
                    folded(line.bank_name), line.bank_code, line.account_type.value, line.number,
                    folded(line.holder_name), folded(line.document_type), folded(line.document),
                ))
            )  # fmt: skip
        totals = order.totals
        rows.append(
            spreadsheets.line((
                "TOTAL", text_of(totals.minor, order.currency), order.currency, str(totals.count),
                "", "", f"{totals.accounts:015d}", "", "", "",
            ))
        )  # fmt: skip
        return "".join(rows)
