"""Sessions, tokens and sign-in: who is asking, and is their session still alive."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SessionsSecurityConfig(AppConfig):
    name = "sessions_security"
    verbose_name = _("Sessions")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.conf import settings

        from accounts import deletion, factors
        from mestore.lib import guard
        from monitoring import readiness
        from sessions_security import (  # noqa: F401  # schema registers, detectors declare their rules
            detectors,
            everyone,
            factor_proofs,
            models,
            own_data,
            own_passkeys,
            places,
            policy,
            schema,
            sealed,
            stepup,
        )

        places.start()
        policy.rows(settings.SESSION_POLICY, settings.SESSION_CHANGE_POLICY)  # an incomplete one: no start
        guard.register_step_up(stepup.check)
        everyone.register()
        sealed.register()
        own_data.register_sections()
        readiness.must_be_append_only("sessions_security_sessioncutoff")
        factor_proofs.register(factors.PASSKEY, own_passkeys.PROVER)
        # A session outlives neither its account nor anybody's memory of it: the audit trail keeps that.
        deletion.may_go_along(models.UserSession)
