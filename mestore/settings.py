"""Settings of MeStore, one file. Values come from the environment; nothing has an insecure default.

The order is the order of questions a reader asks: where am I, what are the secrets, what do I talk to,
what runs on each request, who may do what and for how long. A wrong value stops the start with a sentence
that names the variable (see `mestore/environment.py`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mestore.environment import Database, Environment
from monitoring.logging import logging_config

SMS_CONSOLE = "monitoring.sms.Console"
BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment()

# --- Where am I -------------------------------------------------------------------------------------------
MESTORE_ENV = env.choice("MESTORE_ENV", "what this process is", ("demo", "test", "staging", "production"))
IS_DEMO = MESTORE_ENV == "demo"
DEBUG = env.boolean("MESTORE_DEBUG", "Django's debug pages; demo and test only", default=False)
if DEBUG and MESTORE_ENV not in {"demo", "test"}:
    env.complain("MESTORE_DEBUG must be false outside demo and test: debug pages show code and settings.")
PUBLIC_URL = env.text("MESTORE_PUBLIC_URL", "the address people and clients reach this service at").rstrip(
    "/"
)
FRONTEND_URL = env.text("MESTORE_FRONTEND_URL", "where links in mail lead", default=PUBLIC_URL or "-").rstrip(
    "/"
)
ALLOWED_HOSTS = env.listing("MESTORE_ALLOWED_HOSTS", "host names this service answers to, comma-separated")
if any("*" in host or host.startswith(".") for host in ALLOWED_HOSTS):
    env.complain("MESTORE_ALLOWED_HOSTS must name each host: a wildcard lets anybody choose the host name.")
TRUSTED_PROXY_COUNT = env.integer(
    "TRUSTED_PROXY_COUNT", "proxies in front, counted from the right of X-Forwarded-For",
    default=0, minimum=0, maximum=10,
)  # fmt: skip
CORS_ALLOWED_ORIGINS = env.listing("MESTORE_CORS_ORIGINS", "origins of the shipped front ends", default="")
if not all(re.fullmatch(r"https?://[\w.-]+(:\d+)?", origin, re.ASCII) for origin in CORS_ALLOWED_ORIGINS):
    env.complain("MESTORE_CORS_ORIGINS must name each origin as https://host or https://host:port.")
SAMPLE_DATA = env.text("MESTORE_SAMPLE_DATA", "folder with marketplace files for demo and tests", default="")
IS_LOOPBACK_DEMO = IS_DEMO and urlsplit(PUBLIC_URL).hostname in {"localhost", "127.0.0.1"}
if PUBLIC_URL and urlsplit(PUBLIC_URL).scheme != "https" and MESTORE_ENV != "test" and not IS_LOOPBACK_DEMO:
    env.complain("MESTORE_PUBLIC_URL must begin with https://: only the demo on this machine may use http.")

# --- Secrets ----------------------------------------------------------------------------------------------
SECRET_KEY = env.secret("MESTORE_SECRET_KEY", "signs short-lived values of the framework (CSRF, messages)")
SECRET_KEY_FALLBACKS: list[str] = []
MESTORE_MASTER_KEYS = env.key_ring(
    "MESTORE_MASTER_KEYS", "encrypts data at rest: id:base64, first is current"
)
MESTORE_PEPPER_KEYS = env.key_ring("MESTORE_PEPPER_KEYS", "keyed pepper of password hashes: id:base64")
AUDIT_SIGNING_KEY = env.key("MESTORE_AUDIT_SIGNING_KEY", "Ed25519 seed that signs audit checkpoints: base64")
AUDIT_ORIGIN = env.text(
    "MESTORE_AUDIT_ORIGIN", "name of the audit log in its checkpoints",
    default=f"{urlsplit(PUBLIC_URL).hostname or 'localhost'}/audit",
)  # fmt: skip
# Each "https://host:port name+id+key"; what a witness cosigned cannot be rewritten without its noticing.
AUDIT_WITNESSES = env.pairs("MESTORE_AUDIT_WITNESSES", "witnesses of the audit log", default="")
AUDIT_WITNESS_CA = env.text("MESTORE_AUDIT_WITNESS_CA", "PEM file that signed the witnesses", default="")
# Receipts of what was committed to the audit trail: log lines, or a file that something else ships.
AUDIT_RECEIPTS = env.text(
    "MESTORE_AUDIT_RECEIPTS", "where receipts of the audit trail go: stderr, a file, or off",
    default="off" if MESTORE_ENV == "test" else "stderr",
)  # fmt: skip
if AUDIT_RECEIPTS not in {"stderr", "off"} and not AUDIT_RECEIPTS.startswith("/"):
    env.complain("MESTORE_AUDIT_RECEIPTS is neither stderr, off, nor the whole path of a file.")
AUDIT_SPOOL = env.text("MESTORE_AUDIT_SPOOL", "folder for sign-in events while the trail refuses", default="")
AUDIT_ANCHOR_DIR = env.text("MESTORE_AUDIT_ANCHOR_DIR", "folder for hourly checkpoints", default="")
# How long the trail stands in the database, and where a month goes that does not any more.
AUDIT_MONTHS = env.integer(
    "MESTORE_AUDIT_MONTHS", "whole months for which the trail is held", default=24, minimum=12, maximum=600
)
AUDIT_ARCHIVE_DIR = env.text("MESTORE_AUDIT_ARCHIVE_DIR", "folder for archives of the trail", default="")
# Where the audit trail is sent: "https://host/path" or "syslog+tls://host:port".
AUDIT_PUSH = env.addresses(
    "MESTORE_AUDIT_PUSH", "where the audit trail is sent", schemes=("https", "syslog+tls")
)
AUDIT_PUSH_FORMAT = env.one_of(
    "MESTORE_AUDIT_PUSH_FORMAT", "form in which the audit trail is sent", ("ocsf", "jsonl")
)
AUDIT_PUSH_CA = env.text("MESTORE_AUDIT_PUSH_CA", "PEM file that signed the receivers", default="")
AUDIT_PUSH_TOKEN = env.text("MESTORE_AUDIT_PUSH_TOKEN", "bearer token for HTTPS receivers", default="")
AUDIT_CHECKPOINT_SECONDS = 5  # new leaves wait so long for a signature at most
METRICS_TOKEN = env.secret("MESTORE_METRICS_TOKEN", "bearer token that opens /metrics and health details")

# --- Databases (PostgreSQL) -------------------------------------------------------------------------------
POOL_SIZE = env.integer("MESTORE_DB_POOL_SIZE", "connections per process", default=8, minimum=1, maximum=64)
DB_PREPARE = env.boolean(
    "MESTORE_DB_PREPARE",
    "plan the busiest statements once per connection; false behind PgBouncer before 1.21",
    default=True,
)


def _database(url: Database, *, pool_size: int | None) -> dict[str, Any]:
    """Return Django's settings for one alias; with `pool_size` connections come from psycopg's pool."""
    options: dict[str, Any] = {
        **url.options,
        "application_name": "mestore",
        "connect_timeout": "3",
        # Nothing is planned once for being frequent, only what asks for it (`mestore.lib.sql`).
        "prepare_threshold": 2**31 if DB_PREPARE else None,
        # A forgotten transaction must not hold locks or the snapshot horizon; a blocked one must say so. A
        # machine that vanished says nothing: within half a minute each side gives the other up.
        # What is planned once is planned whatever its parameters: they are keys, and lists of a few keys, for
        # which PostgreSQL would else plan anew at each call.
        "options": (
            "-c lock_timeout=2s -c idle_in_transaction_session_timeout=10s -c timezone=UTC"
            " -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
            " -c tcp_user_timeout=20s -c plan_cache_mode=force_generic_plan"
        ),
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "20000",
    }
    if pool_size:
        options["pool"] = {
            "min_size": min(2, pool_size), "max_size": pool_size, "max_waiting": 2 * pool_size,
            "timeout": 3.0, "max_lifetime": 1800.0,
        }  # fmt: skip
    return {
        "ENGINE": "monitoring.database",
        "NAME": url.name,
        "USER": url.user,
        "PASSWORD": url.password,
        "HOST": url.host,
        "PORT": url.port,
        "OPTIONS": options,
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": False,  # the engine checks at every checkout, without a round trip
        "ATOMIC_REQUESTS": False,
    }


_runtime = env.postgresql("DATABASE_URL", "the runtime role's database URL", plain_loopback=IS_DEMO)
_owner = env.postgresql(
    "MIGRATION_DATABASE_URL", "the owner role's URL, for migrations only; unset where nothing migrates",
    plain_loopback=IS_DEMO, default="",
)  # fmt: skip
DATABASES = {
    "default": _database(_runtime, pool_size=POOL_SIZE),
    "owner": _database(_owner if _owner.name else _runtime, pool_size=None),
    # Refusals must survive the rollback of what was refused: they have a connection of their own.
    "audit": _database(_runtime, pool_size=max(2, POOL_SIZE // 2)),
}
DATABASE_ROUTERS = ["mestore.routers.OwnerMigrates"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
RUNTIME_ROLE = _runtime.user
OWNER_ROLE = _owner.user  # "" where nothing migrates

# --- Cache (Redis): load throttles and caches only, never truth -------------------------------------------
REDIS_URL = env.redis(
    "REDIS_URL", "Redis over TLS: rediss://user:password@host:port/0", plain_loopback=IS_DEMO
)
CACHES: dict[str, Any] = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "mestore",
        "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": 0.5, "SOCKET_TIMEOUT": 0.5},
    }
    if REDIS_URL
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "mestore"}
}

# --- What is installed and what runs on each request ------------------------------------------------------
INSTALLED_APPS = [
    "mestore.apps.ConsoleConfig",  # in place of django.contrib.admin
    "mestore.apps.MestoreConfig",
    "finance",
    "sessions_security",
    "accounts",
    "monitoring",
    "mestore.apps.CredentialsConfig",  # in place of django.contrib.auth
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_otp",
    "axes",
    "rest_framework",
    "drf_spectacular",
    "corsheaders",
    "procrastinate.contrib.django",
]
MIDDLEWARE = [
    "monitoring.health.LivezMiddleware",
    "monitoring.metrics.MetricsMiddleware",
    "mestore.middleware.RequestLogMiddleware",
    "mestore.middleware.SecurityHeadersMiddleware",
    "mestore.middleware.EdgeMiddleware",
    "monitoring.context.ContextMiddleware",
    "mestore.middleware.RequestBoundsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "mestore.middleware.OtherOriginsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "mestore.middleware.LanguageMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "sessions_security.guard.SessionGuardMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "mestore.urls"
WSGI_APPLICATION = "mestore.wsgi.application"
APPEND_SLASH = False  # both forms answer; a redirect would lose the body of a POST
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- Transport and headers --------------------------------------------------------------------------------
# The demo on loopback has no certificate; the test client speaks plain HTTP inside the process.
TLS_REQUIRED = not IS_LOOPBACK_DEMO and MESTORE_ENV != "test"
SECURE_SSL_REDIRECT = TLS_REQUIRED
SECURE_REDIRECT_EXEMPT = [
    r"^readyz$",
    r"^metrics$",
]  # asked by machines inside the network, token or one word
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXY_COUNT else None
SECURE_HSTS_SECONDS = 63_072_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = (
    "same-origin"  # with no-referrer browsers send "Origin: null" and every form of ours fails
)
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_ENGINE = "sessions_security.store"
SESSION_COOKIE_NAME = "__Host-sessionid"
SESSION_COOKIE_SECURE = True
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_NAME = "__Host-csrftoken"
CSRF_COOKIE_SECURE = True
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL] if PUBLIC_URL.startswith("https://") else []
CSRF_FAILURE_VIEW = "mestore.errors.csrf_failure"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
CORS_ALLOW_HEADERS = [
    "accept", "accept-language", "authorization", "content-type", "idempotency-key", "x-csrf-token",
    "x-request-id", "x-background",
]  # fmt: skip
CORS_ALLOW_METHODS = ["DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT"]
CORS_EXPOSE_HEADERS = ["idempotent-replayed", "ratelimit", "ratelimit-policy", "retry-after", "x-request-id"]
CORS_URLS_REGEX = r"^/(api/v1|commissions)(/|$)"
CORS_ALLOW_CREDENTIALS = False
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576
BODY_LIMITS = {
    "/api/v1/auth/": 4_096,
    "/api/v1/auth/passkeys/": 8_192,  # public keys and signatures of the longest RSA that counts
    "/admin/login/": 8_192,
    "/csp-reports": 8_192,
}  # bytes, by path prefix; else the limit above

# --- People, passwords, factors ---------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "accounts.backends.GrantBackend"]
PASSWORD_HASHERS = ["accounts.hashers.PepperedArgon2Hasher"]
LOGIN_URL = "admin:login"
ARGON2_TIME_COST = env.integer(
    "MESTORE_ARGON2_TIME_COST", "Argon2id passes", default=3, minimum=1, maximum=10
)
ARGON2_MEMORY_KIB = env.integer(
    "MESTORE_ARGON2_MEMORY_KIB", "Argon2id memory in KiB", default=65_536, minimum=1_024, maximum=1_048_576
)
ARGON2_PARALLELISM = 1
if MESTORE_ENV != "test" and ARGON2_MEMORY_KIB * ARGON2_TIME_COST < 57_344:
    env.complain("MESTORE_ARGON2_MEMORY_KIB and _TIME_COST are below what OWASP asks for password storage.")
HASH_CONCURRENCY = env.integer(
    "MESTORE_HASH_CONCURRENCY", "password hashes computed at once per process",
    default=max(1, (os.cpu_count() or 1) // 2), minimum=1, maximum=64,
)  # fmt: skip
# Made by `load_breached_passwords`; new passwords are refused while a file named here cannot be read.
BREACHED_PASSWORDS = env.text(
    "MESTORE_BREACHED_PASSWORDS", "file of leaked passwords; unset: the shipped list alone", default=""
)
PASSWORD_RESET_SECONDS = 3_600  # how long a reset link works, at most an hour
ADDRESS_CHANGE_SECONDS = 86_400  # how long a new address may take to be confirmed
# Codes of the future are never accepted; of the past only where this says so (ASVS 6.5.5: 30 s by default).
TOTP_DRIFT_STEPS = env.integer(
    "MESTORE_TOTP_DRIFT_STEPS", "authenticator codes of the step before that count, for slow clocks",
    default=0, minimum=0, maximum=1,
)  # fmt: skip
AXES_VERBOSE = False  # its banner would stand in the output of every command
AXES_HANDLER = "accounts.lockout.LockoutHandler"
AXES_SENSITIVE_PARAMETERS = ["username", "password"]
AXES_LOCKOUT_PARAMETERS = ["username", "ip_address"]
OTP_TOTP_ISSUER = "MeStore"

# Contract 3.4: attempts per window and network / account, then a lock (seconds). "pair": attempts in a day of
# one network on one account.
LOGIN_LIMITS = {
    "login": {"network": 10, "account": 5, "pair": 20, "window_seconds": 3_600, "lock_seconds": 900},
    "admin_login": {"network": 3, "account": 3, "pair": 9, "window_seconds": 3_600, "lock_seconds": 1_800},
    "factor": {"network": 10, "account": 5, "pair": 20, "window_seconds": 3_600, "lock_seconds": 600},
    "backup_code": {"network": 10, "account": 5, "pair": 20, "window_seconds": 3_600, "lock_seconds": 600},
    "passkey": {"network": 10, "account": 5, "pair": 20, "window_seconds": 3_600, "lock_seconds": 600},
    "otp": {"network": 10, "account": 5, "pair": 20, "window_seconds": 3_600, "lock_seconds": 600},
    "break_glass": {"network": 3, "account": 3, "window_seconds": 3_600, "lock_seconds": 1_800},
    "register": {"network": 5, "account": 1, "window_seconds": 3_600, "lock_seconds": 7_200},
    # Requests, not failures. On the demo's one machine everybody has the same address.
    "reset": {
        "network": 200 if IS_LOOPBACK_DEMO else 3,
        "account": 2,
        "window_seconds": 3_600,
        "lock_seconds": 3_600,
    },
    "change_password": {"network": 10, "account": 5, "window_seconds": 3_600, "lock_seconds": 900},
}
# A lock that follows another within this time is longer. Doors that count requests, not failures, stay as
# they are: else strangers could keep somebody from resetting a password for days.
LOCK_MULTIPLIERS = [1, 2, 4, 8, 24]
LOCK_MEMORY_SECONDS = 86_400
NEVER_ESCALATED = frozenset({"reset", "register"})
# So many locks of one network within a day close every door to it, for these many days.
NETWORK_VIOLATIONS = 5
NETWORK_BLOCK_DAYS = [1, 2, 4, 7]
NETWORK_BLOCK_MEMORY_SECONDS = 604_800
FACTOR_WRONG_IN_A_ROW = 50  # then that kind of factor is suspended, until a person resumes it
KNOWN_DEVICES = 10  # browsers per account whose failures are counted apart from strangers'
KNOWN_DEVICE_SECONDS = 15_552_000  # 180 days after the last sign-in

# --- Registration and verification ------------------------------------------------------------------------
# Accounts opened from one network in an hour. On the demo's one machine everybody has the same address.
REGISTRATIONS_PER_HOUR = env.integer(
    "MESTORE_REGISTRATIONS_PER_HOUR", "accounts that one network may open in an hour",
    default=200 if IS_LOOPBACK_DEMO else 5, minimum=1, maximum=100_000,
)  # fmt: skip
REGISTRATION_HIDE_EXISTING = env.boolean(
    "MESTORE_REGISTRATION_HIDE_EXISTING",
    "answer 202 to every registration, whether the address is taken or not",
    default=False,
)
VENDOR_AUTO_APPROVE = env.boolean(
    "MESTORE_VENDOR_AUTO_APPROVE", "new vendors sell at once, without anybody's approval", default=False
)
# Codes that prove an address or a number: life, tries per code, pause between two, codes per hour.
VERIFICATION = {"valid_seconds": 600, "attempts": 5, "cooldown_seconds": 60, "per_hour": 5}

# Passkeys belong to a domain (RP id) and answer pages of these origins, whatever Host a request names.
WEBAUTHN_RP_NAME = "MeStore"
WEBAUTHN_RP_ID, WEBAUTHN_ORIGINS = env.relying_party(
    "MESTORE_WEBAUTHN_RP_ID", "MESTORE_WEBAUTHN_ORIGINS",
    addresses=[PUBLIC_URL, FRONTEND_URL], loopback=IS_LOOPBACK_DEMO or MESTORE_ENV == "test",
)  # fmt: skip
PASSKEYS = 10  # per account
PASSKEY_CHALLENGE_SECONDS = 300
SUPERUSER_REQUIRES_PASSKEY = env.boolean(
    "MESTORE_SUPERUSER_REQUIRES_PASSKEY", "superusers sign in with a passkey only", default=False
)
if SUPERUSER_REQUIRES_PASSKEY and not WEBAUTHN_ORIGINS:
    env.complain(
        "MESTORE_SUPERUSER_REQUIRES_PASSKEY needs MESTORE_WEBAUTHN_RP_ID: else nobody could sign in."
    )

TOTP_ENROLMENT_SECONDS = 600  # how long a new secret waits for its first code
TOTP_ENROLMENT_ATTEMPTS = 5
TOTP_DEVICES = 5  # confirmed ones per account
BACKUP_CODES = 10
BACKUP_CODES_LOW = 3  # so few left: say so
RECOVERY_SECONDS = 3_600  # how long a recovery may take until both proofs are there
RECOVERY_CODE_SECONDS = 600
RECOVERY_ATTEMPTS = 5
# Codes mailed (limit, seconds): from one network to one account, and to one account in all. The first keeps
# a stranger from using up the owner's share, the second keeps many strangers from filling a mailbox.
RECOVERY_RATE_LIMITS = {"pair": [(3, 3_600)], "account": [(20, 3_600)]}
# How long a reset of all factors waits, so that its owner can say that it was somebody else.
FACTOR_RESET_HOLD_SECONDS = {"BUYER": 3_600, "VENDOR": 86_400, "ADMIN": 86_400, "SUPERUSER": 86_400}

# The risks of permissions that one person alone may not give.
GRANTS_NEED_SECOND_PERSON = frozenset({"HIGH", "CRITICAL"})
# An impersonated session ends after this, at the latest.
IMPERSONATION_SECONDS = 900
# How long the account of emergencies stays open once its code was used.
BREAK_GLASS_SECONDS = 3_600

# What must be proved again before an action, and how long ago that may be. "password" counts only for
# accounts without a second factor; "device_bound" refuses passkeys that may be copied to other devices. An
# action that is not here is refused.
STEP_UP: dict[str, dict[str, Any]] = {
    "factors.enrol": {"methods": ["passkey", "totp", "backup_code", "password"], "max_age_seconds": 300},
    "factors.remove": {"methods": ["passkey", "totp", "backup_code"], "max_age_seconds": 300},
    "factors.backup_codes": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "passkeys.register": {"methods": ["passkey", "totp", "backup_code", "password"], "max_age_seconds": 300},
    "passkeys.remove": {"methods": ["passkey", "totp", "backup_code"], "max_age_seconds": 300},
    "account.change_password": {
        "methods": ["passkey", "totp", "backup_code", "password"],
        "max_age_seconds": 300,
    },
    "account.change_email": {
        "methods": ["passkey", "totp", "backup_code", "password"],
        "max_age_seconds": 300,
    },
    "sessions.revoke": {"methods": ["passkey", "totp", "backup_code", "password"], "max_age_seconds": 900},
    "users.end_sessions": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "users.suspend": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "users.impersonate": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "users.factor_reset": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "approvals.decide": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "permissions.grant": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "permissions.grant_system": {"methods": ["passkey"], "max_age_seconds": 300, "device_bound": True},
    "users.change_role": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "users.erase": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "lockouts.change": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "signals.archive_critical": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "clients.manage": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "audit.reveal": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "audit.verify": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "jobs.park": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    # Money and where it goes: no password and no backup code opens these, a vendor sets a factor up first.
    "bank.change": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "commission_rules.approve": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "refund.post": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "payout.request": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "payout.approve": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "payout.export": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "bank.reveal": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "finance.manage": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    "keys.rotate": {"methods": ["passkey"], "max_age_seconds": 300, "device_bound": True},
    "break_glass.seal": {"methods": ["passkey"], "max_age_seconds": 300, "device_bound": True},
    # One's own data: asking for a copy or to be forgotten, and fetching the copy; the staff's answer.
    "own_data.request": {
        "methods": ["passkey", "totp", "backup_code", "password"],
        "max_age_seconds": 300,
    },
    "own_data.download": {
        "methods": ["passkey", "totp", "backup_code", "password"],
        "max_age_seconds": 300,
    },
    "data_requests.decide": {"methods": ["passkey", "totp"], "max_age_seconds": 300},
    # Going on from elsewhere: only a proof from there counts, so its age is that of the request.
    "session.continue": {"methods": ["passkey", "totp", "backup_code", "password"], "max_age_seconds": 60},
}

# --- Where a sign-in comes from, and how risky it is ------------------------------------------------------
# Read once, at the start; a file that cannot be used refuses it. Unset: nothing is decided by place.
PLACES = env.text(
    "MESTORE_PLACES", "file of where addresses are: .csv of ranges or .mmdb; unset: no such rule", default=""
)
# Contract 4.1. Failures and attempts per network in an hour and in five minutes; each account that the
# network signed in to allows it so many more. They stand above LOGIN_LIMITS, which lock first and shorter.
SIGN_IN_RISK: dict[str, Any] = {
    "network_failures": 20,
    "account_failures": 10,
    "attempts_in_five_minutes": 10,
    "per_good_account": 3,
    "device_accounts": 3,
    "device_networks": 5,
    # Of a network, 0 to 100: where it begins, when it counts, what a wrong attempt adds, how it fades.
    "reputation_new": 20,
    "reputation_medium": 40,
    "reputation_high": 60,
    "reputation_critical": 80,
    "reputation_per_wrong": 2,
    "reputation_decay_per_hour": 1,
    "reputation_days": 30,
    # Faster than an airliner, and farther than places are wrong by.
    "travel_kmh": 900,
    "travel_km": 300,
    # When the staff works, on the clock of BUSINESS_TIME_ZONE: hours from, to; days of the week (ISO).
    "business_hours": (6, 20),
    "business_days": frozenset({1, 2, 3, 4, 5, 6}),
    "lock_seconds": {"HIGH": 1_800, "CRITICAL": 3_600},
}
SIGN_IN_ATTEMPT_SECONDS = 172_800  # how long an attempt to sign in is kept
SIGN_IN_NOTICE_SECONDS = 604_800  # how long the link "this was not me" works
FACTOR_FREEZE_SECONDS = 259_200  # how long nothing that opens an account changes after that link was used

# --- Sessions and tokens (design: policy tables) ----------------------------------------------------------
SESSION_POLICY: dict[str, dict[str, int | str | None]] = {
    "BUYER": {
        "idle_seconds": 3_600, "absolute_seconds": 86_400, "max_sessions": 5, "assurance": "password",
    },
    "VENDOR": {
        "idle_seconds": 3_600, "absolute_seconds": 86_400, "max_sessions": 3, "assurance": "password",
    },
    "ADMIN": {
        "idle_seconds": 900, "absolute_seconds": 43_200, "max_sessions": 2, "assurance": "password+factor",
    },
    "SUPERUSER": {
        "idle_seconds": 900, "absolute_seconds": 43_200, "max_sessions": 1, "assurance": "password+factor",
    },
    "SYSTEM": {
        "idle_seconds": None, "absolute_seconds": 86_400, "max_sessions": 20, "assurance": "machine",
    },
}  # fmt: skip
# What follows when a session is used from elsewhere than it began: ignore, note, challenge (a factor proved
# from there), end. Machines have allow-lists of networks, and programs that are updated by name.
SESSION_CHANGE_POLICY: dict[str, dict[str, str]] = {
    "BUYER": {"network_near": "ignore", "network_far": "note", "country": "challenge", "agent": "challenge"},
    "VENDOR": {"network_near": "ignore", "network_far": "note", "country": "challenge", "agent": "challenge"},
    "ADMIN": {"network_near": "note", "network_far": "challenge", "country": "end", "agent": "end"},
    "SUPERUSER": {"network_near": "note", "network_far": "challenge", "country": "end", "agent": "end"},
    "SYSTEM": {"network_near": "ignore", "network_far": "ignore", "country": "ignore", "agent": "ignore"},
}
# Routes that pages and clients ask by themselves: they are no sign that somebody is there.
BACKGROUND_ROUTES: frozenset[str] = frozenset()
# Sessions of one account ended by its limit within a day, from which on somebody should look.
SESSION_EVICTIONS_TO_LOOK_AT = 5
ACCESS_TOKEN_SECONDS = env.integer(
    "MESTORE_ACCESS_TOKEN_SECONDS", "life of an access token", default=900, minimum=60, maximum=3_600
)
REFRESH_REUSE_GRACE_SECONDS = 10
PENDING_SIGN_IN_SECONDS = 300
PENDING_SIGN_IN_ATTEMPTS = 5
TOKEN_ISSUER = "mestore-api"  # noqa: S105 -- a name, not a secret
TOKEN_AUDIENCE = "mestore-client"  # noqa: S105 -- a name, not a secret
MACHINE_TOKEN_AUDIENCE = "mestore-machine"  # noqa: S105 -- a name, not a secret
REQUIRE_DPOP = env.boolean(
    "MESTORE_REQUIRE_DPOP",
    "issue and accept only tokens that are bound to a key of the caller (RFC 9449)",
    default=False,
)
# Attempts to sign in, right or wrong (limit, seconds): load, before a password is hashed.
# Failures have LOGIN_LIMITS.
SIGN_IN_RATE_LIMITS = {"network": [(60, 60)], "account": [(30, 60)]}

# Requests per window (limit, seconds). Anonymous by network; signed in by the role's bucket alone.
RATE_LIMITS: dict[str, list[tuple[int, int]]] = {
    "anonymous": [(60, 60), (600, 3_600), (2_400, 86_400)],
    "BUYER": [(300, 60)],
    "VENDOR": [(500, 60)],
    "ADMIN": [(1_000, 60)],
    "SUPERUSER": [(1_000, 60)],
    "SYSTEM": [
        (
            env.integer(
                "MESTORE_MACHINE_REQUESTS_PER_MINUTE", "rate limit of a machine account",
                default=60_000, minimum=1, maximum=10_000_000,
            ),
            60,
        )
    ],
}  # fmt: skip

# What one administrator may do besides (limit, seconds): changes in the user administration, actions on many.
ADMINISTRATION_WRITES = [(10, 60)]
BULK_ACTIONS = [(10, 60)]

# --- Signals and what detects them (monitoring.alerts, sessions_security.detectors) -----------------------
# Mails about signals of one rule in an hour at most, and days that evidence and archived signals are kept.
SIGNAL_MAILS_AN_HOUR = 6
SIGNAL_DAYS = 90
# Windows in seconds. A detector speaks when every number of its row is reached.
DETECTORS: dict[str, dict[str, int]] = {
    # Of one network, or one program (by its agent): accounts tried without success, tries on each at most on
    # average, and how many of a hundred attempts failed at least.
    "spray": {"window": 600, "accounts": 20, "tries_per_account": 3, "failed_percent": 80},
    "slow_spray": {"window": 86_400, "accounts": 100, "tries_per_account": 3, "failed_percent": 80},
    # Of all networks together: failures, accounts and networks behind them, and how many times the usual
    # share of failures (of the day before) the present one is.
    "stuffing": {"window": 600, "failures": 200, "accounts": 100, "networks": 20, "times_usual": 2},
    "stuffing_hour": {"window": 3_600, "failures": 600, "accounts": 300, "networks": 50, "times_usual": 2},
    # Of one account: networks from which it was tried without success.
    "guessing": {"window": 3_600, "networks": 10, "failures": 20},
}
# Seconds without a run of the detectors after which their silence is a signal itself.
DETECTORS_SILENT_SECONDS = 300

# --- Money ------------------------------------------------------------------------------------------------
# What a sale costs where no rule matches, by type, in parts per million (contract 2.4, its names).
COMMISSION_RATES_PPM = {
    "STANDARD": env.parts_per_million("DEFAULT_COMMISSION_RATE", "commission rate", default=50_000),
    "PREMIUM": env.parts_per_million("PREMIUM_COMMISSION_RATE", "commission rate of PREMIUM", default=30_000),
    "PROMOTIONAL": env.parts_per_million(
        "PROMOTIONAL_COMMISSION_RATE", "commission rate of PROMOTIONAL", default=20_000
    ),
    "CATEGORY_BASED": env.parts_per_million(
        "HIGH_VOLUME_COMMISSION_RATE", "commission rate of CATEGORY_BASED", default=40_000
    ),
}
COMMISSION_BASE = "goods"  # the items' total without tax and shipping
# Value added tax on the commission, and what is withheld of the vendor's money for tax offices: per currency
# a list of {"name", "ppm", "of": "goods" or "tax"}, e.g. retefuente, ReteICA. Each is a transfer of its own.
COMMISSION_TAX_PPM = {"COP": 190_000}
WITHHOLDINGS: dict[str, list[dict[str, Any]]] = {}
# How amounts are rounded: "half_up" to the minor unit, "half_up_whole" to whole units (no centavos).
ROUNDING = {"COP": "half_up"}
IVA_PPM = {"COP": 190_000}  # value added tax on goods; currencies not named here carry none
# Flat charge and the goods' total from which it is free, in minor units.
SHIPPING = {"COP": {"flat_minor": 1_500_000, "free_from_minor": 20_000_000}}

# What one person of the staff may refund alone, in minor units; above it, and in currencies that are not
# named, a second one agrees. The storefront's machine account is bound by its orders alone.
REFUND_ALONE_UP_TO = {"COP": 100_000_000, "BRL": 200_000, "USD": 40_000, "EUR": 40_000}
# Days for which a link works with which an order can be followed without signing in.
TRACKING_LINK_DAYS = env.integer(
    "MESTORE_TRACKING_LINK_DAYS", "days a link to follow an order works", default=30, minimum=1, maximum=365
)

# Settlement: days after which a sale's money becomes available, from its confirmation or its delivery.
SETTLEMENT_HOLD_DAYS = env.integer(
    "MESTORE_SETTLEMENT_HOLD_DAYS", "days before a sale is settled", default=7, minimum=0, maximum=365
)
SETTLEMENT_HOLD_FROM = env.one_of(
    "MESTORE_SETTLEMENT_HOLD_FROM", "what the hold is counted from", ("confirmed", "delivered")
)
# Commissions up to these amounts (minor units) are approved by the settlement itself; what is larger, or in
# a currency that is not named, waits for a person.
COMMISSION_AUTO_APPROVE = env.boolean(
    "MESTORE_COMMISSION_AUTO_APPROVE", "approve small commissions at settlement", default=True
)
COMMISSION_REVIEW_ABOVE = {"COP": 50_000_000, "BRL": 100_000, "USD": 20_000, "EUR": 20_000}

# Payouts. Least and most of one payout in major units, by currency (contract 2.6); none in others.
PAYOUT_BOUNDS = {"COP": ("10000", "50000000"), "USD": ("10", "12000"), "EUR": ("10", "12000")}
# Who agrees: so many people below an amount (major units), the last line for what is above; lead: one of them
# is a finance lead. A currency without lines needs the strictest of all.
PAYOUT_TIERS: dict[str, list[dict[str, Any]]] = {
    "COP": [
        {"below": "2000000", "approvals": 1, "lead": False},
        {"below": "50000000", "approvals": 2, "lead": False},
        {"below": None, "approvals": 3, "lead": True},
    ],
    "USD": [
        {"below": "500", "approvals": 1, "lead": False},
        {"below": "12000", "approvals": 2, "lead": False},
        {"below": None, "approvals": 3, "lead": True},
    ],
}
BANK_ACCOUNT_COOLING_HOURS = env.integer(
    "MESTORE_BANK_ACCOUNT_COOLING_HOURS", "hours before money may go to a new bank account",
    default=72, minimum=1, maximum=720,
)  # fmt: skip
PAYOUT_REQUEST_DAYS = env.integer(
    "MESTORE_PAYOUT_REQUEST_DAYS", "days after which a payout that was not sent is given up",
    default=10, minimum=1, maximum=60,
)  # fmt: skip
PAYOUT_ANSWER_DAYS = env.integer(
    "MESTORE_PAYOUT_ANSWER_DAYS", "days without the bank's answer after which a payout's outcome is unknown",
    default=3, minimum=1, maximum=30,
)  # fmt: skip
PAYOUT_FILE_HOURS = env.integer(
    "MESTORE_PAYOUT_FILE_HOURS",
    "hours in which a bank file must be handed over",
    default=24,
    minimum=1,
    maximum=72,
)
# Batch runs: for whom `manage.py payouts run` asks (nobody, or every vendor with a usable account), and the
# least amount of such a payout in major units.
PAYOUT_RUN_FOR = env.one_of(
    "MESTORE_PAYOUT_RUN_FOR", "for whom batch payouts are asked", ("nobody", "everybody")
)
PAYOUT_RUN_LEAST = {"COP": "50000", "USD": "50", "EUR": "50"}
PAYOUT_BATCH_SIZE = 500
# Who pays, as bank files name them.
PAYOUT_PAYER = {
    "name": env.text("MESTORE_PAYOUT_PAYER_NAME", "who pays, in bank files", default="MeStore"),
    "document": env.text("MESTORE_PAYOUT_PAYER_DOCUMENT", "the payer's tax id, digits only", default=""),
    "account": env.text("MESTORE_PAYOUT_PAYER_ACCOUNT", "the account payouts are paid from", default=""),
    "account_type": env.one_of("MESTORE_PAYOUT_PAYER_ACCOUNT_TYPE", "its kind", ("AHORROS", "CORRIENTE")),
}

# Hosts (`name` or `name:port`) to which events for the storefront may be sent. Empty: to nobody.
WEBHOOK_HOSTS = env.listing("MESTORE_WEBHOOK_HOSTS", "hosts that take the storefront's events", default="")
WEBHOOK_CA = env.text("MESTORE_WEBHOOK_CA", "PEM file that signed those hosts", default="")

# --- API --------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "sessions_security.authentication.BearerAuthentication",
        "sessions_security.authentication.CookieAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["mestore.lib.http.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["mestore.lib.http.ExactJSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "mestore.errors.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "mestore.errors.JSONOnlyNegotiation",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "MeStore API",
    "DESCRIPTION": "Orders, commissions, sessions and sign-in of the MeStore marketplace.",
    "VERSION": "1.0.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "ENUM_NAME_OVERRIDES": {"BankAccountTypeEnum": [("AHORROS", "AHORROS"), ("CORRIENTE", "CORRIENTE")]},
}

# --- Language and time ------------------------------------------------------------------------------------
LANGUAGE_CODE = "es"  # Spanish is the default; Accept-Language: en gives English
LANGUAGES = [("es", "Español"), ("en", "English")]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"
BUSINESS_TIME_ZONE = "America/Bogota"

# --- Messages to people -----------------------------------------------------------------------------------
_mail = env.mail_server(
    "MESTORE_MAIL_URL", "the mail server; the demo prints its mail instead",
    required=MESTORE_ENV in {"staging", "production"},
)  # fmt: skip
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if _mail.host else 'console'}.EmailBackend"
EMAIL_HOST, EMAIL_PORT = _mail.host, _mail.port
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _mail.user, _mail.password
EMAIL_USE_SSL, EMAIL_USE_TLS = _mail.scheme == "smtps", _mail.scheme == "smtp+starttls"
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.text(
    "MESTORE_MAIL_FROM", "whom mail comes from", default=f"MeStore <no-reply@{urlsplit(PUBLIC_URL).hostname}>"
)
SMS_BACKEND = env.text(
    "MESTORE_SMS_BACKEND", "class that sends text messages; unset: none are sent",
    default="" if MESTORE_ENV in {"staging", "production"} else SMS_CONSOLE,
)  # fmt: skip
if SMS_BACKEND == SMS_CONSOLE and MESTORE_ENV in {"staging", "production"}:
    env.complain("MESTORE_SMS_BACKEND prints codes instead of sending them: name a provider's class.")

# --- Files and logs ---------------------------------------------------------------------------------------
STATIC_URL = "/static/"
STATIC_ROOT = Path(
    env.text(
        "MESTORE_STATIC_ROOT",
        "where collectstatic puts the console's files",
        default=str(BASE_DIR / ".static"),
    )
)
STORAGES = {
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},  # nothing is uploaded yet
}
WHITENOISE_USE_FINDERS = True  # the console has one stylesheet: served from the package itself
WHITENOISE_MAX_AGE = 300
WHITENOISE_ALLOW_ALL_ORIGINS = False
LOG_LEVEL = env.text("MESTORE_LOG_LEVEL", "DEBUG, INFO, WARNING or ERROR", default="INFO")
LOGGING = logging_config(MESTORE_ENV)

env.refuse_if_wrong()
