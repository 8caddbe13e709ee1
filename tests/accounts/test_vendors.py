"""Vendors: who lets them sell, what is kept about them, what they say themselves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from django.core import mail

from accounts import vendors
from accounts.hierarchy import NotAllowed
from accounts.models import User, VendorDocument, VendorNote, VendorProfile
from mestore.lib import actor, errors
from monitoring import delivery
from monitoring.models import AuditEvent, OutboxMessage
from tests.factories.accounts import AdminFactory, BuyerFactory, VendorFactory, grant
from tests.factories.administration import REASON, acting

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
SYSTEM = actor.system("test")
DIGEST = "ab" * 32

DOORS: list[Callable[..., Any]] = [
    partial(vendors.approve, reason=""),
    partial(vendors.reject, reason=REASON),
    partial(vendors.suspend, reason=REASON),
    partial(vendors.write_to, subject="News", message="Hello"),
    partial(vendors.add_note, text="late"),
    partial(vendors.hand_in, kind="rut", file_name="rut.pdf", digest=DIGEST),
    partial(vendors.review, document_id=uuid4(), accepted=True, reason=""),
    partial(vendors.remove_document, document_id=uuid4()),
]


def waiting() -> User:
    made: User = VendorFactory.create(profile__vendor_status="pending_approval")
    return made


def back_office(*names: str) -> User:
    made: User = AdminFactory.create()
    grant(made, *(names or ("vendors.approve.global", "vendors.manage.global", "users.update.global")))
    return made


def status(user: User) -> str:
    return VendorProfile.objects.get(pk=user.pk).vendor_status


def deliver() -> list[str]:
    for message in OutboxMessage.objects.all():
        delivery.send(message.pk)
    return [f"{sent.subject} {sent.body}" for sent in mail.outbox]


@pytest.mark.parametrize("change", DOORS)
def test_nobody_without_the_right_reaches_a_vendor(change: Callable[..., Any]) -> None:
    vendor = waiting()

    for caller in (BuyerFactory.create(), AdminFactory.create(), back_office("users.read.global")):
        with pytest.raises(NotAllowed):
            change(vendor.pk, by=acting(caller))

    assert status(vendor) == "pending_approval"
    assert User.objects.get(pk=vendor.pk).is_active
    assert not OutboxMessage.objects.exists()
    assert not VendorNote.objects.exists()
    assert not VendorDocument.objects.exists()


@pytest.mark.parametrize("change", DOORS)
def test_another_vendor_learns_nothing(change: Callable[..., Any]) -> None:
    with pytest.raises(vendors.VendorNotFound):
        change(waiting().pk, by=acting(VendorFactory.create()))


@pytest.mark.parametrize("change", DOORS)
def test_only_vendors_that_are_there(change: Callable[..., Any]) -> None:
    for pk in (uuid4(), BuyerFactory.create().pk, AdminFactory.create().pk):
        with pytest.raises(vendors.VendorNotFound):
            change(pk, by=acting(back_office()))


@pytest.mark.parametrize("change", [DOORS[0], DOORS[1], DOORS[2], DOORS[4], DOORS[6]])
def test_a_vendor_decides_nothing_about_itself(change: Callable[..., Any]) -> None:
    vendor = waiting()

    with pytest.raises(errors.MeStoreError):
        change(vendor.pk, by=acting(vendor))

    assert status(vendor) == "pending_approval"


def test_an_approval_is_told_once() -> None:
    vendor, by = waiting(), acting(back_office())

    profile = vendors.approve(vendor.pk, reason="papers are right", by=by)

    assert (profile.vendor_status, profile.decision_reason) == ("approved", "papers are right")
    assert profile.decided_at is not None
    with pytest.raises(vendors.AlreadyDecided):
        vendors.approve(vendor.pk, reason="", by=by)
    assert AuditEvent.objects.filter(type="vendor.approved", target_id=str(vendor.pk)).count() == 1
    assert len(deliver()) == 1


def test_a_rejection_needs_its_reason_and_tells_it() -> None:
    vendor, by = waiting(), acting(back_office())

    with pytest.raises(vendors.RejectionUnexplained):
        vendors.reject(vendor.pk, reason=" no ", by=by)
    vendors.reject(vendor.pk, reason="the RUT is missing", by=by)

    assert status(vendor) == "rejected"
    assert "the RUT is missing" in deliver()[0]


def test_a_vendor_without_a_shop_cannot_be_decided_about() -> None:
    vendor = BuyerFactory.create(user_type="VENDOR")

    with pytest.raises(vendors.VendorNotFound):
        vendors.approve(vendor.pk, reason="", by=acting(back_office()))


@pytest.mark.django_db(databases=["default", "audit", "owner"], transaction=True)
def test_of_many_decisions_at_once_one_counts(race: Callable[..., list[Any]]) -> None:
    vendor, by = waiting(), acting(back_office())

    outcomes = race([partial(vendors.approve, vendor.pk, reason="", by=by)] * 8)

    assert sum(isinstance(outcome, VendorProfile) for outcome in outcomes) == 1, outcomes
    assert OutboxMessage.objects.count() == 1


def test_each_vendor_of_many_is_judged_alone() -> None:
    good, stranger = waiting(), BuyerFactory.create()
    approve = partial(vendors.approve, reason="", by=acting(back_office()))

    result = vendors.each("approve", [good.pk, stranger.pk, good.pk], approve)

    assert result.successful == [good.pk]
    assert [(failed.user_id, failed.code) for failed in result.failed] == [(stranger.pk, "not_found")]


def test_our_own_failure_ends_an_action_on_many() -> None:
    def fail(_vendor_id: Any) -> None:
        raise errors.SecurityServiceFailure

    with pytest.raises(errors.SecurityServiceFailure):
        vendors.each("approve", [uuid4()], fail)


def test_a_suspended_vendor_is_closed() -> None:
    vendor = waiting()

    vendors.suspend(vendor.pk, reason=REASON, by=acting(back_office()))

    assert not User.objects.get(pk=vendor.pk).is_active


def test_a_letter_goes_to_the_stored_address_in_one_line_of_subject() -> None:
    vendor = waiting()

    vendors.write_to(vendor.pk, subject="News\nBcc: x@y", message="<b>Hello</b>", by=acting(back_office()))

    (text,) = deliver()
    assert mail.outbox[0].to == [vendor.email]
    assert mail.outbox[0].subject == "News Bcc: x@y"
    assert "<b>Hello</b>" in text


def test_notes_are_kept_newest_first() -> None:
    vendor, office = waiting(), back_office()

    vendors.add_note(vendor.pk, text="first", by=acting(office))
    vendors.add_note(vendor.pk, text="second", by=SYSTEM)

    kept = vendors.notes(vendor.pk)
    assert [(note.text, note.author_label) for note in kept] == [("second", "test"), ("first", office.email)]
    assert "note" in str(kept[0])


# --- Documents --------------------------------------------------------------------------------------------


def handed_in(vendor: User, digest: str = DIGEST) -> VendorDocument:
    return vendors.hand_in(vendor.pk, kind="rut", file_name="rut.pdf", digest=digest, by=acting(vendor))


def test_a_vendor_hands_in_each_document_once() -> None:
    vendor = waiting()

    document = handed_in(vendor)

    assert (document.status, "rut" in str(document)) == ("pending", True)
    with pytest.raises(vendors.DocumentKnown):
        handed_in(vendor)
    assert handed_in(waiting()) != document
    assert [row.pk for row in vendors.documents(vendor.pk)] == [document.pk]


def test_a_document_is_reviewed_once() -> None:
    vendor, by = waiting(), acting(back_office())
    document = handed_in(vendor)

    reviewed = vendors.review(vendor.pk, document.pk, accepted=False, reason="unreadable", by=by)

    assert (reviewed.status, reviewed.reason) == ("rejected", "unreadable")
    with pytest.raises(vendors.AlreadyDecided):
        vendors.review(vendor.pk, document.pk, accepted=True, reason="", by=by)


def test_a_document_belongs_to_one_vendor() -> None:
    document, other, by = handed_in(waiting()), waiting(), acting(back_office())

    with pytest.raises(vendors.DocumentNotFound):
        vendors.review(other.pk, document.pk, accepted=True, reason="", by=by)
    with pytest.raises(vendors.DocumentNotFound):
        vendors.remove_document(other.pk, document.pk, by=acting(other))


def test_a_vendor_takes_back_what_nobody_looked_at() -> None:
    vendor, by = waiting(), acting(back_office())
    waits, decided = handed_in(vendor), handed_in(vendor, "cd" * 32)
    vendors.review(vendor.pk, decided.pk, accepted=True, reason="", by=by)

    vendors.remove_document(vendor.pk, waits.pk, by=acting(vendor))
    with pytest.raises(vendors.AlreadyDecided):
        vendors.remove_document(vendor.pk, decided.pk, by=acting(vendor))
    vendors.remove_document(vendor.pk, decided.pk, by=by)

    assert not VendorDocument.objects.exists()


def test_papers_are_read_by_their_vendor_and_the_back_office() -> None:
    vendor, office = waiting(), back_office()

    assert vendors.readable(vendor.pk, reader=vendor, by=acting(vendor)) == vendor
    assert vendors.readable(vendor.pk, reader=office, by=acting(office)) == vendor
    with pytest.raises(vendors.VendorNotFound):
        vendors.readable(vendor.pk, reader=waiting(), by=SYSTEM)
    with pytest.raises(NotAllowed):
        vendors.readable(vendor.pk, reader=AdminFactory.create(), by=SYSTEM)


# --- The own shop -----------------------------------------------------------------------------------------


def test_a_vendor_changes_the_own_shop_and_not_its_state() -> None:
    vendor = waiting()

    for column in ("vendor_status", "decided_at", "user", "terms_accepted_at"):
        with pytest.raises(KeyError):
            vendors.change_profile(vendor, {column: "approved"}, by=acting(vendor))
    profile = vendors.change_profile(vendor, {"city": "Cali", "business_hours": {}}, by=acting(vendor))
    vendors.change_profile(vendor, {"city": "Cali"}, by=acting(vendor))

    assert (profile.city, profile.vendor_status) == ("Cali", "pending_approval")
    assert AuditEvent.objects.filter(type="vendor.profile_changed").count() == 1
    assert "city" not in vendors.missing(profile)


def test_who_has_no_shop_changes_none() -> None:
    buyer = BuyerFactory.create()

    with pytest.raises(vendors.VendorNotFound):
        vendors.own_profile(buyer)
    with pytest.raises(vendors.VendorNotFound):
        vendors.change_profile(buyer, {"city": "Cali"}, by=acting(buyer))
