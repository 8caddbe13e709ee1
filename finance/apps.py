from __future__ import annotations

from django.apps import AppConfig

from monitoring import readiness


class FinanceConfig(AppConfig):
    name = "finance"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Let readiness fail when the ledger could be changed; say where stored answers stand sealed."""
        from finance import (
            idempotency,
            journals,
            own_data,
            payout_batches,
            payout_outcomes,
            periods,
            refund_approvals,
            refund_claims,
        )
        from mestore.lib import resealing

        readiness.must_be_append_only(
            "ledger_account", "ledger_entry", "ledger_transfer", "ledger_statement_line", "ledger_reversal",
            "ledger_period_close",
        )  # fmt: skip
        resealing.register(idempotency.SEALED)
        refund_approvals.register()
        refund_claims.register()
        payout_batches.register()
        payout_outcomes.register()
        periods.register()
        journals.register()
        own_data.register_sections()
