from __future__ import annotations

from django.apps import AppConfig

from monitoring import readiness


class FinanceConfig(AppConfig):
    name = "finance"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Let readiness fail when the ledger could be changed; say where stored answers stand sealed."""
        from finance import idempotency, own_data
        from mestore.lib import resealing

        readiness.must_be_append_only("ledger_account", "ledger_entry", "ledger_transfer")
        resealing.register(idempotency.SEALED)
        own_data.register_sections()
