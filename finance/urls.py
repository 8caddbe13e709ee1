"""Addresses of orders and commissions; mounted under /api/v1/, and commissions at the root as well."""

from __future__ import annotations

from django.urls import URLPattern

commission_urlpatterns: list[URLPattern] = []
urlpatterns: list[URLPattern] = [*commission_urlpatterns]
