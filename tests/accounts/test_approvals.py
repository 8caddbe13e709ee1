from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import approvals, delegation, hierarchy
from accounts.models import ApprovalRequest, Grant, User
from mestore.lib import actor, errors, guard
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from tests.factories.accounts import AdminFactory, BuyerFactory, MachineFactory, SuperuserFactory, grant

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

REASON = "asked for in writing"
DONE: list[str] = []


@pytest.fixture(autouse=True)
def _procedures() -> Iterator[None]:
    before = dict(approvals._procedures)
    approvals.register(
        approvals.Procedure(
            "test.carried", "users.manage.global", lambda request, _by: DONE.append(request.target_id)
        )
    )
    approvals.register(approvals.Procedure("test.repeated", "users.manage.global"))
    yield
    DONE.clear()
    approvals._procedures.clear()
    approvals._procedures.update(before)


def _as(user: User, **values: Any) -> Actor:
    return Actor(kind="user", id=str(user.pk), label=user.email, role=user.user_type, **values)


def _superuser(*names: str) -> User:
    user: User = SuperuserFactory.create()
    grant(user, *(names or ("users.manage.global",)))
    return user


def _ask(asker: User, action: str = "test.carried", **values: Any) -> ApprovalRequest:
    given: dict[str, Any] = {"target": ("thing", "1"), "reason": REASON, "by": _as(asker)}
    return approvals.ask(action, **(given | values))


# --- Asking -----------------------------------------------------------------------------------------------


def test_unknown_procedure_can_neither_be_asked_for_nor_used() -> None:
    asker = _superuser()

    with pytest.raises(guard.NothingRegistered):
        _ask(asker, "cats.feed")
    with pytest.raises(guard.NothingRegistered):
        guard.require_second_person("cats.feed", by=_as(asker), target=("thing", "1"))


def test_procedure_has_one_meaning() -> None:
    with pytest.raises(RuntimeError):
        approvals.register(approvals.Procedure("test.repeated", "users.create.global"))


@pytest.mark.parametrize("by", [actor.system("command"), Actor(kind="anonymous")])
def test_commands_and_strangers_have_no_second_person(by: Actor) -> None:
    with pytest.raises(hierarchy.NotAllowed):
        _ask(_superuser(), by=by)


def test_impersonated_session_asks_for_nothing() -> None:
    asker = _superuser()

    with pytest.raises(hierarchy.NotAllowed):
        _ask(asker, by=_as(asker, impersonator="somebody"))


def test_reason_is_needed() -> None:
    with pytest.raises(hierarchy.ReasonMissing):
        _ask(_superuser(), reason="please")


@pytest.mark.parametrize("details", [{"x": "a" * 9_000}, {"x": object()}, {"x": "\x00"}, {"x": "\ud800"}])
def test_details_that_cannot_be_kept_are_refused(details: dict[str, Any]) -> None:
    with pytest.raises(errors.Unprocessable):
        _ask(_superuser(), details=details)


def test_same_question_waits_once_and_may_be_asked_again_after_its_end() -> None:
    asker = _superuser()
    first = _ask(asker)

    with pytest.raises(approvals.AskedAlready):
        _ask(asker)
    ApprovalRequest.objects.filter(pk=first.pk).update(
        asked_at=timezone.now() - dt.timedelta(hours=25), expires_at=timezone.now() - dt.timedelta(hours=1)
    )
    _ask(asker)

    first.refresh_from_db()
    assert first.state == "expired"


# --- Deciding ---------------------------------------------------------------------------------------------


def test_who_asked_whom_it_is_about_and_who_lacks_the_right_do_not_decide() -> None:
    asker, about, weak = _superuser(), _superuser(), SuperuserFactory.create()
    request = _ask(asker, about=about)

    for user in (asker, about, weak, AdminFactory.create(), BuyerFactory.create()):
        with pytest.raises(approvals.NotYours):
            approvals.approve(request.pk, by=_as(user))
        assert not approvals.may_decide(request, user)

    assert DONE == []
    assert AuditEvent.objects.using("audit").filter(type="approval.not_allowed").count() == 5


