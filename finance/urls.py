"""Addresses of orders and commissions; mounted under /api/v1/, and commissions at the root as well."""

from __future__ import annotations

from typing import Any

from django.urls import URLPattern

from finance import views
from finance.api import disputes, history
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
    ]


urlpatterns: list[URLPattern] = [
    path_both("orders/", views.OrdersView.as_view(), name="orders"),
    *_commissions(),
    path_both(
        "commissions/<uuid:commission_id>/proof", views.CommissionProofView.as_view(), name="commission-proof"
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
# The shipped front end calls these without the prefix; the published description names them once.
commission_urlpatterns: list[URLPattern] = _commissions(schema=None)
