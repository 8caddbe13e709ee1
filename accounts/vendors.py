"""Letting vendors sell or not, and what the back office keeps about them: notes, documents, letters.

Suspending a vendor closes the account (`administration.deactivate`, `bulk`): there is no half-open state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import administration, grants, hierarchy
from accounts.bulk import Failed, Result
from accounts.models import User, VendorDocument, VendorNote, VendorProfile
from accounts.roles import Role
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import delivery, events

APPROVING = "vendors.approve.global"
MANAGING = "vendors.manage.global"
SUSPENDING = "users.update.global"
REJECTION_LENGTH = 5
PROFILE = (
    "business_name", "business_description", "website_url", "city", "state", "postal_code", "business_type",
    "primary_category", "shipping_policy", "return_policy", "social_media_links", "business_hours",
    "avatar_url", "notification_preferences",
)  # fmt: skip
"""What a vendor may change of the own shop. Its status is not among it."""
ASKED_FOR = ("business_name", "business_description", "city", "business_type", "primary_category")
"""What a complete shop has."""

Status = VendorProfile.Status


class VendorNotFound(errors.NotFound):
    message = _("Vendor not found.")


class DocumentNotFound(errors.NotFound):
    message = _("Document not found.")


class AlreadyDecided(errors.Conflict):
    """The vendor stands where the decision would bring it."""

    message = _("The vendor has this status already.")


class DocumentKnown(errors.Conflict):
    message = _("This document was handed in already.")


class RejectionUnexplained(errors.Unprocessable):
    message = _("A reason of at least five characters is needed.")


def approve(vendor_id: UUID, *, reason: str, by: Actor) -> VendorProfile:
    """Let a vendor sell, and tell them. Raises VendorNotFound, AlreadyDecided, hierarchy.NotAllowed."""
    return _decide(vendor_id, Status.APPROVED, events.VENDOR_APPROVED, reason, by)


def reject(vendor_id: UUID, *, reason: str, by: Actor) -> VendorProfile:
    """Let a vendor sell no more or not at all, and tell them why.

    Raises RejectionUnexplained, VendorNotFound, AlreadyDecided, hierarchy.NotAllowed.
    """
    if len(reason.strip()) < REJECTION_LENGTH:
        raise RejectionUnexplained(
            details=[errors.FieldError("body -> rejection_reason", RejectionUnexplained.message, "too_short")]
        )
    return _decide(vendor_id, Status.REJECTED, events.VENDOR_REJECTED, reason, by)


def suspend(vendor_id: UUID, *, reason: str, by: Actor) -> User:
    """Close a vendor's account. Raises VendorNotFound, hierarchy.NotAllowed, hierarchy.ReasonMissing."""
    with _vendor(vendor_id, SUSPENDING, by) as user:
        return administration.deactivate(user, reason=reason, by=by)


def write_to(vendor_id: UUID, *, subject: str, message: str, by: Actor) -> User:
    """Mail a vendor at the stored address. Raises VendorNotFound, hierarchy.NotAllowed."""
    with _vendor(vendor_id, MANAGING, by) as user:
        delivery.notify(user, "vendor_message", {"subject": subject, "message": message}, by=by)
        hierarchy.record(events.VENDOR_WRITTEN_TO, user, by)
    return user


def each(action: str, vendor_ids: Sequence[UUID], change: Callable[[UUID], object]) -> Result:
    """Do `change` to each vendor by itself; name each that was refused, with its reason."""
    result = Result(action)
    for vendor_id in dict.fromkeys(vendor_ids):
        try:
            change(vendor_id)
        except errors.MeStoreError as error:
            if error.status >= 500:
                raise
            result.failed.append(Failed(vendor_id, error.code.lower(), str(error.message)))
        else:
            result.successful.append(vendor_id)
    return result


def add_note(vendor_id: UUID, *, text: str, by: Actor) -> VendorNote:
    """Write a remark about a vendor. Raises VendorNotFound, hierarchy.NotAllowed."""
    with _vendor(vendor_id, MANAGING, by) as user:
        author = UUID(by.id) if by.kind == "user" and by.id else None
        note = VendorNote.objects.create(
            vendor=user, text=text, author_id=author, author_label=by.label or by.kind
        )
        hierarchy.record(events.VENDOR_NOTED, user, by, data={"note": str(note.pk)})
    return note


def find(vendor_id: UUID) -> User:
    """Return a vendor's account, deleted or not. Raises VendorNotFound."""
    user = User.objects.filter(pk=vendor_id, user_type=Role.VENDOR).first()
    if user is None:
        raise VendorNotFound
    return user


def readable(vendor_id: UUID, *, reader: User, by: Actor) -> User:
    """Return a vendor whose papers `reader` may see: the own ones, or any for those who manage vendors.

    Raises VendorNotFound, for a vendor also about everybody else, and hierarchy.NotAllowed.
    """
    if reader.pk == vendor_id:
        return find(vendor_id)
    if reader.user_type == Role.VENDOR:
        raise VendorNotFound
    if not grants.has_perm(reader, MANAGING):
        raise hierarchy.refused("not_held", by)
    return find(vendor_id)


def notes(vendor_id: UUID, *, limit: int = 100) -> list[VendorNote]:
    """Return the newest remarks about a vendor."""
    return list(VendorNote.objects.filter(vendor_id=vendor_id).order_by("-pk")[:limit])


def documents(vendor_id: UUID) -> list[VendorDocument]:
    """Return a vendor's documents, newest first."""
    return list(VendorDocument.objects.filter(vendor_id=vendor_id).order_by("-pk")[:100])


