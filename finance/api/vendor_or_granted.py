"""Views that a vendor uses for what is the vendor's own, and the staff with the permission that is named."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from rest_framework.request import Request

from accounts.api.base import AdministrationView, person
from accounts.models import User
from accounts.permissions import IsVendorOrStaff
from accounts.roles import Role
from finance.api.access import StaffHolds
from mestore.lib import errors


class VendorOrGrantedView(AdministrationView):
    """`needs` names what the staff holds, by method; a vendor needs nothing but to be who it is about."""

    role = IsVendorOrStaff

    def get_permissions(self) -> list[Any]:
        """The role first, then, for the staff, the row of the permission table."""
        method = "GET" if self.request.method == "HEAD" else self.request.method or ""
        name = self.needs.get(method)
        return [self.role(), *([StaffHolds(name)] if name else [])]


def own(request: Request, vendor_id: UUID, refusal: type[errors.MeStoreError]) -> User:
    """Return who calls; a vendor who asks about another one is told that there is nothing."""
    user = person(request)
    if user.role is Role.VENDOR and user.pk != vendor_id:
        raise refusal
    return user
