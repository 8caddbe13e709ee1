"""The console's pages about money: what changes something goes through a use case."""

from __future__ import annotations

from accounts import grants
from finance.admin.balances import GuardedBalanceAdmin
from finance.admin.bank_accounts import BankAccountAdmin
from finance.admin.disputes import DisputeAdmin
from finance.admin.ledger import LedgerAccountAdmin, LedgerEntryAdmin, LedgerTransferAdmin
from finance.admin.orders import OrderAdmin
from finance.admin.outbound import EventDeliveryAdmin, WebhookEndpointAdmin
from finance.admin.payout_batches import PayoutBatchAdmin
from finance.admin.payouts import PayoutAdmin
from finance.admin.reconciliation import ProviderReportAdmin, ReconciliationCaseAdmin
from finance.admin.refunds import RefundAdmin
from finance.admin.rules import CommissionRuleAdmin
from finance.admin.sales import CommissionAdmin
from finance.admin.settlement import PeriodCloseAdmin, SettlementRunAdmin

__all__ = [
    "BankAccountAdmin",
    "CommissionAdmin",
    "CommissionRuleAdmin",
    "DisputeAdmin",
    "EventDeliveryAdmin",
    "GuardedBalanceAdmin",
    "LedgerAccountAdmin",
    "LedgerEntryAdmin",
    "LedgerTransferAdmin",
    "OrderAdmin",
    "PayoutAdmin",
    "PayoutBatchAdmin",
    "PeriodCloseAdmin",
    "ProviderReportAdmin",
    "ReconciliationCaseAdmin",
    "RefundAdmin",
    "SettlementRunAdmin",
    "WebhookEndpointAdmin",
]

grants.register_model_permission("finance.order", view="orders.read.read_only", change="orders.update.global")
grants.register_model_permission(
    "finance.commission", view="commissions.read.read_only", change="commissions.approve.global"
)
for _ledger_model in ("ledgerentry", "ledgertransfer", "ledgeraccount"):
    grants.register_model_permission(f"finance.{_ledger_model}", view="transactions.read.read_only")