@pytest.mark.parametrize("make", [MachineFactory, partial(SuperuserFactory, is_active=False)])
def test_machines_and_closed_accounts_do_not_decide(make: Any) -> None:
    request = _ask(_superuser())
    user = make.create() if hasattr(make, "create") else make()

    with pytest.raises((approvals.NotYours, hierarchy.NotAllowed)):
        approvals.approve(request.pk, by=_as(user))


def test_administrator_does_not_decide_about_a_superuser() -> None:
    admin = AdminFactory.create()
    grant(admin, "users.manage.global")
    request = _ask(_superuser(), about=SuperuserFactory.create())

    with pytest.raises(approvals.NotYours):
        approvals.approve(request.pk, by=_as(admin))


def test_session_without_a_factor_does_not_decide() -> None:
    request = _ask(_superuser())

    with pytest.raises(approvals.NotYours):
        approvals.approve(request.pk, by=_as(_superuser(), second_factor=False))


def test_approval_is_carried_out_once() -> None:
    request, second = _ask(_superuser()), _superuser()

    done = approvals.approve(request.pk, by=_as(second))

    assert DONE == ["1"]
    assert (done.state, done.decided_by) == ("done", second)
    for decide in (approvals.approve, partial(approvals.refuse, reason=REASON)):
        with pytest.raises(approvals.DecidedAlready):
            decide(request.pk, by=_as(_superuser()))
    assert DONE == ["1"]
    assert AuditEvent.objects.filter(type="approval.given").count() == 1


def test_what_cannot_be_carried_out_goes_on_waiting() -> None:
    def fail(_request: ApprovalRequest, _by: Actor) -> None:
        raise errors.Conflict

    approvals.register(approvals.Procedure("test.fails", "users.manage.global", fail))
    request = _ask(_superuser(), "test.fails")

    with pytest.raises(errors.Conflict):
        approvals.approve(request.pk, by=_as(_superuser()))

    request.refresh_from_db()
    assert request.waits()


def test_too_late_is_too_late() -> None:
    request = _ask(_superuser())
    late = ApprovalRequest.objects.get(pk=request.pk)
    late.asked_at, late.expires_at = (timezone.now() - dt.timedelta(hours=hours) for hours in (25, 1))
    late.seal = late.make_seal()
    late.save()

    with pytest.raises(approvals.DecidedAlready):
        approvals.approve(request.pk, by=_as(_superuser()))
    assert approvals.expire(10) == 1
    assert approvals.expire(10) == 0


def test_request_of_somebody_who_left_is_not_approved() -> None:
    asker = _superuser()
    request = _ask(asker)
    User.objects.filter(pk=asker.pk).update(is_active=False)

    with pytest.raises(approvals.NotYours):
        approvals.approve(request.pk, by=_as(_superuser()))


@pytest.mark.parametrize(
    "change",
    [
        {"details": {"amount": "1000000"}},
        {"target_id": "2"},
        {"action": "test.repeated"},
        {"expires_at": dt.datetime(2199, 1, 1, tzinfo=dt.UTC)},
    ],
)
def test_request_that_was_changed_by_sql_opens_nothing(change: dict[str, Any]) -> None:
    request = _ask(_superuser(), details={"amount": "10"})
    ApprovalRequest.objects.filter(pk=request.pk).update(**change)

    with pytest.raises(approvals.NotYours):
        approvals.approve(request.pk, by=_as(_superuser()))
    assert DONE == []


def test_decision_that_was_written_by_sql_opens_nothing() -> None:
    asker = _superuser()
    request = _ask(asker, "test.repeated")
    ApprovalRequest.objects.filter(pk=request.pk).update(
        state="approved", decided_by=_superuser(), decided_at=timezone.now()
    )

    with pytest.raises(approvals.SecondPersonRequired):
        guard.require_second_person("test.repeated", by=_as(asker), target=("thing", "1"))


