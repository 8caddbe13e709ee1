"""The permission classes of API views, under the name by which views of sessions and money know them."""

from __future__ import annotations

from accounts.permissions import (
    HasPermission,
    IsMachine,
    IsPerson,
    IsStaff,
    IsSuperuser,
    IsVendor,
    IsVendorOrStaff,
)

__all__ = [
    "HasPermission",
    "IsMachine",
    "IsPerson",
    "IsStaff",
    "IsSuperuser",
    "IsVendor",
    "IsVendorOrStaff",
]
