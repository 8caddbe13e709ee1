from __future__ import annotations

import pytest

from accounts import roles
from accounts.roles import Role


@pytest.mark.parametrize("actor", [Role.BUYER, Role.VENDOR, Role.SYSTEM])
@pytest.mark.parametrize("target", list(Role))
def test_only_staff_manages_anybody(actor: Role, target: Role) -> None:
    assert not roles.may_manage(actor, target)


@pytest.mark.parametrize("target", [Role.ADMIN, Role.SUPERUSER, Role.SYSTEM])
def test_administrator_reaches_nobody_at_or_above(target: Role) -> None:
    assert not roles.may_manage(Role.ADMIN, target)


def test_administrator_manages_buyers_and_vendors() -> None:
    assert roles.may_manage("ADMIN", "BUYER")
    assert roles.may_manage(Role.ADMIN, Role.VENDOR)


@pytest.mark.parametrize("target", list(Role))
def test_superuser_manages_everybody(target: Role) -> None:
    assert roles.may_manage(Role.SUPERUSER, target)


def test_unknown_role_has_no_level() -> None:
    with pytest.raises(ValueError, match="ROOT"):
        roles.level("ROOT")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "users",
        "users.read",
        "users.read.global.more",
        "USERS.READ.GLOBAL",
        "cats.read.global",
        "users.pet.x",
    ],
)
def test_words_outside_the_table_are_no_permission(name: str) -> None:
    with pytest.raises(roles.UnknownPermissionError):
        roles.parts_of(name)


def test_name_is_its_parts() -> None:
    assert roles.name_of("USERS", "READ", "READ_ONLY") == "users.read.read_only"
    assert roles.parts_of("audit_logs.read.global") == ("AUDIT_LOGS", "READ", "GLOBAL")


@pytest.mark.parametrize(
    ("name", "level", "clearance"),
    [
        ("users.create.global", 4, 4),
        ("users.manage.system", 4, 5),
        ("settings.configure.system", 4, 5),
        ("audit_logs.read.read_only", 3, 2),
        ("orders.read.read_only", 2, 2),
        ("orders.update.department", 3, 3),
        ("orders.update.team", 2, 3),
        ("users.delete.global", 4, 5),
    ],
)
def test_requirements_are_the_table_plus_the_scope_clamped(name: str, level: int, clearance: int) -> None:
    assert roles.requirement(name) == roles.Requirement(level, clearance)


@pytest.mark.parametrize(
    "name",
    [
        "users.delete.global",
        "users.manage.system",
        "settings.configure.system",
        "audit_logs.delete.team",
        "audit_logs.delete.global",
        "transactions.update.user",
        "permissions.grant.global",
        "permissions.grant.read_only",
    ],
)
def test_some_powers_are_never_inherited(name: str) -> None:
    assert not roles.is_inheritable(name)


@pytest.mark.parametrize("name", ["users.delete.team", "users.manage.global", "orders.read.read_only"])
def test_other_powers_may_be_inherited(name: str) -> None:
    assert roles.is_inheritable(name)


@pytest.mark.parametrize("role", [Role.BUYER, Role.VENDOR, Role.SYSTEM])
def test_nobody_outside_the_staff_inherits_anything(role: Role) -> None:
    assert roles.inherited(role) == frozenset()


def test_staff_inherits_views_only() -> None:
    for role in (Role.ADMIN, Role.SUPERUSER):
        assert roles.inherited(role)
        assert all(name.endswith(".read.read_only") for name in roles.inherited(role))


def test_audit_trail_is_kept_from_administrators() -> None:
    assert "audit_logs.read.read_only" not in roles.inherited(Role.ADMIN)
    assert "audit_logs.read.read_only" in roles.inherited(Role.SUPERUSER)
