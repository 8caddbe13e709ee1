"""The rows of money: orders, commissions, the ledger and the keys that make a request count once."""

from finance.models.commissions import Commission
from finance.models.idempotency import IdempotencyKey
from finance.models.ledger import LedgerAccount, LedgerEntry, LedgerTransfer
from finance.models.orders import Order, OrderItem, OrderPayment

__all__ = [
    "Commission",
    "IdempotencyKey",
    "LedgerAccount",
    "LedgerEntry",
    "LedgerTransfer",
    "Order",
    "OrderItem",
    "OrderPayment",
]
