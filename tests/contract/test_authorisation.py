"""Every API route in the name of every role, compared with docs/authorisation.md."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import models
from rest_framework import serializers

from accounts import approvals, break_glass, conditions, grants
from accounts.models import Permission, User
from accounts.roles import Role
from sessions_security import impersonation, sessions, tokens
from tests.contract import authorisation, reach
from tests.contract.authorisation import FACTORIES, ROLES, Call, every_call, header_of, lets_in, matrix, send
from tests.contract.routes import SAMPLES
from tests.factories.accounts import VendorFactory, grant
from tests.harness import caches

pytestmark = [
    pytest.mark.django_db(databases=["default", "audit"]),
    # Not for coverage: the same few lines thousands of times, which tests of single routes run as well.
    pytest.mark.no_cover,
]

PEOPLE = [role for role in ROLES if role is not Role.SYSTEM]
MATRIX = matrix()
CALLS = every_call()
# Nobody's form holds these, whoever fills it in.
NEVER_WRITTEN = (
    "id", "password", "email", "email_key", "source", "external_reference", "created_at",
    "password_changed_at", "recovery_email",
)  # fmt: skip
OURS = ("accounts.", "sessions_security.", "finance.", "monitoring.")
OWN_SHOP = (".ShopRequest", ".AvatarRequest", ".NotificationsRequest")
# What the staff's forms may say about other people; to oneself nobody does any of it.
RANK = (
    "user_type", "is_active", "security_clearance_level", "account_verified", "email_verified",
    "phone_verified", "department_id", "employee_id", "deleted_at", "locked_until", "force_password_change",
)  # fmt: skip


def account(role: Role) -> User | None:
    return FACTORIES[role].create() if role in FACTORIES else None


def each_call(wanted: Callable[[Call], bool] = lambda _call: True) -> Iterator[Call]:
    for number, call in enumerate(call for call in CALLS if wanted(call)):
        if number % 9 == 0:  # an administrator changes ten things a minute
            caches.forget()
        yield call


def named(permission: str) -> Callable[[Call], bool]:
    return lambda call: MATRIX[str(call)].permission == permission


# --- Routes and roles -------------------------------------------------------------------------------------


def test_every_route_stands_in_the_matrix_and_no_other() -> None:
    assert set(MATRIX) == {str(call) for call in CALLS}
    assert {str(call): MATRIX[str(call)].path for call in CALLS} == {
        str(call): call.documented_path for call in CALLS
    }
    for key, row in MATRIX.items():
        assert set(row.cells.values()) <= {"yes", "grant", "–"}, key
        assert ("grant" in row.cells.values()) == (row.permission != "–"), key


@pytest.mark.parametrize("role", ROLES)
def test_role_alone_opens_what_the_matrix_says(role: Role) -> None:
    headers = header_of(role, account(role))
    opened = {str(call) for call in each_call() if lets_in(call, headers)}

    assert opened == {key for key, row in MATRIX.items() if row.cells[role] == "yes"}


@pytest.mark.parametrize("role", PEOPLE)
def test_grants_open_what_the_matrix_says_and_nothing_else(role: Role) -> None:
    user = account(role)
    assert user is not None
    grant(user, *Permission.objects.values_list("name", flat=True))
    headers = header_of(role, user)
    closed = each_call(lambda call: MATRIX[str(call)].cells[role] != "yes")
    opened = {str(call) for call in closed if lets_in(call, headers)}

    assert opened == {key for key, row in MATRIX.items() if row.cells[role] == "grant"}


@pytest.mark.parametrize("permission", sorted({row.permission for row in MATRIX.values()} - {"–"}))
def test_every_other_permission_does_not_stand_in_for_the_one_named(permission: str) -> None:
    user = account(Role.SUPERUSER if permission != "audit_logs.read.read_only" else Role.ADMIN)
    assert user is not None
    grant(user, *Permission.objects.exclude(name=permission).values_list("name", flat=True))
    headers = header_of(user.role, user)

    for call in each_call(named(permission)):
        if MATRIX[str(call)].cells[user.role] == "grant":
            assert not lets_in(call, headers), call


# --- Fields -----------------------------------------------------------------------------------------------


def shapes() -> dict[str, type[serializers.BaseSerializer[Any]]]:
    """Every shape of a body, by name."""
    open_ends: list[type] = list(serializers.BaseSerializer.__subclasses__())
    found = {}
    while open_ends:
        shape = open_ends.pop()
        open_ends += shape.__subclasses__()
        if shape.__name__.endswith("Request") and shape.__module__.startswith(
            ("accounts", "sessions_", "finance")
        ):
            found[f"{shape.__module__}.{shape.__name__}"] = shape
    return found


def test_every_shape_takes_the_documented_fields_and_no_other() -> None:
    documented = {
        row[0].strip("`"): set(row[1].split(", "))
        for row in authorisation.table("authorisation.md", "Fields that may be written")
    }
    real = {
        name: {str(field) for field, made in shape().fields.items() if not made.read_only}  # type: ignore[attr-defined]
        for name, shape in shapes().items()
    }

    assert documented == real


def written(field: str) -> list[str]:
    return sorted(
        name
        for name, shape in shapes().items()
        if field in shape().fields  # type: ignore[attr-defined]
    )


def test_rank_is_written_by_the_administrations_shapes_only() -> None:
    for field in ("user_type", "is_active", "security_clearance_level", "is_verified", "permission_id"):
        for name in written(field):
            assert name.startswith("accounts.api.") or name.endswith(".RegistrationRequest"), (field, name)
    for field in ("email_key", "auth_epoch", "is_staff", "is_superuser", "deleted_at", "source"):
        assert written(field) == []


def everything(victim: User) -> dict[str, Any]:
    """A body that names every column there is, and what the forms ask for so that they are taken."""
    hostile: dict[str, Any] = {}
    for model in (User, type(victim.vendor_profile)):
        for field in model._meta.concrete_fields:
            if isinstance(field, models.BooleanField):
                hostile[field.name] = not getattr(victim, field.name, False)
            elif isinstance(field, models.IntegerField):
                hostile[field.name] = 5
            elif isinstance(field, models.DateTimeField):
                hostile[field.name] = "2020-01-01T00:00:00Z"
            else:
                hostile[field.name] = "x"
    return hostile | {
        "user_type": "SUPERUSER", "role": "SUPERUSER", "is_staff": True, "is_superuser": True,
        "is_verified": True, "id": SAMPLES["uuid"], "email": "taken-over@example.com",
        "recovery_email": "taken-over@example.com", "password": "correct horse battery paper",
        "nombre": "Eva", "telefono": "+573001234567", "language": "en",
        "user_id": str(victim.pk), "user_ids": [str(victim.pk)], "vendor_ids": [str(victim.pk)],
        "vendor_status": "approved", "status": "verified", "action": "verify",
        "reason": "asked for in writing", "rejection_reason": "asked for in writing", "text": "asked for",
        "permission_id": "users.manage.global", "permission_ids": ["users.manage.global"],
        "expires_at": None, "website_url": "", "avatar_url": "", "business_type": "",
        "primary_category": "", "social_media_links": {}, "business_hours": {},
        "notification_preferences": {}, "documents": [],
    }  # fmt: skip


def shop_fields(name: str) -> bool:
    """Whether vendors say this about their own shop."""
    return name == "updated_at" or any(made.endswith(OWN_SHOP) for made in written(name))


def state(user: User, *columns: str) -> dict[str, Any]:
    found: dict[str, Any] = User.objects.values(*columns).get(pk=user.pk)
    return found


@pytest.mark.parametrize("role", ROLES)
def test_no_body_writes_what_its_sender_may_not(role: Role) -> None:
    victim, user = VendorFactory.create(), account(role)
    if user is not None and user.is_staff:
        grant(user, *Permission.objects.values_list("name", flat=True))
    headers = header_of(role, user)
    body = everything(victim)
    if user is not None and user.is_staff:
        # With an address or a password in it, the administration's forms are refused as a whole.
        body = {name: value for name, value in body.items() if name not in {"email", "password"}}
    # The staff may change rank by its forms; nobody changes these, and nobody changes their own rank.
    others = NEVER_WRITTEN if role in {Role.ADMIN, Role.SUPERUSER} else (*NEVER_WRITTEN, *RANK)
    before, own = state(victim, *others), state(user, *NEVER_WRITTEN, *RANK) if user else {}
    profile = type(victim.vendor_profile).objects.values()
    shop = profile.get(user=victim)
    judged = [
        field.attname for field in victim.vendor_profile._meta.concrete_fields if not shop_fields(field.name)
    ]
    own_shop = type(victim.vendor_profile).objects.filter(user=user).values(*judged)
    own_before = own_shop.first() if user else None

    def unchanged() -> None:
        assert state(victim, *others) == before, call
        assert (state(user, *NEVER_WRITTEN, *RANK) if user else {}) == own, call
        if role not in {Role.ADMIN, Role.SUPERUSER}:
            assert profile.get(user=victim) == shop, call
            assert (own_shop.first() if user else None) == own_before, call

    taken = 0
    for call in each_call(lambda call: call.method in {"POST", "PUT", "PATCH"}):
        for target in (victim, user) if user and "{id}" in call.documented_path else (victim,):
            path = call.path.replace(SAMPLES["uuid"], str(target.pk))
            taken += send(call, headers, body, path=path, then=unchanged).status_code < 300
    assert taken or role is Role.SYSTEM


# --- Circumstances and thresholds -------------------------------------------------------------------------


def words_of(function: Callable[..., Any]) -> set[str]:
    """The words that a function answers."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    returned = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)]
    constants = [node.value for node in returned if isinstance(node, ast.Constant)]
    return {word for word in constants if isinstance(word, str) and word}