def test_database_refuses_a_decision_of_the_same_person() -> None:
    asker = _superuser()
    request = _ask(asker)

    with pytest.raises(IntegrityError), transaction.atomic():
        ApprovalRequest.objects.filter(pk=request.pk).update(
            state="approved", decided_by=asker, decided_at=timezone.now()
        )


def test_refusing_and_withdrawing_end_a_request() -> None:
    asker = _superuser()
    refused, withdrawn = _ask(asker), _ask(asker, target=("thing", "2"))

    approvals.refuse(refused.pk, reason=REASON, by=_as(_superuser()))
    with pytest.raises(approvals.NoSuchRequest):
        approvals.withdraw(withdrawn.pk, by=_as(_superuser()))
    approvals.withdraw(withdrawn.pk, by=_as(asker))

    with pytest.raises(approvals.DecidedAlready):
        approvals.withdraw(withdrawn.pk, by=_as(asker))
    with pytest.raises(approvals.DecidedAlready):
        approvals.approve(refused.pk, by=_as(_superuser()))
    assert DONE == []


@pytest.mark.parametrize("request_id", ["nothing", "00000000-0000-0000-0000-000000000000"])
def test_unknown_request_is_not_found(request_id: str) -> None:
    with pytest.raises(approvals.NoSuchRequest):
        approvals.approve(request_id, by=_as(_superuser()))


def test_list_shows_only_what_one_may_decide() -> None:
    asker, about, second = _superuser(), _superuser(), _superuser()
    request = _ask(asker, about=about)

    assert list(approvals.waiting_for(second)) == [request]
    for user in (asker, about, SuperuserFactory.create(), BuyerFactory.create()):
        assert not approvals.waiting_for(user).exists()
    assert list(approvals.asked_by(asker)) == [request]


# --- Using ------------------------------------------------------------------------------------------------


def test_approval_opens_exactly_what_was_approved_once_and_for_who_asked() -> None:
    asker, details = _superuser(), {"amount": "10"}
    request = _ask(asker, "test.repeated", details=details)
    use = partial(guard.require_second_person, "test.repeated", target=("thing", "1"))

    with pytest.raises(approvals.SecondPersonRequired):
        use(by=_as(asker), details=details)
    approvals.approve(request.pk, by=_as(_superuser()))
    for by, other in ((_superuser(), details), (asker, {"amount": "11"}), (asker, {})):
        with pytest.raises(approvals.SecondPersonRequired):
            use(by=_as(by), details=other)

    use(by=_as(asker), details=details)

    with pytest.raises(approvals.SecondPersonRequired) as refused:
        use(by=_as(asker), details=details)
    assert (refused.value.status, refused.value.code) == (403, "SECOND_PERSON_REQUIRED")


def test_approval_of_somebody_who_left_counts_no_more() -> None:
    asker, second = _superuser(), _superuser()
    approvals.approve(_ask(asker, "test.repeated").pk, by=_as(second))
    User.objects.filter(pk=second.pk).update(is_active=False)

    with pytest.raises(approvals.SecondPersonRequired):
        guard.require_second_person("test.repeated", by=_as(asker), target=("thing", "1"))


def test_approval_of_an_action_that_fails_is_not_used_up() -> None:
    asker = _superuser()
    approvals.approve(_ask(asker, "test.repeated").pk, by=_as(_superuser()))
    use = partial(guard.require_second_person, "test.repeated", by=_as(asker), target=("thing", "1"))

    def act_and_fail() -> None:
        with transaction.atomic():
            use()
            raise errors.Conflict

    with pytest.raises(errors.Conflict):
        act_and_fail()

    use()


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_many_at_once_decide_and_use_once(race: Callable[..., list[Any]]) -> None:
    asker, seconds = _superuser(), [_superuser() for _ in range(6)]
    request = _ask(asker, "test.repeated")

    outcomes = race([partial(approvals.approve, request.pk, by=_as(user)) for user in seconds])
    used = race(
        [partial(guard.require_second_person, "test.repeated", by=_as(asker), target=("thing", "1"))] * 6
    )

    assert sum(isinstance(outcome, ApprovalRequest) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, approvals.DecidedAlready) for outcome in outcomes) == 5
    assert sum(outcome is None for outcome in used) == 1
    assert sum(isinstance(outcome, approvals.SecondPersonRequired) for outcome in used) == 5


