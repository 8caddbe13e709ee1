"""The tables of people: accounts, vendors, permissions, factors and failure counters."""

from __future__ import annotations

from accounts.models.factor import TotpDevice
from accounts.models.lockout import LockoutCounter
from accounts.models.permission import Grant, Permission
from accounts.models.user import User
from accounts.models.vendor import VendorProfile

__all__ = ["Grant", "LockoutCounter", "Permission", "TotpDevice", "User", "VendorProfile"]
