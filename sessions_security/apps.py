from __future__ import annotations

from django.apps import AppConfig


class SessionsSecurityConfig(AppConfig):
    name = "sessions_security"
    default_auto_field = "django.db.models.BigAutoField"
