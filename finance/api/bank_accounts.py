"""`/vendors/{id}/bank-accounts`, and the bank data of the first system: the same rows."""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.base import AdministrationView, person
from accounts.permissions import IsVendor
from finance import bank_accounts, payout_reads
from finance.api import bank_accounts_shapes as shapes
from finance.api.vendor_or_granted import VendorOrGrantedView, own
from finance.bank_accounts import AccountForm, AccountNotFound
from finance.states import BankAccountType
from mestore.lib import actor
from mestore.lib.shapes import read

STEP_UP = "bank.change"


class BankAccountsView(VendorOrGrantedView):
    """Where a vendor's money goes."""

    needs = {"GET": bank_accounts.READING, "POST": bank_accounts.MANAGING}
    step_up = {"POST": STEP_UP}

    @extend_schema(
        operation_id="bank_accounts_list", summary="List bank accounts", responses=OpenApiTypes.OBJECT
    )
    def get(self, request: Request, vendor_id: UUID) -> Response:
        own(request, vendor_id, AccountNotFound)
        rows = payout_reads.accounts(vendor_id)
        return Response({"results": [shapes.account(row) for row in rows], "next": None})

    @extend_schema(
        operation_id="bank_accounts_add", summary="Enter a bank account", request=shapes.BankAccountRequest,
        responses={201: OpenApiTypes.OBJECT},
    )  # fmt: skip
    def post(self, request: Request, vendor_id: UUID) -> Response:
        """Enter an account: nothing is paid to it before its cooling-off is over."""
        own(request, vendor_id, AccountNotFound)
        given = shapes.BankAccountRequest(data=request.data)
        given.is_valid(raise_exception=True)
        row = bank_accounts.add(vendor_id, given.form(), by=actor.of(request))
        return Response(shapes.account(row), status=201)


class BankAccountView(VendorOrGrantedView):
    """One bank account."""

    needs = {"DELETE": bank_accounts.MANAGING}
    step_up = {"DELETE": STEP_UP}

    @extend_schema(
        operation_id="bank_accounts_remove", summary="Remove a bank account", responses={204: None}
    )
    def delete(self, request: Request, vendor_id: UUID, account_id: UUID) -> Response:
        """Remove it; payouts to it that were not sent are cancelled."""
        own(request, vendor_id, AccountNotFound)
        bank_accounts.remove(vendor_id, account_id, by=actor.of(request))
        return Response(status=204)


class BankingView(AdministrationView):
    """The bank data of the own shop."""

    role = IsVendor
    step_up = {"PUT": STEP_UP}

    @extend_schema(
        operation_id="vendor_banking", summary="Set the own bank data", request=shapes.BankingRequest,
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def put(self, request: Request) -> Response:
        given = read(shapes.BankingRequest, request)
        vendor = person(request)
        _name, kind, document = shapes.holder_of(vendor)
        form = AccountForm(
            bank_name=given["bank_name"].strip(), account_type=BankAccountType(given["tipo_cuenta"]),
            number=given["account_number"], holder_name=given["account_holder_name"].strip(),
            document_type=kind, document=document,
        )  # fmt: skip
        return Response(shapes.banking(bank_accounts.put(vendor.pk, form, by=actor.of(request))))


class OldBankView(AdministrationView):
    """The bank data of the own shop, by their old name."""

    role = IsVendor
    step_up = {"PUT": STEP_UP}

    @extend_schema(
        operation_id="datos_bancarios", summary="Set the own bank data", request=shapes.OldBankRequest,
        responses=OpenApiTypes.OBJECT, deprecated=True,
    )  # fmt: skip
    def put(self, request: Request) -> Response:
        given = read(shapes.OldBankRequest, request)
        vendor = person(request)
        name, kind, document = shapes.holder_of(vendor)
        form = AccountForm(
            bank_name=given["banco"].strip(), account_type=BankAccountType(given["tipo_cuenta"]),
            number=given["numero_cuenta"], holder_name=given["titular"].strip() or name, document_type=kind,
            document=document,
        )  # fmt: skip
        return Response(shapes.old_bank(bank_accounts.put(vendor.pk, form, by=actor.of(request))))
