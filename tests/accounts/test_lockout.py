from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from axes.handlers.proxy import AxesProxyHandler
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib.auth import authenticate
from django.db import transaction
from django.db.models import F
from django.test import RequestFactory

from accounts import lockout, selectors, tasks
from accounts.lockout import ADMIN_LOGIN, FACTOR, LOGIN, LockedOut
from accounts.models import LockoutCounter
from mestore.lib import actor
from monitoring.models import AuditEvent
from tests.factories.accounts import AdminFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

ADDRESS = "203.0.113.7"
NAME = "ana@example.com"


def _attempt(account: str = NAME, address: str | None = ADDRESS, kind: str = LOGIN) -> lockout.Attempt:
    return lockout.attempt(kind, account=account, address=address)


def _fail(times: int, **which: Any) -> lockout.Failure:
    for _ in range(times - 1):
        lockout.charge(_attempt(**which))
    return lockout.charge(_attempt(**which))


def _is_locked(**which: Any) -> bool:
    try:
        lockout.refuse_locked(_attempt(**which))
    except LockedOut:
        return True
    return False


def _let_pass(seconds: int) -> None:
    """Move every counter into the past, as time would."""
    step = dt.timedelta(seconds=seconds)
    LockoutCounter.objects.using("audit").update(
        window_ends_at=F("window_ends_at") - step,
        locked_until=F("locked_until") - step,
        failed_at=F("failed_at") - step,
    )


@pytest.mark.parametrize(("kind", "account_budget"), [(LOGIN, 5), (ADMIN_LOGIN, 3), (FACTOR, 5)])
def test_account_locks_after_its_budget_and_not_before(kind: str, account_budget: int) -> None:
    last_allowed = _fail(account_budget - 1, kind=kind)
    assert not last_allowed.began_lock
    assert not _is_locked(kind=kind)

    last = lockout.charge(_attempt(kind=kind))

    assert last.began_lock
    assert not last.beyond_budget
    assert _is_locked(kind=kind)
    assert lockout.charge(_attempt(kind=kind)).beyond_budget


def test_network_locks_for_every_account_behind_it() -> None:
    for number in range(10):
        lockout.charge(_attempt(account=f"person{number}@example.com"))

    assert _is_locked(account="somebody.else@example.com")
    assert not _is_locked(account="somebody.else@example.com", address="203.0.113.8")


def test_account_is_locked_from_every_network() -> None:
    for number in range(5):
        lockout.charge(_attempt(address=f"203.0.113.{number}"))

    assert _is_locked(address="198.51.100.1")


def test_budgets_of_different_doors_are_apart() -> None:
    _fail(5)

    assert not _is_locked(kind=FACTOR)
    assert not _is_locked(kind=ADMIN_LOGIN)


def test_one_subscriber_cannot_change_address_within_its_network() -> None:
    for number in range(10):
        lockout.charge(_attempt(account=f"p{number}", address=f"2001:db8:1:2::{number:x}"))

    assert _is_locked(account="x", address="2001:db8:1:2:ffff::1")
    assert not _is_locked(account="x", address="2001:db8:1:3::1")


def test_mapped_address_is_the_plain_one() -> None:
    for number in range(10):
        lockout.charge(_attempt(account=f"p{number}", address=ADDRESS))

    assert _is_locked(account="x", address=f"::ffff:{ADDRESS}")


def test_names_and_networks_cannot_be_mixed_up() -> None:
    _fail(5, account="alice9", address="1.2.3.4")

    assert not _is_locked(account="alice", address="91.2.3.4")
    assert not _is_locked(account="1.2.3.4", address=None)


def test_counter_says_nothing_about_the_name() -> None:
    lockout.charge(_attempt(account="my secret password"))

    rows = list(LockoutCounter.objects.using("audit").values())

    assert "secret" not in str(rows)
    assert all(len(bytes(row["key"])) == 32 for row in rows)


def test_attempt_without_an_address_counts_for_the_account() -> None:
    _fail(5, address=None)

    assert _is_locked()


def test_refusal_says_when_to_come_back() -> None:
    _fail(5)

    with pytest.raises(LockedOut) as refused:
        lockout.refuse_locked(_attempt())

    assert refused.value.status == 429
    assert 890 <= int(refused.value.headers["Retry-After"]) <= 900


def test_failures_during_a_lock_do_not_prolong_it() -> None:
    _fail(5)
    _let_pass(600)

    failure = lockout.charge(_attempt())

    assert failure.retry_after <= 300


def test_lock_ends_and_counting_starts_anew() -> None:
    _fail(5)
    _let_pass(901)

    assert not _is_locked()
    assert not lockout.charge(_attempt()).began_lock
    assert not _is_locked()


def test_failures_are_forgotten_after_the_window() -> None:
    _fail(4)
    _let_pass(3_601)

    assert not lockout.charge(_attempt()).began_lock


def test_success_forgets_the_account_and_keeps_the_network() -> None:
    _fail(4)

    lockout.settle(_attempt())

    kinds = list(LockoutCounter.objects.using("audit").values_list("kind", "failures"))
    assert kinds == [("login:network", 4)]


def test_right_answer_after_the_lock_is_refused() -> None:
    _fail(5)

    with pytest.raises(LockedOut):
        lockout.settle(_attempt())

    assert _is_locked()


