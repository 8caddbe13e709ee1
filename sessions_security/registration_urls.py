"""Addresses where accounts are opened; mounted under /api/v1/."""

from __future__ import annotations

from django.urls import URLPattern

from mestore.lib.http import path_both
from sessions_security import registration_views as views

urlpatterns: list[URLPattern] = [
    path_both("consent-texts", views.ConsentTexts.as_view(), name="consent-texts"),
    path_both("auth/register", views.Register.as_view(), name="auth-register"),
    path_both("vendors/register", views.RegisterVendor.as_view(), name="vendors-register"),
    path_both("vendors/login", views.SignInVendor.as_view(), name="vendors-login"),
    path_both("vendedores/registro", views.RegisterVendedor.as_view(), name="vendedores-registro"),
    path_both("vendedores/login", views.SignInVendor.as_view(), name="vendedores-login"),
]
