"""Addresses of orders and commissions; mounted under /api/v1/, and commissions at the root as well."""

from __future__ import annotations

from typing import Any

from django.urls import URLPattern

from finance import views
from mestore.lib.http import path_both


def _commissions(**options: Any) -> list[URLPattern]:
    return [
        path_both("commissions/", views.CommissionsView.as_view(**options), name="commissions"),
        path_both(
            "commissions/earnings/summary", views.EarningsView.as_view(**options), name="commission-earnings"
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
# The shipped front end calls these without the prefix; the published description names them once.
commission_urlpatterns: list[URLPattern] = _commissions(schema=None)