def test_circumstances_in_the_document_are_those_that_decide() -> None:
    documented = {row[0].strip("`") for row in authorisation.table("authorisation.md", "Circumstances")}

    assert documented == words_of(grants.obstacle) | words_of(conditions.obstacle)
    text = (authorisation.DOCUMENTS / "authorisation.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in text for key in conditions._KEYS)


def test_documented_thresholds_are_those_of_the_settings() -> None:
    documented = {
        row[0].strip("`"): row[1:] for row in authorisation.table("authorisation.md", "Fresh proofs")
    }
    assert documented == {
        action: [
            ", ".join(rule["methods"]),
            str(rule["max_age_seconds"]),
            "yes" if rule.get("device_bound") else "–",
        ]
        for action, rule in settings.STEP_UP.items()
    }  # fmt: skip

    numbers = {row[0].strip("`"): row[2] for row in authorisation.table("authorisation.md", "Thresholds")}
    hold = settings.FACTOR_RESET_HOLD_SECONDS
    assert numbers == {
        "GRANTS_NEED_SECOND_PERSON": ", ".join(sorted(settings.GRANTS_NEED_SECOND_PERSON)),
        "approvals.LIVES": str(int(approvals.LIVES / timedelta(seconds=1))),
        "IMPERSONATION_SECONDS": str(settings.IMPERSONATION_SECONDS),
        "BREAK_GLASS_SECONDS": str(settings.BREAK_GLASS_SECONDS),
        "FACTOR_RESET_HOLD_SECONDS": ", ".join(f"{role} {seconds}" for role, seconds in hold.items()),
        "RECOVERY_CODE_SECONDS": str(settings.RECOVERY_CODE_SECONDS),
        "RECOVERY_ATTEMPTS": str(settings.RECOVERY_ATTEMPTS),
        "ADMINISTRATION_WRITES": ", ".join(f"{n} in {s} s" for n, s in settings.ADMINISTRATION_WRITES),
        "BULK_ACTIONS": ", ".join(f"{n} in {s} s" for n, s in settings.BULK_ACTIONS),
    }


# --- Ways to sign in --------------------------------------------------------------------------------------


def test_every_way_to_a_session_is_documented() -> None:
    documented = {row[0].strip("`") for row in authorisation.table("security-policy.md", "Ways to sign in")}

    assert documented == reach.routes_to(
        sessions.start, impersonation.begin, tokens.issue_pair, tokens.issue_access, tokens.rotate
    )
    assert f"{break_glass._BYTES * 8} bits" in (authorisation.DOCUMENTS / "security-policy.md").read_text(
        "utf-8"
    )
