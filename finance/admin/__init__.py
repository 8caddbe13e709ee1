"""The console's pages about money: orders, commissions and the ledger. Nothing here can be changed."""

from __future__ import annotations

from accounts import grants
from finance.admin.disputes import DisputeAdmin
from finance.admin.ledger import LedgerAccountAdmin, LedgerEntryAdmin, LedgerTransferAdmin
from finance.admin.outbound import EventDeliveryAdmin, WebhookEndpointAdmin
from finance.admin.reconciliation import ProviderReportAdmin, ReconciliationCaseAdmin
from finance.admin.sales import CommissionAdmin, OrderAdmin

__all__ = [
    "CommissionAdmin",
    "DisputeAdmin",
    "EventDeliveryAdmin",
    "LedgerAccountAdmin",
    "LedgerEntryAdmin",
    "LedgerTransferAdmin",
    "OrderAdmin",
    "ProviderReportAdmin",
    "ReconciliationCaseAdmin",
    "WebhookEndpointAdmin",
]

grants.register_model_permission("finance.order", view="orders.read.read_only")
grants.register_model_permission("finance.commission", view="commissions.read.read_only")
for _ledger_model in ("ledgerentry", "ledgertransfer", "ledgeraccount"):
    grants.register_model_permission(f"finance.{_ledger_model}", view="transactions.read.read_only")
