"""How the API description names the two ways to prove who is calling."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # untyped registration hook
    """`Authorization: Bearer`."""

    target_class = "sessions_security.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:  # noqa: ARG002  # the hook's signature
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class CookieScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # untyped registration hook
    """The console's cookie."""

    target_class = "sessions_security.authentication.CookieAuthentication"
    name = "console_cookie"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:  # noqa: ARG002  # the hook's signature
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}
