from __future__ import annotations

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    name = "monitoring"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Say where people's data keys stand, for the rotation of the master key."""
        from mestore.lib import resealing
        from monitoring import subjects

        resealing.register(subjects.SEALED)