def hand_in(vendor_id: UUID, *, kind: str, file_name: str, digest: str, by: Actor) -> VendorDocument:
    """Note that a vendor handed in a document: the own one, or one that an administrator received.

    Raises VendorNotFound, DocumentKnown, hierarchy.NotAllowed.
    """
    try:
        with _vendor(vendor_id, MANAGING, by, or_oneself=True) as user:
            document = VendorDocument.objects.create(
                vendor=user, kind=kind, file_name=file_name, digest=digest
            )
            data = {"document": str(document.pk), "kind": kind}
            hierarchy.record(events.VENDOR_DOCUMENT_ADDED, user, by, data=data)
    except IntegrityError as error:
        if "vendor_document_once" in str(error):
            raise DocumentKnown from error
        raise
    return document


def review(vendor_id: UUID, document_id: UUID, *, accepted: bool, reason: str, by: Actor) -> VendorDocument:
    """Accept or reject a document that waits. Raises DocumentNotFound, AlreadyDecided and as `hand_in`."""
    status = VendorDocument.Status.VERIFIED if accepted else VendorDocument.Status.REJECTED
    with _vendor(vendor_id, MANAGING, by) as user:
        document = _document(user, document_id)
        moved = VendorDocument.objects.filter(pk=document.pk, status=VendorDocument.Status.PENDING).update(
            status=status, reason=reason, reviewed_at=timezone.now(), reviewed_by_label=by.label or by.kind
        )
        if not moved:
            raise AlreadyDecided(_("This document was reviewed already."))
        data = {"document": str(document.pk), "status": str(status), "reason": reason}
        hierarchy.record(events.VENDOR_DOCUMENT_REVIEWED, user, by, data=data)
    document.refresh_from_db()
    return document


def remove_document(vendor_id: UUID, document_id: UUID, *, by: Actor) -> None:
    """Remove a document; a vendor may take back the own one while it waits. Raises as `review`."""
    with _vendor(vendor_id, MANAGING, by, or_oneself=True) as user:
        document = _document(user, document_id)
        if by.id == str(user.pk) and document.status != VendorDocument.Status.PENDING:
            raise AlreadyDecided(_("This document was reviewed already."))
        document.delete()
        data = {"document": str(document_id), "kind": document.kind}
        hierarchy.record(events.VENDOR_DOCUMENT_REMOVED, user, by, data=data)


def own_profile(user: User) -> VendorProfile:
    """Return the shop of a vendor, with the account. Raises VendorNotFound."""
    profile = VendorProfile.objects.select_related("user").filter(pk=user.pk).first()
    if profile is None:
        raise VendorNotFound
    return profile


def change_profile(user: User, changes: Mapping[str, Any], *, by: Actor) -> VendorProfile:
    """Change columns of PROFILE of the own shop. Raises VendorNotFound, and KeyError for other columns."""
    if not set(changes) <= set(PROFILE):
        raise KeyError("only columns of PROFILE")
    with transaction.atomic():
        profile = VendorProfile.objects.select_for_update().filter(pk=user.pk).first()
        if profile is None:
            raise VendorNotFound
        changed = {name: value for name, value in changes.items() if getattr(profile, name) != value}
        if changed:
            for name, value in changed.items():
                setattr(profile, name, value)
            profile.save(update_fields=[*changed, "updated_at"])
            hierarchy.record(events.VENDOR_PROFILE_CHANGED, user, by, data={"fields": sorted(changed)})
    return own_profile(user)


def missing(profile: VendorProfile) -> list[str]:
    """Return the columns that a complete shop has and this one lacks."""
    return [name for name in ASKED_FOR if not getattr(profile, name)]


@contextmanager
def _vendor(vendor_id: UUID, right: str, by: Actor, *, or_oneself: bool = False) -> Iterator[User]:
    """Hold a vendor's account, once it was checked that `by` may do this to it."""
    with transaction.atomic():
        held = hierarchy.hold(by, [vendor_id])
        user = held.users.get(vendor_id)
        acting = held.authority.user
        is_own = or_oneself and acting is not None and acting.pk == vendor_id
        if acting is not None and acting.user_type == Role.VENDOR and not is_own:
            # Another vendor is told nothing, not even that the id is somebody's.
            hierarchy.refused("rank", by, user)
            raise VendorNotFound
        if not is_own:
            hierarchy.demand_right(held.authority, right, by, user)
        if user is None or user.user_type != Role.VENDOR or user.deleted_at is not None:
            raise VendorNotFound
        if not is_own:
            hierarchy.demand_over(held.authority, user, by)
        yield user


def _decide(vendor_id: UUID, status: Status, event: str, reason: str, by: Actor) -> VendorProfile:
    now = timezone.now()
    with _vendor(vendor_id, APPROVING, by) as user:
        profile = VendorProfile.objects.select_for_update().filter(pk=user.pk).first()
        if profile is None:
            raise VendorNotFound
        was = profile.vendor_status
        if was == status:
            raise AlreadyDecided
        VendorProfile.objects.filter(pk=user.pk).update(
            vendor_status=status, decided_at=now, decision_reason=reason, updated_at=now
        )
        hierarchy.record(event, user, by, data={"from": was, "reason": reason})
        name = "vendor_approved" if status == Status.APPROVED else "vendor_rejected"
        delivery.notify(user, name, {"reason": reason}, by=by)
    return own_profile(user)


def _document(user: User, document_id: UUID) -> VendorDocument:
    document = VendorDocument.objects.filter(pk=document_id, vendor=user).first()
    if document is None:
        raise DocumentNotFound
    return document
