"""People: accounts, roles, credentials, factors, lockout."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = _("Accounts")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts import approvals, delegation, recovery_approval
        from mestore.lib import guard

        guard.register_second_person(approvals.require)
        delegation.register()
        recovery_approval.register()
        approvals.register(
            approvals.Procedure(role_changes.PROCEDURE, delegation.GRANTING, role_changes.carry_out)
        )
