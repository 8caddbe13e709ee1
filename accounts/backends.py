"""Django's door to accounts: permissions and loading, never signing in."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from accounts import grants
from accounts.models import User


class GrantBackend:
    """Answers `has_perm` from grants. Credentials are checked by `accounts.login.check_credentials` alone,
    so that no form of the framework is a second way in with weaker rules."""

    def authenticate(self, _request: HttpRequest | None, **_credentials: Any) -> None:
        return None

    def get_user(self, user_id: Any) -> User | None:
        """Return the account of a session; none when it is closed."""
        return User.objects.filter(pk=user_id, is_active=True, deleted_at__isnull=True).first()

    def has_perm(self, user_obj: Any, perm: str, obj: object | None = None) -> bool:
        return isinstance(user_obj, User) and grants.has_perm(user_obj, perm, obj)

    def has_module_perms(self, user_obj: Any, app_label: str) -> bool:
        return isinstance(user_obj, User) and grants.has_module_perms(user_obj, app_label)

    def get_all_permissions(self, user_obj: Any, obj: object | None = None) -> set[str]:
        return user_obj.get_all_permissions(obj) if isinstance(user_obj, User) else set()
