"""People: accounts, roles, credentials, factors, lockout."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = _("Accounts")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts import (
            approvals,
            archived_values,
            data_requests,
            delegation,
            exports,
            own_data,
            recovery_approval,
            responders,
            retirements,
            role_changes,
        )
        from mestore.lib import guard
        from monitoring import readiness

        guard.register_second_person(approvals.require)
        archived_values.register()
        delegation.register()
        exports.register()
        recovery_approval.register()
        responders.register()
        retirements.register()
        role_changes.register()
        data_requests.register()
        own_data.register_sections()
        readiness.must_be_append_only("accounts_consent")
