"""Addresses of orders and commissions; mounted under /api/v1/, and commissions at the root as well."""

from __future__ import annotations

from django.urls import URLPattern

from finance import views
from mestore.lib.http import path_both

commission_urlpatterns: list[URLPattern] = [
    path_both("commissions/", views.CommissionsView.as_view(), name="commissions"),
    path_both("commissions/earnings/summary", views.EarningsView.as_view(), name="commission-earnings"),
    path_both("commissions/<uuid:commission_id>", views.CommissionView.as_view(), name="commission"),
]
urlpatterns: list[URLPattern] = [
    path_both("orders/", views.OrdersView.as_view(), name="orders"),
    *commission_urlpatterns,
]
