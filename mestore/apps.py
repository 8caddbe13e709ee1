"""Two Django apps live in this package: MeStore itself and the console that stands in for the stock admin."""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class MestoreConfig(AppConfig):
    """Brings the management commands and the start-up checks."""

    name = "mestore"

    def ready(self) -> None:
        # Importing registers the checks.
        import_module("mestore.checks")


class ConsoleConfig(AdminConfig):
    """The admin, with our own site as the default one."""

    default_site = "mestore.console.ConsoleSite"
