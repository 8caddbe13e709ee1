"""A copy of one's own data, and being forgotten: who may ask, who answers, what the law keeps."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import approvals, archives, data_requests, deletion, hierarchy
from accounts.models import ApprovalRequest, ArchivePart, DataRequest, User
from mestore.lib import actor, errors
from mestore.lib.actor import Actor
from monitoring import events
from monitoring.models import AuditEvent, SubjectKey
from monitoring.outbox import OutboxMessage
from tests.factories.accounts import AdminFactory, BuyerFactory, VendorFactory, grant
from tests.factories.administration import REASON, acting, superuser
from tests.factories.finance import CommissionFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
committing = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
Kind, State = DataRequest.Kind, DataRequest.State
WORKER = actor.system("worker")


def ask(user: User, kind: str = "export", **values: Any) -> DataRequest:
    return data_requests.make(user, kind=Kind(kind), by=acting(user), **values)


def granted(user: User) -> DataRequest:
    """A copy that was granted and waits for the worker."""
    request = ask(user)
    data_requests.approve(request, reason=REASON, by=acting(superuser()))
    return request


def now_of(request: DataRequest) -> DataRequest:
    found: DataRequest = DataRequest.objects.get(pk=request.pk)
    return found


def told(user: User) -> list[str]:
    rows = OutboxMessage.objects.filter(subject=str(user.pk)).order_by("id")
    return list(rows.values_list("template", flat=True))


def recorded(code: str, user: User) -> int:
    return AuditEvent.objects.filter(type=code, target_id=str(user.pk)).count()


# --- Asking -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "at", "due"),
    [
        ("export", "2026-11-23T15:00:00Z", "2026-12-04"),
        ("erasure", "2026-11-23T15:00:00Z", "2026-12-15"),
        # Still Friday in Bogotá, and already Saturday there.
        ("export", "2026-11-28T03:00:00Z", "2026-12-11"),
        ("export", "2026-11-28T06:00:00Z", "2026-12-14"),
    ],
)
def test_answers_are_due_in_the_working_days_of_the_law(kind: str, at: str, due: str) -> None:
    assert data_requests.due_on(Kind(kind), dt.datetime.fromisoformat(at)) == dt.date.fromisoformat(due)


def test_asking_is_kept_recorded_and_confirmed_by_mail() -> None:
    user = BuyerFactory.create()

    request = ask(user, "erasure", reason="  I leave  ")

    assert (request.state, request.reason) == ("waiting", "I leave")
    assert request.due_on == data_requests.due_on(Kind.ERASURE, request.asked_at)
    assert recorded(events.DATA_REQUEST_MADE, user) == 1
    assert told(user) == ["data_request_made"]


def test_one_of_each_kind_is_open_at_a_time() -> None:
    user = BuyerFactory.create()
    first = ask(user)

    with pytest.raises(data_requests.AskedAlready):
        ask(user)
    ask(user, "erasure")
    data_requests.cancel(user, first.pk, by=acting(user))
    assert ask(user).pk != first.pk
    assert ask(BuyerFactory.create()).state == "waiting"


@committing
def test_asking_twice_at_the_same_moment_is_one_request(race: Callable[..., list[Any]]) -> None:
    user = BuyerFactory.create()

    answers = race([partial(ask, user)] * 4)

    assert sum(isinstance(one, DataRequest) for one in answers) == 1
    assert sum(isinstance(one, data_requests.AskedAlready) for one in answers) == 3
    assert told(user) == ["data_request_made"]


def test_asking_without_end_is_limited() -> None:
    user = BuyerFactory.create()

    def ask_and_cancel() -> None:
        for _ in range(3 * data_requests.LIMIT.limit):
            data_requests.cancel(user, ask(user).pk, by=acting(user))

    with pytest.raises(errors.TooManyRequests):
        ask_and_cancel()


def test_nobody_asks_in_somebody_elses_name() -> None:
    user, other = BuyerFactory.create(), superuser()
    disguised = Actor(kind="user", id=str(user.pk), impersonator=str(other.pk))

    for by in (acting(other), disguised, WORKER, Actor(kind="anonymous")):
        with pytest.raises(data_requests.NotOneself):
            data_requests.make(user, kind=Kind.EXPORT, by=by)

    assert DataRequest.objects.count() == 0


def test_a_deleted_account_asks_for_nothing() -> None:
    user = BuyerFactory.create()
    User.objects.filter(pk=user.pk).update(deleted_at=timezone.now(), is_active=False)

    with pytest.raises(data_requests.NotOneself):
        ask(user)


def test_only_ones_own_request_can_be_taken_back_and_only_before_the_answer() -> None:
    user, other = BuyerFactory.create(), BuyerFactory.create()
    request = ask(user)

    for stranger, wanted in ((other, request.pk), (user, uuid4())):
        with pytest.raises(data_requests.NoSuchRequest):
            data_requests.cancel(stranger, wanted, by=acting(stranger))
    data_requests.approve(request, reason=REASON, by=acting(superuser()))
    with pytest.raises(data_requests.DecidedAlready):
        data_requests.cancel(user, request.pk, by=acting(user))

    assert now_of(request).state == "building"


def test_a_request_that_waits_again_after_its_end_is_refused_by_the_database() -> None:
    user = BuyerFactory.create()
    first = ask(user)
    data_requests.cancel(user, first.pk, by=acting(user))
    ask(user)

    with pytest.raises(IntegrityError), transaction.atomic():
        DataRequest.objects.filter(pk=first.pk).update(state="waiting")


# --- Answering --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decide", [data_requests.approve, data_requests.reject])
@pytest.mark.parametrize("kind", ["export", "erasure"])
def test_who_has_no_right_or_stands_beside_or_below_answers_nothing(
    decide: Callable[..., Any], kind: str
) -> None:
    admin = AdminFactory.create()
    grant(admin, "users.manage.global", "users.delete.global")
    boss = superuser()
    of_buyer, of_admin = ask(BuyerFactory.create(), kind), ask(admin, kind)

    attempts = [
        (of_buyer, AdminFactory.create()), (of_buyer, superuser("users.update.global")),
        (of_buyer, BuyerFactory.create()), (of_admin, admin), (of_admin, AdminFactory.create()),
    ]  # fmt: skip
    for request, by in attempts:
        with pytest.raises(hierarchy.NotAllowed):
            decide(request, reason=REASON, by=acting(by))
    with pytest.raises(hierarchy.ReasonMissing):
        decide(of_buyer, reason="short", by=acting(boss))

    assert set(DataRequest.objects.values_list("state", flat=True)) == {"waiting"}


def test_refusing_tells_the_person_that_and_why_and_keeps_the_why_out_of_the_mail() -> None:
    user = BuyerFactory.create()
    request = ask(user)

    data_requests.reject(request, reason="We could not confirm who asks.", by=acting(superuser()))

    row = now_of(request)
    assert (row.state, row.answer, row.kept) == ("rejected", "We could not confirm who asks.", [])
    assert told(user) == ["data_request_made", "data_request_rejected"]
    assert "confirm who asks" not in (OutboxMessage.objects.latest("created_at").payload or "")
    assert recorded(events.DATA_REQUEST_REJECTED, user) == 1
    with pytest.raises(data_requests.DecidedAlready):
        data_requests.approve(request, reason=REASON, by=acting(superuser()))


@committing
def test_two_who_grant_at_the_same_moment_grant_once(race: Callable[..., list[Any]]) -> None:
    user = BuyerFactory.create()
    request = ask(user)
    deciders = [acting(superuser()) for _ in range(3)]

    answers = race([partial(data_requests.approve, request, reason=REASON, by=by) for by in deciders])

    assert sum(isinstance(one, DataRequest) for one in answers) == 1
    assert sum(isinstance(one, data_requests.DecidedAlready) for one in answers) == 2
    assert recorded(events.DATA_REQUEST_APPROVED, user) == 1


def test_nobody_makes_a_copy_that_nobody_could_fetch() -> None:
    user = BuyerFactory.create()
    request = ask(user)
    deletion.delete(user, reason=REASON, by=WORKER)

    with pytest.raises(data_requests.AccountGone):
        data_requests.approve(request, reason=REASON, by=acting(superuser()))


# --- Being forgotten --------------------------------------------------------------------------------------


def asked_second(request: DataRequest, by: User) -> ApprovalRequest:
    asked = data_requests.approve(request, reason=REASON, by=acting(by))
    assert isinstance(asked, ApprovalRequest)
    return asked


@committing
def test_two_people_forget_somebody_at_their_own_request() -> None:
    user, asker, second = BuyerFactory.create(), superuser(), superuser()
    copy = granted(user)
    archives.build(copy.pk, by=WORKER)
    request = ask(user, "erasure", reason="I leave for good")

    asked = asked_second(request, asker)
    assert now_of(request).state == "waiting"
    with pytest.raises(approvals.AskedAlready):
        data_requests.approve(request, reason=REASON, by=acting(asker))
    with pytest.raises(approvals.NotYours):
        approvals.approve(asked.pk, by=acting(asker))
    approvals.approve(asked.pk, by=acting(second))

    assert not User.objects.filter(pk=user.pk).exists()
    row = now_of(request)
    assert (row.state, row.reason, row.decided_by_id) == ("done", "", asker.pk)
    assert row.ended_at is not None
    assert (now_of(copy).state, ArchivePart.objects.count()) == ("done", 0)
    assert told(user)[-1] == "data_erased"
    assert SubjectKey.objects.get(subject=str(user.pk)).wrapped is None
    erased = AuditEvent.objects.get(type=events.DATA_REQUEST_ERASED)
    assert (erased.actor_id, erased.target_id) == (str(second.pk), str(user.pk))
    assert AuditEvent.objects.get(type=events.USER_ERASED).actor_id == str(asker.pk)


def test_whom_orders_refer_to_is_not_forgotten_and_is_told_what_is_kept() -> None:
    vendor = VendorFactory.create()
    CommissionFactory.create(vendor=vendor)
    request = ask(vendor, "erasure")

    with pytest.raises(data_requests.KeptByLaw):
        data_requests.approve(request, reason=REASON, by=acting(superuser()))
    data_requests.reject(request, reason="Sales are kept for ten years.", by=acting(superuser()))

    row = now_of(request)
    assert row.state == "rejected"
    assert "commission" in row.kept
    assert told(vendor)[-1] == "data_request_rejected"


@committing
def test_a_sale_between_the_two_yeses_keeps_everything() -> None:
    vendor, second = VendorFactory.create(), superuser()
    request = ask(vendor, "erasure")
    asked = asked_second(request, superuser())
    CommissionFactory.create(vendor=vendor)

    with pytest.raises(data_requests.KeptByLaw):
        approvals.approve(asked.pk, by=acting(second))

    assert User.objects.filter(pk=vendor.pk).exists()
    assert now_of(request).state == "waiting"
    assert "data_erased" not in told(vendor)
    assert ApprovalRequest.objects.get(pk=asked.pk).state == "open"


@committing
def test_a_request_taken_back_between_the_two_yeses_forgets_nobody() -> None:
    user = BuyerFactory.create()
    request = ask(user, "erasure")
    asked = asked_second(request, superuser())
    data_requests.cancel(user, request.pk, by=acting(user))

    with pytest.raises(data_requests.DecidedAlready):
        approvals.approve(asked.pk, by=acting(superuser()))

    assert User.objects.filter(pk=user.pk).exists()


@committing
def test_the_second_person_stands_above_the_person_and_is_not_the_person() -> None:
    boss, other = superuser(), superuser()
    request = ask(boss, "erasure")
    grant_free = AdminFactory.create()
    grant(grant_free, "users.delete.global", "users.manage.global")
    of_buyer = ask(BuyerFactory.create(), "erasure")

    # A superuser holds permissions, which are kept, so asking is refused before anybody else is.
    with pytest.raises(data_requests.KeptByLaw):
        data_requests.approve(request, reason=REASON, by=acting(other))
    asked = asked_second(of_buyer, other)
    User.objects.filter(pk=of_buyer.person_id).update(user_type="ADMIN", security_clearance_level=5)
    with pytest.raises(hierarchy.NotAllowed):
        approvals.approve(asked.pk, by=acting(grant_free))

    assert User.objects.filter(pk=of_buyer.person_id).exists()


@committing
def test_two_second_people_at_the_same_moment_forget_once(race: Callable[..., list[Any]]) -> None:
    user = BuyerFactory.create()
    asked = asked_second(ask(user, "erasure"), superuser())
    seconds = [acting(superuser()) for _ in range(3)]

    answers = race([partial(approvals.approve, asked.pk, by=by) for by in seconds])

    assert sum(isinstance(one, ApprovalRequest) for one in answers) == 1
    refused = [one for one in answers if not isinstance(one, ApprovalRequest)]
    assert all(isinstance(one, approvals.DecidedAlready) for one in refused)
    assert AuditEvent.objects.filter(type=events.USER_ERASED).count() == 1


@committing
def test_two_requests_for_a_second_person_are_carried_out_once() -> None:
    user = BuyerFactory.create()
    request = ask(user, "erasure")
    first, other = asked_second(request, superuser()), asked_second(request, superuser())
    approvals.approve(first.pk, by=acting(superuser()))

    with pytest.raises(data_requests.DecidedAlready):
        approvals.approve(other.pk, by=acting(superuser()))


@committing
def test_refusing_and_the_second_yes_at_the_same_moment_do_one_of_both(
    race: Callable[..., list[Any]],
) -> None:
    for _ in range(4):
        user = BuyerFactory.create()
        request = ask(user, "erasure")
        asked = asked_second(request, superuser())

        race([
            partial(approvals.approve, asked.pk, by=acting(superuser())),
            partial(data_requests.reject, request, reason=REASON, by=acting(superuser())),
        ])  # fmt: skip

        there = User.objects.filter(pk=user.pk).exists()
        assert now_of(request).state == ("rejected" if there else "done")


@committing
def test_removing_an_account_in_the_console_takes_what_it_asked_for_along() -> None:
    user = BuyerFactory.create()
    open_one, copy = ask(user, "erasure", reason="I leave"), granted(user)
    archives.build(copy.pk, by=WORKER)
    deletion.delete(user, reason=REASON, by=WORKER)

    deletion.erase(user.pk, reason=REASON, confirmed=True, by=WORKER)

    assert (now_of(open_one).state, now_of(open_one).reason) == ("cancelled", "")
    assert (now_of(copy).state, ArchivePart.objects.count()) == ("done", 0)


def test_an_open_account_is_still_not_removed_without_being_asked_for() -> None:
    with pytest.raises(deletion.NotDeleted):
        deletion.erase(BuyerFactory.create().pk, reason=REASON, confirmed=True, by=WORKER)
    with pytest.raises(deletion.SuperuserKept):
        deletion.erase(superuser().pk, reason=REASON, confirmed=True, by=WORKER, may_be_open=True)
