"""Addresses of orders and commissions; mounted under /api/v1/, and commissions at the root as well."""

from __future__ import annotations

from typing import Any

from django.urls import URLPattern

from finance import views
from finance.api import (
    admin_orders,
    bank_accounts,
    commissions,
    disputes,
    history,
    orders,
    payouts,
    payouts_legacy,
    refunds,
    rules,
    statements,
    vendor_dashboard,
    vendor_orders,
)
from mestore.lib.http import path_both


def _commissions(**options: Any) -> list[URLPattern]:
    return [
        path_both("commissions/", views.CommissionsView.as_view(**options), name="commissions"),
        path_both(
            "commissions/earnings/summary", views.EarningsView.as_view(**options), name="commission-earnings"
        ),
        path_both(
            "commissions/transactions/history",
            history.HistoryView.as_view(**options),
            name="transactions-history",
        ),
        path_both(
            "commissions/<uuid:commission_id>", views.CommissionView.as_view(**options), name="commission"
        ),
        path_both(
            "commissions/calculate", commissions.CalculateView.as_view(**options), name="commission-calculate"
        ),
        path_both(
            "commissions/<uuid:commission_id>/approve",
            commissions.ApproveView.as_view(**options),
            name="commission-approve",
        ),
        path_both(
            "commissions/<uuid:commission_id>/explain",
            commissions.ExplainView.as_view(**options),
            name="commission-explain",
        ),
        path_both(
            "commissions/vendors/earnings",
            commissions.VendorEarningsView.as_view(**options),
            name="commission-vendor-earnings",
        ),
        path_both(
            "commissions/admin/commissions",
            commissions.AdminCommissionsView.as_view(**options),
            name="commission-admin-list",
        ),
        path_both(
            "commissions/orders/<int:order_id>/process-commission",
            commissions.ProcessView.as_view(**options),
            name="commission-process",
        ),
    ]


