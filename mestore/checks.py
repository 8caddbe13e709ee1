"""Start-up checks: what Django does not look at. Each has an id and a hint; all run with `check --deploy`."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.utils.module_loading import import_string

FIRST_MIDDLEWARE = "monitoring.health.LivezMiddleware"
REQUIRED_MIDDLEWARE = (
    "mestore.middleware.SecurityHeadersMiddleware",
    "mestore.middleware.RequestBoundsMiddleware",
    "sessions_security.guard.SessionGuardMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
)


@register(Tags.security, deploy=True)
def database_is_verified(**_: Any) -> list[CheckMessage]:
    """mestore.E001: every database alias verifies the server's certificate and binds the channel."""
    found: list[CheckMessage] = []
    for alias, database in settings.DATABASES.items():
        if database["OPTIONS"].get("sslmode") != "verify-full":
            found.append(
                Error(
                    f"The database alias {alias} does not verify the server's certificate.",
                    hint="Add sslmode=verify-full and sslrootcert=FILE to its URL.",
                    id="mestore.E001",
                )
            )
    return found


@register(Tags.security, deploy=True)
def redis_is_verified(**_: Any) -> list[CheckMessage]:
    """mestore.E002: Redis is there, over TLS."""
    if settings.REDIS_URL.startswith("rediss://"):
        return []
    return [
        Error(
            "There is no Redis over TLS: load limits would be counted per process only.",
            hint="Set REDIS_URL to rediss://user:password@host:port/0.",
            id="mestore.E002",
        )
    ]


@register(Tags.security, deploy=True)
def roles_are_separate(**_: Any) -> list[CheckMessage]:
    """mestore.E003: the role that serves requests does not own the tables."""
    if settings.OWNER_ROLE != settings.RUNTIME_ROLE:
        return []
    return [
        Error(
            "DATABASE_URL and MIGRATION_DATABASE_URL use one role: it could change ledger and audit rows.",
            hint="Give the running service a role of its own that owns nothing.",
            id="mestore.E003",
        )
    ]


@register(Tags.security)
def middleware_is_complete(**_: Any) -> list[CheckMessage]:
    """mestore.E004: the guards are mounted, and the liveness probe answers before all of them."""
    missing = [name for name in REQUIRED_MIDDLEWARE if name not in settings.MIDDLEWARE]
    if not missing and settings.MIDDLEWARE[0] == FIRST_MIDDLEWARE:
        return []
    return [
        Error(
            "MIDDLEWARE lacks a guard or does not begin with the liveness probe.",
            hint=f"Begin with {FIRST_MIDDLEWARE}; missing: {', '.join(missing) or 'none'}.",
            id="mestore.E004",
        )
    ]


@register(Tags.security)
def cookies_are_host_bound(**_: Any) -> list[CheckMessage]:
    """mestore.E005: cookies carry the __Host- prefix, so that no sibling host can set or read them."""
    names = (settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME)
    if all(name.startswith("__Host-") for name in names):
        return []
    return [
        Error(
            "A cookie lacks the __Host- prefix.",
            hint="Name them __Host-sessionid, __Host-csrftoken.",
            id="mestore.E005",
        )
    ]


@register(Tags.security)
def console_needs_a_factor(**_: Any) -> list[CheckMessage]:
    """mestore.E006: the console is the site that demands a second factor."""
    from django.contrib import admin
    from django_otp.admin import OTPAdminSite

    # `admin.site` is a lazy proxy: its attributes are those of the configured default site.
    if isinstance(admin.site, OTPAdminSite):
        return []
    return [
        Error(
            "The admin site does not ask for a second factor.",
            hint="List mestore.apps.ConsoleConfig in INSTALLED_APPS.",
            id="mestore.E006",
        )
    ]


@register(Tags.security)
def passwords_are_peppered(**_: Any) -> list[CheckMessage]:
    """mestore.E007: one password hasher, Argon2id over a keyed pepper."""
    from accounts.hashers import PepperedArgon2Hasher

    kinds = [import_string(name) for name in settings.PASSWORD_HASHERS]
    if kinds and issubclass(kinds[0], PepperedArgon2Hasher):
        return []
    return [
        Error(
            "Passwords are not hashed with a pepper.",
            hint="Keep PASSWORD_HASHERS as shipped.",
            id="mestore.E007",
        )
    ]


@register(Tags.security)
def known_passwords_are_there(**_: Any) -> list[CheckMessage]:
    """mestore.E009: the lists that new passwords are compared with can be read."""
    from accounts import breached

    try:
        breached.check()
    except breached.PasswordListAway:
        return [
            Error(
                "A list of known passwords cannot be read: every new password would be refused.",
                hint="Run build_password_list, or load_breached_passwords for the file in the settings.",
                id="mestore.E009",
            )
        ]
    return []


@register(Tags.security, deploy=True)
def secrets_are_distinct(**_: Any) -> list[CheckMessage]:
    """mestore.W008: one value is not used for two purposes."""
    keys = [
        *settings.MESTORE_MASTER_KEYS.values(),
        *settings.MESTORE_PEPPER_KEYS.values(),
        settings.AUDIT_SIGNING_KEY,
    ]
    texts = [settings.SECRET_KEY, settings.METRICS_TOKEN]
    if len(set(keys)) == len(keys) and len(set(texts)) == len(texts):
        return []
    return [
        CheckWarning(
            "Two secrets have the same value: losing one would lose both.",
            hint="Generate a value of its own for each.",
            id="mestore.W008",
        )
    ]
