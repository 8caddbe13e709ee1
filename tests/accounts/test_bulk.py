"""One action on many: each is judged alone."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import bulk, lockout
from accounts.hierarchy import NotAllowed
from accounts.models import LockoutCounter, User
from monitoring.models import AuditEvent, OutboxMessage
from tests.factories.accounts import AdminFactory, BuyerFactory, MachineFactory, SuperuserFactory, grant
from tests.factories.administration import REASON, acting, superuser

pytestmark = pytest.mark.django_db(databases=["default", "audit"])


def run(action: str, users: list[Any], by: User, **more: Any) -> bulk.Result:
    ids = [getattr(user, "pk", user) for user in users]
    return bulk.run(action, ids, reason=REASON, by=acting(by), **more)


@pytest.mark.parametrize("action", sorted(bulk.NAMES))
def test_nobody_acts_without_the_right(action: str) -> None:
    target, parameters = BuyerFactory.create(), {"clearance": 2}

    for caller in (BuyerFactory.create(), AdminFactory.create(), superuser("users.create.global")):
        with pytest.raises(NotAllowed):
            run(action, [target], caller, parameters=parameters)

    assert User.objects.get(pk=target.pk).auth_epoch == 1


@pytest.mark.parametrize("action", sorted(bulk.NAMES))
def test_who_is_out_of_reach_is_named_and_left_alone(action: str) -> None:
    caller = AdminFactory.create(security_clearance_level=4)
    grant(caller, "users.update.global", "users.manage.global")
    reachable = BuyerFactory.create()
    beyond = [
        SuperuserFactory.create(), AdminFactory.create(), MachineFactory.create(), caller,
        BuyerFactory.create(security_clearance_level=5),
        BuyerFactory.create(is_active=False, deleted_at=timezone.now()),
    ]  # fmt: skip
    unknown = uuid4()

    result = run(action, [reachable, *beyond, unknown], caller, parameters={"clearance": 2})

    assert result.successful == [reachable.pk]
    words = [failed.code for failed in result.failed]
    assert words == ["rank", "rank", "rank", "oneself", "clearance", "deleted", "unknown"]
    assert [failed.user_id for failed in result.failed] == [*(user.pk for user in beyond), unknown]
    assert all(failed.message for failed in result.failed)
    for user in beyond:
        assert User.objects.get(pk=user.pk).auth_epoch == 1
    refusals = AuditEvent.objects.using("audit").filter(type="user.administration_refused")
    assert refusals.count() == 5


def test_more_clearance_than_the_own_is_not_given_in_bulk() -> None:
    caller = superuser(security_clearance_level=4)
    grant(superuser(), "users.read.read_only")

    result = run("update_clearance", [BuyerFactory.create()], caller, parameters={"clearance": 5})

    assert [failed.code for failed in result.failed] == ["clearance"]


def test_strictly_equals_are_left_alone() -> None:
    caller, equal, lower = superuser(), AdminFactory.create(), AdminFactory.create(security_clearance_level=4)

    result = run("deactivate", [equal, lower], caller, strictly=True)

    assert result.successful == [lower.pk]
    assert [failed.code for failed in result.failed] == ["clearance"]


@pytest.mark.parametrize("count", [0, 101])
def test_none_and_too_many_are_a_mistake(count: int) -> None:
    with pytest.raises(ValueError, match="between"):
        run("activate", [uuid4() for _number in range(count)], superuser())


def test_unknown_actions_do_nothing() -> None:
    with pytest.raises(bulk.UnknownAction):
        run("delete", [BuyerFactory.create()], superuser())


@pytest.mark.parametrize(
    ("action", "column", "before", "after"),
    [
        ("activate", "is_active", False, True),
        ("deactivate", "is_active", True, False),
        ("verify_email", "email_verified", False, True),
        ("unverify_email", "email_verified", True, False),
        ("verify", "account_verified", False, True),
        ("force_password_change", "force_password_change", False, True),
        ("update_clearance", "security_clearance_level", 3, 2),
    ],
)
def test_an_action_changes_its_column_once(action: str, column: str, before: Any, after: Any) -> None:
    users = BuyerFactory.create_batch(3, **{column: before})
    caller = superuser()

    first = run(action, [*users, users[0]], caller, parameters={"clearance": 2})
    again = run(action, users, caller, parameters={"clearance": 2})

    assert {getattr(user, column) for user in User.objects.filter(pk__in=[u.pk for u in users])} == {after}
    assert (first.total, first.unchanged) == (3, [])
    assert len(again.successful) == len(again.unchanged) == 3
    event = bulk.ACTIONS[action].event
    assert AuditEvent.objects.filter(type=event).count() == 3


def test_a_demanded_password_is_told_to_its_owner() -> None:
    user = BuyerFactory.create()

    run("force_password_change", [user], superuser())

    assert OutboxMessage.objects.filter(subject=str(user.pk), template="password_must_change").exists()
    assert User.objects.get(pk=user.pk).password_flag == "asked"


def test_a_lock_ends_with_unlock_and_takes_failures_along() -> None:
    user, caller = BuyerFactory.create(), superuser()
    attempt = lockout.attempt(lockout.LOGIN, account=str(user.email_key), address=None)
    for _try in range(5):
        lockout.charge(attempt)

    run("lock", [user], caller)
    locked = User.objects.get(pk=user.pk)
    run("unlock", [user], caller)

    assert locked.is_locked
    assert locked.auth_epoch > user.auth_epoch
    assert User.objects.get(pk=user.pk).locked_until is None
    assert not LockoutCounter.objects.using("audit").filter(pk=attempt.account_key).exists()


def test_failures_are_forgotten_on_request() -> None:
    user = BuyerFactory.create()
    attempt = lockout.attempt(lockout.LOGIN, account=str(user.email_key), address=None)
    lockout.charge(attempt)

    result = run("reset_failed_attempts", [user], superuser())

    assert result.successful == [user.pk]
    assert not LockoutCounter.objects.using("audit").filter(pk=attempt.account_key).exists()


def test_a_hundred_accounts_cost_as_many_statements_as_two() -> None:
    caller, costs = superuser(), []

    for count in (2, 100):
        users = BuyerFactory.create_batch(count)
        run("verify_email", [users[0]], caller)
        with CaptureQueriesContext(connection) as statements:
            run("deactivate", users, caller)
        costs.append(len(statements))

    assert costs[0] == costs[1] <= 12, costs
