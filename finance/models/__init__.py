"""The rows of money: orders, commissions, the ledger, refunds, payouts, and what others say about them."""

from finance.models.commissions import Commission
from finance.models.disputes import Dispute
from finance.models.idempotency import IdempotencyKey
from finance.models.ledger import LedgerAccount, LedgerEntry, LedgerTransfer
from finance.models.orders import Order, OrderItem, OrderPayment
from finance.models.outbound import EventDelivery, OutboundEvent, WebhookEndpoint
from finance.models.payouts import BankAccount, Payout, PayoutApproval, PayoutBatch, PayoutChange
from finance.models.reconciliation import ProviderRecord, ProviderReport, ReconciliationCase
from finance.models.refunds import Refund, RefundPart
from finance.models.rules import CommissionRule, VendorVolume
from finance.models.settlement import (
    BalanceSnapshot,
    GuardedBalance,
    PeriodClose,
    SettlementRun,
    StatementLine,
)

__all__ = [
    "BalanceSnapshot",
    "BankAccount",
    "Commission",
    "CommissionRule",
    "Dispute",
    "EventDelivery",
    "GuardedBalance",
    "IdempotencyKey",
    "LedgerAccount",
    "LedgerEntry",
    "LedgerTransfer",
    "Order",
    "OrderItem",
    "OrderPayment",
    "OutboundEvent",
    "Payout",
    "PayoutApproval",
    "PayoutBatch",
    "PayoutChange",
    "PeriodClose",
    "ProviderRecord",
    "ProviderReport",
    "ReconciliationCase",
    "Refund",
    "RefundPart",
    "SettlementRun",
    "StatementLine",
    "VendorVolume",
    "WebhookEndpoint",
]