def test_budget_of_one_locks_with_the_first_failure(settings: Any) -> None:
    settings.LOGIN_LIMITS = {LOGIN: {"network": 10, "account": 1, "window_seconds": 3600, "lock_seconds": 60}}

    assert lockout.charge(_attempt()).began_lock
    assert _is_locked()


def test_each_step_is_one_statement(django_assert_num_queries: Any) -> None:
    for step in (lockout.refuse_locked, lockout.charge, lockout.settle):
        with django_assert_num_queries(1, using="audit"), django_assert_num_queries(0):
            step(_attempt())


def test_lock_is_lifted_with_a_record() -> None:
    user = AdminFactory.create()
    by = actor.system("test")
    _fail(3, account=user.email_key, kind=ADMIN_LOGIN)
    _fail(5, account=str(user.pk), kind=FACTOR, address=None)

    lifted = lockout.lift_account(user, reason="called the help desk", by=by)

    assert lifted == 3  # the account's two, and what one network counted of it
    assert not _is_locked(account=user.email_key, kind=ADMIN_LOGIN, address=None)
    assert not _is_locked(account=str(user.pk), kind=FACTOR)
    assert AuditEvent.objects.filter(type="auth.lock_lifted", target_id=str(user.pk)).count() == 1


def test_lock_of_a_network_is_lifted_by_its_counter() -> None:
    for number in range(10):
        lockout.charge(_attempt(account=f"p{number}"))
    (counter,) = selectors.locked_now().using("audit")
    assert str(counter).startswith("login:network")

    lockout.lift(counter, reason="an office behind one address", by=actor.system("test"))

    assert not _is_locked(account="x")


def test_ended_counters_go_in_batches() -> None:
    _fail(1)
    _fail(1, account="other", address=None)
    _let_pass(3_601)
    lockout.charge(_attempt(account="fresh", address=None))

    assert lockout.remove_ended(batch=1) == 1
    assert tasks.purge_counters() == 2
    assert tasks.purge_counters() == 0
    left = LockoutCounter.objects.using("audit").values_list("kind", flat=True)
    assert sorted(left) == ["login:account", "login:pair"]  # the fresh one, and what counts for a day


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_counter_survives_the_rollback_of_its_request() -> None:
    with transaction.atomic():
        lockout.charge(_attempt())
        transaction.set_rollback(True)

    assert LockoutCounter.objects.get(kind="login:account").failures == 1


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_no_failure_is_lost_among_many_at_once(race: Callable[..., list[Any]]) -> None:
    outcomes = race([partial(lockout.charge, _attempt())] * 20)

    # The account's fifth, the network's tenth, the pair's twentieth.
    assert sum(outcome.began_lock for outcome in outcomes) == 3
    assert sum(outcome.beyond_budget for outcome in outcomes) == 15
    assert LockoutCounter.objects.get(kind="login:account").failures == 20


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_right_guess_among_many_at_once_counts_only_within_the_budget(race: Callable[..., list[Any]]) -> None:
    def wrong() -> str:
        return "refused" if lockout.charge(_attempt()).beyond_budget else "told"

    def right() -> str:
        lockout.settle(_attempt())
        return "told"

    _fail(4)
    outcomes = race([*[wrong] * 8, right])

    # Either the right one came first and forgot the four failures, or it came after the lock and was refused.
    told = [outcome for outcome in outcomes[:-1] if outcome == "told"]
    if isinstance(outcomes[-1], LockedOut):
        assert len(told) == 1
    else:
        assert len(told) <= 6


# --- django-axes' seat ------------------------------------------------------------------------------------


def _request() -> Any:
    return RequestFactory().post("/admin/login/", {"password": "typed"}, REMOTE_ADDR=ADDRESS)


def test_framework_authentication_is_counted_by_the_same_policy_and_never_succeeds() -> None:
    user = AdminFactory.create()

    for _ in range(3):
        assert authenticate(_request(), username=user.email, password="x") is None

    assert _is_locked(account=user.email_key, kind=ADMIN_LOGIN)
    assert not AxesProxyHandler.is_allowed(_request(), {"username": user.email})
    assert AxesProxyHandler.get_failures(_request(), {"username": user.email}) == 3
    assert authenticate(_request(), username=user.email, password="x") is None


def test_axes_tables_stay_empty() -> None:
    user = AdminFactory.create()
    authenticate(_request(), username="my password", password="x")
    AxesProxyHandler.user_logged_in("test", _request(), user)
    AxesProxyHandler.user_logged_out("test", _request(), user)

    assert not AccessAttempt.objects.exists()
    assert not AccessLog.objects.exists()
    assert not AccessFailureLog.objects.exists()


def test_failure_without_a_request_counts_nothing() -> None:
    lockout.LockoutHandler().user_login_failed("test", {"username": NAME}, None)

    assert not LockoutCounter.objects.using("audit").exists()


def test_commands_of_axes_reset_our_counters() -> None:
    for _ in range(3):
        authenticate(_request(), username=NAME, password="x")

    assert AxesProxyHandler.reset_attempts(username=NAME.upper()) == 1
    assert AxesProxyHandler.reset_attempts(ip_address=ADDRESS) == 1
    assert AxesProxyHandler.is_allowed(_request(), {"username": NAME})