urlpatterns: list[URLPattern] = [
    path_both("orders/", orders.Orders.as_view(), name="orders"),
    *_commissions(),
    path_both(
        "commissions/<uuid:commission_id>/proof", views.CommissionProofView.as_view(), name="commission-proof"
    ),
]
urlpatterns += [
    path_both("commissions/rules/", rules.RulesView.as_view(), name="commission-rules"),
    path_both(
        "commissions/rules/preview", rules.TermsPreviewView.as_view(), name="commission-rules-preview-terms"
    ),
    path_both("commissions/rules/<uuid:rule_id>", rules.RuleView.as_view(), name="commission-rule"),
    path_both(
        "commissions/rules/<uuid:rule_id>/preview",
        rules.RulePreviewView.as_view(),
        name="commission-rule-preview",
    ),
    path_both(
        "commissions/rules/<uuid:rule_id>/approve",
        rules.RuleApproveView.as_view(),
        name="commission-rule-approve",
    ),
    path_both(
        "commissions/rules/<uuid:rule_id>/reject",
        rules.RuleRejectView.as_view(),
        name="commission-rule-reject",
    ),
    path_both(
        "commissions/rules/<uuid:rule_id>/withdraw",
        rules.RuleWithdrawView.as_view(),
        name="commission-rule-withdraw",
    ),
    path_both(
        "commissions/rules/<uuid:rule_id>/end", rules.RuleEndView.as_view(), name="commission-rule-end"
    ),
]
urlpatterns += [
    path_both("disputes/", disputes.DisputesView.as_view(), name="disputes"),
    path_both("disputes/<uuid:dispute_id>", disputes.DisputeView.as_view(), name="dispute"),
    path_both("disputes/<uuid:dispute_id>/review", disputes.ReviewView.as_view(), name="dispute-review"),
    path_both("disputes/<uuid:dispute_id>/resolve", disputes.ResolveView.as_view(), name="dispute-resolve"),
    path_both("disputes/<uuid:dispute_id>/reject", disputes.RefuseView.as_view(), name="dispute-reject"),
    path_both("comisiones/", history.LegacyCommissionsView.as_view(), name="comisiones"),
    path_both(
        "comisiones/detalle/<str:transaction_id>",
        history.LegacyCommissionView.as_view(),
        name="comisiones-detalle",
    ),
    path_both("comisiones/dispute", history.LegacyDisputeView.as_view(), name="comisiones-dispute"),
    path_both("pagos/historial", history.PaymentsHistoryView.as_view(), name="pagos-historial"),
]
urlpatterns += [
    path_both("payouts/", payouts.PayoutsView.as_view(), name="payouts"),
    path_both("payouts/<uuid:payout_id>", payouts.PayoutView.as_view(), name="payout"),
    path_both("payouts/<uuid:payout_id>/approve", payouts.ApproveView.as_view(), name="payout-approve"),
    path_both("payouts/<uuid:payout_id>/reject", payouts.RejectView.as_view(), name="payout-reject"),
    path_both("payouts/<uuid:payout_id>/cancel", payouts.CancelView.as_view(), name="payout-cancel"),
    path_both(
        "vendors/<uuid:vendor_id>/bank-accounts",
        bank_accounts.BankAccountsView.as_view(),
        name="bank-accounts",
    ),
    path_both(
        "vendors/<uuid:vendor_id>/bank-accounts/<uuid:account_id>",
        bank_accounts.BankAccountView.as_view(),
        name="bank-account",
    ),
    path_both("vendors/vendor/profile/banking", bank_accounts.BankingView.as_view(), name="vendor-banking"),
    path_both("profile/datos-bancarios", bank_accounts.OldBankView.as_view(), name="datos-bancarios"),
    path_both(
        "comisiones/solicitar-pago", payouts_legacy.OldRequestView.as_view(), name="comisiones-solicitar-pago"
    ),
    path_both(
        "comisiones/payout-history/<uuid:payout_id>",
        payouts_legacy.OldHistoryView.as_view(),
        name="comisiones-payout-history",
    ),
    path_both(
        "commissions/payout-history/<uuid:payout_id>",
        payouts_legacy.OldHistoryAlias.as_view(),
        name="commissions-payout-history",
    ),
    path_both(
        "comisiones/my-payout-history",
        payouts_legacy.OldOwnHistoryView.as_view(),
        name="comisiones-my-payout-history",
    ),
]
urlpatterns += [
    path_both("orders/<int:order_id>", orders.Order.as_view(), name="order"),
    path_both("orders/<int:order_id>/tracking", orders.Tracking.as_view(), name="order-tracking"),
    path_both("orders/<int:order_id>/cancel", orders.Cancel.as_view(), name="order-cancel"),
    path_both("orders/<int:order_id>/status", orders.Status.as_view(), name="order-status"),
    path_both("orders/<int:order_id>/refunds", refunds.OrderRefunds.as_view(), name="order-refunds"),
    path_both("orders/track/<str:number>", orders.Follow.as_view(), name="order-track"),
    path_both(
        "orders/track/<str:number>/detailed", orders.FollowDetailed.as_view(), name="order-track-detailed"
    ),
    path_both("orders/tracking/config", orders.TrackingConfig.as_view(), name="order-tracking-config"),
    path_both("orders/tracking/generate-token", orders.TrackingToken.as_view(), name="order-tracking-token"),
    path_both("refunds/", refunds.Refunds.as_view(), name="refunds"),
    path_both("refunds/<uuid:refund_id>", refunds.OneRefund.as_view(), name="refund"),
    path_both("refunds/<uuid:refund_id>/paid", refunds.RefundPaid.as_view(), name="refund-paid"),
    path_both("refunds/<uuid:refund_id>/failed", refunds.RefundFailed.as_view(), name="refund-failed"),
    path_both("vendor/orders", vendor_orders.VendorOrders.as_view(), name="vendor-orders"),
    path_both(
        "vendor/orders/stats/summary", vendor_orders.VendorSummary.as_view(), name="vendor-orders-summary"
    ),
    path_both("vendor/orders/<int:order_id>", vendor_orders.VendorOrder.as_view(), name="vendor-order"),
    path_both(
        "vendor/orders/<int:order_id>/items/<int:item_id>/status",
        vendor_orders.VendorItemStatus.as_view(),
        name="vendor-order-item-status",
    ),
    path_both("admin/orders", admin_orders.AdminOrders.as_view(), name="admin-orders"),
    path_both(
        "admin/orders/stats/dashboard",
        admin_orders.AdminOrderStatistics.as_view(),
        name="admin-orders-dashboard",
    ),
    path_both("admin/orders/<int:order_id>", admin_orders.AdminOrder.as_view(), name="admin-order"),
    path_both(
        "admin/orders/<int:order_id>/status",
        admin_orders.AdminOrderStatus.as_view(),
        name="admin-order-status",
    ),
]
# The shipped front end calls these without the prefix; the published description names them once.
commission_urlpatterns: list[URLPattern] = _commissions(schema=None)
urlpatterns += [
    path_both(
        "vendors/<uuid:vendor_id>/statement", statements.StatementView.as_view(), name="vendor-statement"
    ),
    path_both("vendors/<uuid:vendor_id>/balance", statements.BalanceView.as_view(), name="vendor-balance"),
]
urlpatterns += [
    path_both(f"vendedores/dashboard/{name}", view.as_view(), name=f"vendedores-dashboard-{name}")
    for name, view in (
        ("resumen", vendor_dashboard.SummaryView),
        ("ventas", vendor_dashboard.SalesView),
        ("productos-top", vendor_dashboard.TopProductsView),
        ("comisiones", vendor_dashboard.CommissionsView),
        ("comparativa", vendor_dashboard.ComparisonView),
        ("ordenes", vendor_dashboard.OrdersView),
        ("exportar", vendor_dashboard.ExportView),
    )
]
urlpatterns += [
    path_both("vendors/dashboard/ordenes", vendor_dashboard.OrdersAlias.as_view(), name="vendors-ordenes"),
    path_both(
        "vendors/dashboard/comparativa",
        vendor_dashboard.ComparisonAlias.as_view(),
        name="vendors-comparativa",
    ),
]