# --- Grants by two people ---------------------------------------------------------------------------------

GRANT = ("permissions.grant.global", "users.manage.system")


def _give(user: User, name: str, by: User, **values: Any) -> Grant | ApprovalRequest:
    return delegation.give(user, name, by=_as(by), reason=REASON, **values)


def test_dangerous_permission_waits_for_a_second_person() -> None:
    asker, second, user = _superuser(*GRANT), _superuser("permissions.grant.global"), AdminFactory.create()
    end = timezone.now() + dt.timedelta(days=1)

    request = _give(user, "users.manage.system", asker, expires_at=end, given={"allowed_ips": ["10.0.0.0/8"]})

    assert isinstance(request, ApprovalRequest)
    assert not Grant.objects.filter(user=user).exists()
    for nobody in (asker, user):
        with pytest.raises((approvals.NotYours, hierarchy.NotAllowed)):
            approvals.approve(request.pk, by=_as(nobody))
    approvals.approve(request.pk, by=_as(second))
    made = Grant.objects.get(user=user)
    assert (made.granted_by, made.expires_at, made.conditions) == (
        asker,
        end,
        {"allowed_ips": ["10.0.0.0/8"]},
    )


def test_who_lost_the_permission_meanwhile_gives_it_no_more() -> None:
    asker, user = _superuser(*GRANT), AdminFactory.create()
    request = _give(user, "users.manage.system", asker)
    assert isinstance(request, ApprovalRequest)
    Grant.objects.filter(user=asker, permission__name="users.manage.system").update(
        revoked_at=timezone.now(), revoked_by_label="test"
    )

    with pytest.raises(hierarchy.NotAllowed):
        approvals.approve(request.pk, by=_as(_superuser("permissions.grant.global")))

    assert not Grant.objects.filter(user=user).exists()


def test_end_that_passed_while_waiting_gives_nothing() -> None:
    asker, user = _superuser(*GRANT), AdminFactory.create()
    request = _give(user, "users.manage.system", asker, expires_at=timezone.now() + dt.timedelta(days=1))
    assert isinstance(request, ApprovalRequest)
    row = ApprovalRequest.objects.get(pk=request.pk)
    row.details = {**row.details, "expires_at": (timezone.now() - dt.timedelta(hours=1)).isoformat()}
    row.fingerprint = ApprovalRequest.fingerprint_of(row.action, row.target, row.details)
    row.seal = row.make_seal()
    row.save()

    with pytest.raises(errors.Unprocessable):
        approvals.approve(request.pk, by=_as(_superuser("permissions.grant.global")))


def test_harmless_permission_is_given_at_once_and_a_held_one_is_not_asked_for() -> None:
    asker, user = _superuser(*GRANT, "analytics.read.global"), AdminFactory.create()

    assert isinstance(_give(user, "analytics.read.global", asker), Grant)
    grant(user, "users.manage.system")
    with pytest.raises(delegation.AlreadyGranted):
        _give(user, "users.manage.system", asker)


def test_conditions_without_meaning_and_closed_accounts_are_refused() -> None:
    asker = _superuser(*GRANT)

    with pytest.raises(errors.Unprocessable):
        _give(AdminFactory.create(), "users.manage.system", asker, given={"phase_of_moon": "full"})
    with pytest.raises(hierarchy.NotAllowed):
        _give(AdminFactory.create(is_active=False), "users.manage.system", asker)
