"""Django apps that live in this package: MeStore itself, and what stands in for two of Django's own."""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig
from django.contrib.auth.apps import AuthConfig


class MestoreConfig(AppConfig):
    """Brings the management commands and the start-up checks."""

    name = "mestore"

    def ready(self) -> None:
        # Importing registers the checks.
        import_module("mestore.checks")


class ConsoleConfig(AdminConfig):
    """The admin, with our own site as the default one."""

    default_site = "mestore.console.ConsoleSite"


class CredentialsConfig(AuthConfig):
    """Django's authentication without its own date of the last sign-in.

    A sign-in keeps that date in the statement that admits it. Django's receiver would write it once more, and
    would write it for somebody who is impersonated and did not sign in.
    """

    def ready(self) -> None:
        from django.contrib.auth.signals import user_logged_in

        super().ready()
        user_logged_in.disconnect(dispatch_uid="update_last_login")
