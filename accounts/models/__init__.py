"""The tables of people: accounts, vendors, permissions, factors and failure counters."""

from __future__ import annotations

from accounts.models.access import AccessDecision, AccessReview, AccessReviewItem, BreakGlass, GrantUse
from accounts.models.approval import ApprovalRequest
from accounts.models.backup_code import BackupCode, BackupCodeSet
from accounts.models.consent import Consent
from accounts.models.credential import AddressChange, PasswordReset
from accounts.models.data_request import ArchivePart, DataRequest
from accounts.models.device import FactorFreeze, KnownDevice
from accounts.models.factor import TotpDevice
from accounts.models.identity import IdentityCard
from accounts.models.lockout import FactorStreak, LockoutCounter
from accounts.models.passkey import Passkey, PasskeyChallenge
from accounts.models.permission import Grant, Permission
from accounts.models.recovery import FactorReset, RecoveryCase
from accounts.models.user import User
from accounts.models.vendor import VendorProfile
from accounts.models.vendor_file import VendorDocument, VendorNote
from accounts.models.verification import VerificationCode

__all__ = [
    "AccessDecision",
    "AccessReview",
    "AccessReviewItem",
    "AddressChange",
    "ApprovalRequest",
    "ArchivePart",
    "BackupCode",
    "BackupCodeSet",
    "BreakGlass",
    "Consent",
    "DataRequest",
    "FactorFreeze",
    "FactorReset",
    "FactorStreak",
    "Grant",
    "GrantUse",
    "IdentityCard",
    "KnownDevice",
    "LockoutCounter",
    "Passkey",
    "PasskeyChallenge",
    "PasswordReset",
    "Permission",
    "RecoveryCase",
    "TotpDevice",
    "User",
    "VendorDocument",
    "VendorNote",
    "VendorProfile",
    "VerificationCode",
]
