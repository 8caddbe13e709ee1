"""Sessions, tokens and sign-in: who is asking, and is their session still alive."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SessionsSecurityConfig(AppConfig):
    name = "sessions_security"
    verbose_name = _("Sessions")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from sessions_security import schema  # noqa: F401  # registers how to authenticate with the API description
