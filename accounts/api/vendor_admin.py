"""`/vendedores/…`: the back office and its vendors. `/vendors/{id}/approve|reject` are other names of two."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from accounts import bulk, user_lists, vendors
from accounts.api import answers, lists, shapes
from accounts.api.admin import AUDIT
from accounts.api.base import AdministrationView, charge_bulk, describe, person, stated
from accounts.api.superuser import UPDATE, audit_of
from accounts.permissions import IsVendorOrStaff
from mestore.lib import actor
from mestore.lib.shapes import read

READ = "vendors.read.read_only"


class Vendors(AdministrationView):
    """All vendors."""

    needs = {"GET": READ}

    @describe("vendedores_list", "List vendors")
    def get(self, request: Request) -> Response:
        wanted, status = lists.vendors(request.query_params)
        page = user_lists.page_of_vendors(wanted, status=status)
        rows = [answers.vendor(profile) for profile in page.rows]
        return Response({"vendors": rows, **answers.paging(page, wanted)})


class Approve(AdministrationView):
    """A vendor may sell."""

    needs = {"POST": vendors.APPROVING}

    @describe("vendedores_approve", "Let a vendor sell", request=shapes.ReasonRequest)
    def post(self, request: Request, vendor_id: UUID) -> Response:
        given = read(shapes.ReasonRequest, request)
        profile = vendors.approve(vendor_id, reason=given["reason"], by=actor.of(request))
        return Response({"success": True, "vendor": answers.vendor(profile)})


class Reject(AdministrationView):
    """A vendor may not sell."""

    needs = {"POST": vendors.APPROVING}

    @describe("vendedores_reject", "Let a vendor not sell", request=shapes.RejectionRequest)
    def post(self, request: Request, vendor_id: UUID) -> Response:
        given = read(shapes.RejectionRequest, request)
        profile = vendors.reject(vendor_id, reason=given["rejection_reason"], by=actor.of(request))
        return Response({"success": True, "vendor": answers.vendor(profile)})


class ApproveAlias(Approve):
    """The same, by the name that shipped front ends use."""

    @describe("vendors_approve", "Let a vendor sell", request=shapes.ReasonRequest)
    def post(self, request: Request, vendor_id: UUID) -> Response:
        return super().post(request, vendor_id)


class RejectAlias(Reject):
    """The same, by the name that shipped front ends use."""

    @describe("vendors_reject", "Let a vendor not sell", request=shapes.RejectionRequest)
    def post(self, request: Request, vendor_id: UUID) -> Response:
        return super().post(request, vendor_id)


class Notes(AdministrationView):
    """What the staff remarked about a vendor."""

    needs = {"GET": vendors.MANAGING, "POST": vendors.MANAGING}

    @describe("vendedores_notes", "List the notes about a vendor")
    def get(self, request: Request, vendor_id: UUID) -> Response:  # noqa: ARG002 - the method's signature
        rows = vendors.notes(vendors.find(vendor_id).pk)
        return Response({"notes": [answers.note(row) for row in rows]})

    @describe("vendedores_note", "Write a note about a vendor", request=shapes.NoteRequest, code=201)
    def post(self, request: Request, vendor_id: UUID) -> Response:
        given = read(shapes.NoteRequest, request)
        note = vendors.add_note(vendor_id, text=given["text"], by=actor.of(request))
        return Response(answers.note(note), status=201)


class AuditLog(AdministrationView):
    """What happened to a vendor."""

    needs = {"GET": AUDIT}

    @describe("vendedores_audit", "Read the audit trail of a vendor")
    def get(self, request: Request, vendor_id: UUID) -> Response:
        vendors.find(vendor_id)
        return audit_of(request, vendor_id)


class Documents(AdministrationView):
    """A vendor's documents: the own ones, or any for those who manage vendors."""

    role = IsVendorOrStaff

    @describe("vendedores_documents", "List the documents of a vendor")
    def get(self, request: Request, vendor_id: UUID) -> Response:
        user = vendors.readable(vendor_id, reader=person(request), by=actor.of(request))
        return Response({"documents": [answers.document(row) for row in vendors.documents(user.pk)]})

    @describe("vendedores_document", "Hand in a document", request=shapes.DocumentRequest, code=201)
    def post(self, request: Request, vendor_id: UUID) -> Response:
        given = read(shapes.DocumentRequest, request)
        document = vendors.hand_in(
            vendor_id,
            kind=given["document_type"],
            file_name=given["file_name"],
            digest=given["sha256"],
            by=actor.of(request),
        )
        return Response(answers.document(document), status=201)


class Document(AdministrationView):
    """One document."""

    role = IsVendorOrStaff

    @describe("vendedores_document_delete", "Remove a document", code=204)
    def delete(self, request: Request, vendor_id: UUID, document_id: UUID) -> Response:
        vendors.remove_document(vendor_id, document_id, by=actor.of(request))
        return Response(status=204)


class Verify(AdministrationView):
    """Accept or reject a document."""

    needs = {"POST": vendors.MANAGING, "PUT": vendors.MANAGING}

    @describe("vendedores_document_verify", "Review a document", request=shapes.ReviewRequest)
    def post(self, request: Request, vendor_id: UUID, document_id: UUID) -> Response:
        return _review(request, vendor_id, document_id)

    @describe("vendedores_document_review", "Review a document", request=shapes.ReviewRequest)
    def put(self, request: Request, vendor_id: UUID, document_id: UUID) -> Response:
        return _review(request, vendor_id, document_id)


class BulkApprove(AdministrationView):
    """Many vendors may sell."""

    needs = {"POST": vendors.APPROVING}

    @describe("vendedores_bulk_approve", "Let many vendors sell", request=shapes.VendorBulkRequest)
    def post(self, request: Request) -> Response:
        given = _many(request, shapes.VendorBulkRequest)
        approve = partial(vendors.approve, reason=given["reason"], by=actor.of(request))
        return _told(request, vendors.each("approve", given["vendor_ids"], approve))


class BulkSuspend(AdministrationView):
    """Many vendors are closed."""

    needs = {"POST": UPDATE}

    @describe("vendedores_bulk_suspend", "Close many vendors", request=shapes.VendorBulkRequest)
    def post(self, request: Request) -> Response:
        given = _many(request, shapes.VendorBulkRequest)
        suspend = partial(vendors.suspend, reason=stated(given["reason"]), by=actor.of(request))
        return _told(request, vendors.each("suspend", given["vendor_ids"], suspend))


class BulkEmail(AdministrationView):
    """A letter to many vendors."""

    needs = {"POST": vendors.MANAGING}

    @describe("vendedores_bulk_email", "Write to many vendors", request=shapes.VendorMailRequest)
    def post(self, request: Request) -> Response:
        given = _many(request, shapes.VendorMailRequest)
        write = partial(
            vendors.write_to, subject=given["subject"], message=given["message"], by=actor.of(request)
        )
        return _told(request, vendors.each("email", given["vendor_ids"], write))


def _review(request: Request, vendor_id: UUID, document_id: UUID) -> Response:
    given = read(shapes.ReviewRequest, request)
    document = vendors.review(
        vendor_id,
        document_id,
        accepted=given["status"] == "verified",
        reason=given["reason"],
        by=actor.of(request),
    )
    return Response(answers.document(document))


def _many(request: Request, shape: type[shapes.VendorBulkRequest]) -> dict[str, Any]:
    given = read(shape, request)
    charge_bulk(request)
    return given


def _told(request: Request, result: bulk.Result) -> Response:
    return Response(answers.bulk_result(result, person(request)))
