"""Files with many people's data: who gets them, after whose yes, and how often."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from accounts import access_review, approvals, delegation, exports, hierarchy
from accounts.models import AccessReview, AccessReviewItem, ApprovalRequest, User
from mestore.lib import crypto
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from tests.factories.accounts import AdminFactory, SuperuserFactory, grant

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

REASON = "for the yearly audit"


def _as(user: User, **values: Any) -> Actor:
    return Actor(kind="user", id=str(user.pk), label=user.email, role=user.user_type, **values)


def _reviewer() -> User:
    user: User = SuperuserFactory.create()
    grant(user, delegation.REVOKING)
    return user


@pytest.fixture
def asker(db: None) -> User:
    return _reviewer()


@pytest.fixture
def review(asker: User) -> AccessReview:
    grant(AdminFactory.create(), "analytics.read.global")
    return access_review.start(by=_as(asker))


def _asked(review: AccessReview, by: User) -> ApprovalRequest:
    request = exports.take_access_review(review, reason=REASON, by=_as(by))
    assert isinstance(request, ApprovalRequest)
    return request


def test_nothing_leaves_before_another_person_agreed(asker: User, review: AccessReview) -> None:
    request = _asked(review, asker)

    assert _asked(review, asker).pk == request.pk
    with pytest.raises(approvals.NotYours):
        approvals.approve(request.pk, by=_as(asker))
    with pytest.raises(approvals.NotYours):
        approvals.approve(request.pk, by=_as(SuperuserFactory.create()))
    assert _asked(review, asker).state == "open"


def test_file_is_the_one_that_was_approved_and_leaves_once(asker: User, review: AccessReview) -> None:
    request = _asked(review, asker)
    approvals.approve(request.pk, by=_as(_reviewer()))

    file = exports.take_access_review(review, reason="", by=_as(asker))

    assert isinstance(file, exports.File)
    assert crypto.digest(file.content).hex() == request.details["sha256"]
    assert request.details["rows"] == file.content.count(b"\n") - 1 == 2
    event = AuditEvent.objects.get(type="export.made")
    assert (event.actor_id, event.target_id) == (str(asker.pk), str(review.pk))
    with pytest.raises(hierarchy.ReasonMissing):
        exports.take_access_review(review, reason="", by=_as(asker))


def test_what_changed_meanwhile_is_another_file(asker: User, review: AccessReview) -> None:
    request = _asked(review, asker)
    approvals.approve(request.pk, by=_as(_reviewer()))
    AccessReviewItem.objects.update(reason="decided otherwise")

    other = _asked(review, asker)

    assert other.pk != request.pk
    assert other.details["sha256"] != request.details["sha256"]


def test_yes_is_over_after_a_day(asker: User, review: AccessReview) -> None:
    request = _asked(review, asker)
    approvals.approve(request.pk, by=_as(_reviewer()))
    earlier = request.asked_at - dt.timedelta(hours=25)
    late = ApprovalRequest.objects.get(pk=request.pk)
    late.asked_at, late.expires_at = earlier, earlier + approvals.LIVES
    ApprovalRequest.objects.filter(pk=late.pk).update(
        asked_at=late.asked_at, expires_at=late.expires_at, seal=late.make_seal()
    )

    assert exports.standing(review, by=_as(asker)) is None
    assert _asked(review, asker).pk != request.pk


def test_row_that_was_approved_by_sql_opens_nothing(asker: User, review: AccessReview) -> None:
    request = _asked(review, asker)
    ApprovalRequest.objects.filter(pk=request.pk).update(
        state="approved", decided_by=_reviewer(), decided_at=request.asked_at
    )

    assert exports.standing(review, by=_as(asker)) is None


def test_yes_of_somebody_who_is_gone_opens_nothing(asker: User, review: AccessReview) -> None:
    second = _reviewer()
    approvals.approve(_asked(review, asker).pk, by=_as(second))
    User.objects.filter(pk=second.pk).update(is_active=False)

    assert exports.standing(review, by=_as(asker)) is None


@pytest.mark.parametrize("who", ["stranger", "impersonated"])
def test_who_may_not_review_asks_for_nothing(review: AccessReview, who: str) -> None:
    by = _as(SuperuserFactory.create()) if who == "stranger" else _as(_reviewer(), impersonator="somebody")

    for call in (exports.standing, partial(exports.take_access_review, reason=REASON)):
        with pytest.raises(hierarchy.NotAllowed):
            call(review, by=by)
    assert not ApprovalRequest.objects.exists()


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_one_of_many_downloads_gets_the_file(
    race: Callable[..., list[Any]], asker: User, review: AccessReview
) -> None:
    approvals.approve(_asked(review, asker).pk, by=_as(_reviewer()))

    outcomes = race([partial(exports.take_access_review, review, reason="", by=_as(asker))] * 6)

    assert sum(isinstance(outcome, exports.File) for outcome in outcomes) == 1
    assert AuditEvent.objects.filter(type="export.made").count() == 1
