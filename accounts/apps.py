"""People: accounts, roles, credentials, factors, lockout."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = _("Accounts")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts import approvals, delegation, recovery_approval, role_changes
        from mestore.lib import guard

        guard.register_second_person(approvals.require)
        delegation.register()
        recovery_approval.register()
        role_changes.register()
