from __future__ import annotations

import csv
import io
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from accounts import access_review, delegation, hierarchy
from accounts.access_review import NoSuchItem, ReviewNotOpen, ReviewOpen, Undecided
from accounts.models import AccessReview, AccessReviewItem, Grant, GrantUse, User
from mestore.lib import actor, errors
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from tests.factories.accounts import AdminFactory, SuperuserFactory, grant

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

REASON = "left the department"


def _as(user: User, **values: Any) -> Actor:
    return Actor(kind="user", id=str(user.pk), label=user.email, role=user.user_type, **values)


def _reviewer() -> User:
    user: User = SuperuserFactory.create()
    grant(user, delegation.REVOKING)
    return user


def _started(*names: str) -> tuple[User, User, AccessReview]:
    reviewer, user = _reviewer(), AdminFactory.create()
    for name in names or ("analytics.read.global",):
        grant(user, name)
    return reviewer, user, access_review.start(by=_as(reviewer))


def _item(user: User, name: str = "analytics.read.global") -> AccessReviewItem:
    return AccessReviewItem.objects.get(grant__user=user, grant__permission__name=name)


@pytest.mark.parametrize("by", [actor.system("command"), None])
def test_only_who_may_revoke_reviews(by: Actor | None) -> None:
    with pytest.raises(hierarchy.NotAllowed):
        access_review.start(by=by or _as(SuperuserFactory.create()))
    with pytest.raises(hierarchy.NotAllowed):
        access_review.start(by=_as(_reviewer(), impersonator="somebody"))


def test_one_review_at_a_time_and_only_of_grants_in_force() -> None:
    user = AdminFactory.create()
    (old,) = grant(user, "reports.export.global")
    Grant.objects.filter(pk=old.pk).update(revoked_at=old.granted_at)
    (used,) = grant(user, "analytics.read.global")
    GrantUse.objects.create(grant=used, last_used_at=used.granted_at)
    reviewer = _reviewer()

    review = access_review.start(by=_as(reviewer))

    with pytest.raises(ReviewOpen):
        access_review.start(by=_as(reviewer))
    assert {item.grant.permission.name for item in access_review.items(review)} == {
        "analytics.read.global",
        delegation.REVOKING,
    }
    assert _item(user).last_used_at == used.granted_at


def test_nobody_decides_about_their_own_grant_or_without_the_right() -> None:
    reviewer, user, _review = _started()
    own = _item(reviewer, delegation.REVOKING)

    with pytest.raises(hierarchy.NotAllowed):
        access_review.decide(own.pk, outcome="keep", reason="", by=_as(reviewer))
    with pytest.raises(hierarchy.NotAllowed):
        access_review.decide(_item(user).pk, outcome="keep", reason="", by=_as(SuperuserFactory.create()))


@pytest.mark.parametrize("item_id", ["nothing", "00000000-0000-0000-0000-000000000000"])
def test_unknown_grant_is_not_found(item_id: str) -> None:
    with pytest.raises(NoSuchItem):
        access_review.decide(item_id, outcome="keep", reason="", by=_as(_reviewer()))


def test_revoking_takes_effect_at_once_and_stays() -> None:
    reviewer, user, _review = _started()
    item = _item(user)
    decide = partial(access_review.decide, item.pk, by=_as(reviewer))

    with pytest.raises(errors.Unprocessable):
        decide(outcome="perhaps", reason=REASON)
    with pytest.raises(hierarchy.ReasonMissing):
        decide(outcome="revoke", reason="no")
    decide(outcome="keep", reason="")
    assert user.has_perm("analytics.read.global")
    decide(outcome="revoke", reason=REASON)
    decide(outcome="revoke", reason=REASON)

    assert not User.objects.get(pk=user.pk).has_perm("analytics.read.global")
    with pytest.raises(delegation.NotGranted):
        decide(outcome="keep", reason="")


def test_outcome_is_sealed_and_a_change_by_sql_is_seen() -> None:
    reviewer, user, review = _started("analytics.read.global", "vendors.approve.global")
    second = _reviewer()
    for name in ("analytics.read.global", "vendors.approve.global"):
        access_review.decide(_item(user, name).pk, outcome="keep", reason="", by=_as(reviewer))
    with pytest.raises(Undecided) as missing:
        access_review.finish(review.pk, by=_as(reviewer))
    assert missing.value.extra == {"undecided": 1}
    own = _item(reviewer, delegation.REVOKING)
    access_review.decide(own.pk, outcome="keep", reason="", by=_as(second))

    done = access_review.finish(review.pk, by=_as(second))

    assert access_review.is_unaltered(done)
    event = AuditEvent.objects.get(type="access_review.finished")
    assert done.outcome_digest.encode() in bytes(event.canon)
    with pytest.raises(ReviewNotOpen):
        access_review.finish(review.pk, by=_as(second))
    with pytest.raises(ReviewNotOpen):
        access_review.decide(own.pk, outcome="revoke", reason=REASON, by=_as(second))
    AccessReviewItem.objects.filter(grant__user=user).update(outcome="revoke")
    assert not access_review.is_unaltered(AccessReview.objects.get())


def test_unfinished_review_has_no_seal() -> None:
    _by, _user, review = _started()

    assert not access_review.is_unaltered(review)


@pytest.mark.parametrize("evil", ["=cmd()", "+1", "-1", "@x", "\tx", " =1", "＝1", '"a",b\nc'])
def test_no_cell_becomes_a_formula(evil: str) -> None:
    reviewer, user, review = _started()
    AccessReviewItem.objects.filter(grant__user=user).update(reason=evil)

    rows = list(csv.reader(io.StringIO("".join(access_review.csv_of(review)), newline="")))

    reasons = [row[-1] for row in rows[1:]]
    assert all(len(row) == len(access_review.HEADINGS) for row in rows)
    assert (f"'{evil}" in reasons) or (evil in reasons and evil.startswith('"'))
    assert reviewer.email in [row[1] for row in rows]


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_one_of_many_at_once_begins(race: Callable[..., list[Any]]) -> None:
    by = _as(_reviewer())

    outcomes = race([partial(access_review.start, by=by)] * 5)

    assert sum(isinstance(outcome, AccessReview) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, ReviewOpen) for outcome in outcomes) == 4
