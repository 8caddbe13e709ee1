"""The catalogue of everything the audit trail can say.

One entry per thing that can happen, in business words. An entry's code never changes its meaning: a new
meaning gets a new code, and a change in what `data` carries raises `version`. Code that records uses the
constants (`audit.record(events.SIGN_IN_SUCCEEDED, …)`); an unknown code is refused.

`docs/events.md` shows this catalogue to readers; `manage.py event_catalogue --write` generates it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Category(StrEnum):
    """What part of the house an event is about."""

    AUTHENTICATION = "AUTHENTICATION"
    USER_MANAGEMENT = "USER_MANAGEMENT"
    VENDOR_MANAGEMENT = "VENDOR_MANAGEMENT"
    FINANCIAL = "FINANCIAL"
    SYSTEM_CONFIG = "SYSTEM_CONFIG"
    DATA_EXPORT = "DATA_EXPORT"
    SECURITY = "SECURITY"
    AUDIT = "AUDIT"
    MONITORING = "MONITORING"
    EMERGENCY = "EMERGENCY"


class Outcome(StrEnum):
    """How it ended. BLOCKED: a rule said no. FAILURE: the caller could not do what it asked for."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    PARTIAL = "PARTIAL"
    BLOCKED = "BLOCKED"
    PENDING = "PENDING"
    CANCELLED = "CANCELLED"
    TIMEOUT = "TIMEOUT"


class Retention(StrEnum):
    """How long the event is kept."""

    STANDARD = "STANDARD"
    LONG_TERM = "LONG_TERM"
    PERMANENT = "PERMANENT"


@dataclass(frozen=True, slots=True)
class Event:
    """One catalogue entry. `description` is English, and a message: people read it in their language."""

    code: str
    category: Category
    outcome: Outcome
    retention: Retention
    description: str
    version: int = 1


class UnknownEvent(LookupError):
    """The code is not in the catalogue."""


_CODE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){1,3}")
_catalogue: dict[str, Event] = {}


def get(code: str) -> Event:
    """Return the entry of `code`; raise `UnknownEvent` when there is none."""
    try:
        return _catalogue[code]
    except KeyError:
        raise UnknownEvent(f"no event {code!r} in the catalogue") from None


def catalogue() -> Iterator[Event]:
    """Yield every entry, by code."""
    return iter(sorted(_catalogue.values(), key=lambda event: event.code))


def _event(
    code: str,
    category: Category,
    outcome: Outcome,
    description: str,
    *,
    retention: Retention = Retention.STANDARD,
    version: int = 1,
) -> str:
    if code in _catalogue:
        raise ValueError(f"event {code!r} is in the catalogue twice")
    if not _CODE.fullmatch(code):
        raise ValueError(f"{code!r} is not a well-formed event code")
    _catalogue[code] = Event(code, category, outcome, retention, description, version)
    return code


_AUTH, _PEOPLE, _MONEY = Category.AUTHENTICATION, Category.USER_MANAGEMENT, Category.FINANCIAL
_SUCCESS, _FAILURE, _BLOCKED = Outcome.SUCCESS, Outcome.FAILURE, Outcome.BLOCKED
_LONG, _FOR_EVER = Retention.LONG_TERM, Retention.PERMANENT

# --- Sign-in ----------------------------------------------------------------------------------------------
SIGN_IN_SUCCEEDED: Final = _event("auth.sign_in.succeeded", _AUTH, _SUCCESS, "A person proved who they are.")
SIGN_IN_FAILED: Final = _event(
    "auth.sign_in.failed", _AUTH, _FAILURE, "Wrong e-mail address or password; the two look the same."
)
SIGN_IN_REFUSED: Final = _event(
    "auth.sign_in.refused", _AUTH, _BLOCKED, "A sign-in was refused by a rule: lock, role, inactive account."
)
SIGN_IN_RISK_REFUSED: Final = _event(
    "auth.sign_in.risk_refused", Category.SECURITY, _BLOCKED,
    "A sign-in was refused for its risk; that account on that device or network is locked for a while.",
    retention=_LONG,
)  # fmt: skip
SIGN_IN_NOTICED: Final = _event(
    "auth.sign_in.noticed", Category.SECURITY, _SUCCESS,
    "An account was told of a sign-in from a new browser or country, or of a risky one.",
)  # fmt: skip
SIGN_IN_DISOWNED: Final = _event(
    "auth.sign_in.disowned", Category.SECURITY, _SUCCESS,
    "The owner of an account said that a sign-in was not theirs; what it began has ended.",
    retention=_LONG,
)  # fmt: skip
SIGN_IN_DISOWN_REFUSED: Final = _event(
    "auth.sign_in.disown_refused", Category.SECURITY, _BLOCKED,
    "A link about a sign-in was unknown, used or too old.",
)  # fmt: skip
CHANGES_FROZEN: Final = _event(
    "account.changes_frozen", Category.SECURITY, _SUCCESS,
    "What opens an account cannot be changed for a while.", retention=_LONG,
)  # fmt: skip
CHANGES_FREEZE_LIFTED: Final = _event(
    "account.changes_freeze_lifted", Category.SECURITY, _SUCCESS,
    "A freeze was lifted before its end, for a reason.", retention=_LONG,
)  # fmt: skip
CHANGES_FREEZE_REFUSED: Final = _event(
    "account.changes_freeze_refused", Category.SECURITY, _BLOCKED,
    "A change of what opens an account was refused because it is frozen.", retention=_LONG,
)  # fmt: skip
SIGN_IN_FACTOR_REQUIRED: Final = _event(
    "auth.sign_in.factor_required",
    _AUTH,
    Outcome.PENDING,
    "The password was right; a second factor is asked for.",
)
SIGNED_OUT: Final = _event("auth.signed_out", _AUTH, _SUCCESS, "A person ended their own session.")
ACCOUNT_LOCKED: Final = _event(
    "auth.locked", Category.SECURITY, _BLOCKED, "Too many failures: attempts are refused for a while."
)
LOCK_LIFTED: Final = _event(
    "auth.lock_lifted", Category.SECURITY, _SUCCESS, "A lock was lifted before its end."
)
LOCK_EXTENDED: Final = _event(
    "auth.lock_extended", Category.SECURITY, _SUCCESS, "A lock was made to last longer by an administrator."
)
NETWORK_BLOCKED: Final = _event(
    "auth.network_blocked", Category.SECURITY, _SUCCESS,
    "A network was shut out of every entrance by an administrator, until a moment.",
)  # fmt: skip

# --- Second factors ---------------------------------------------------------------------------------------
FACTOR_ENROLLED: Final = _event(
    "auth.factor.enrolled", _AUTH, _SUCCESS, "A second factor was added to an account.", retention=_LONG
)
FACTOR_CONFIRMED: Final = _event(
    "auth.factor.confirmed",
    _AUTH,
    _SUCCESS,
    "A new second factor proved itself for the first time.",
    retention=_LONG,
)
FACTOR_REFUSED: Final = _event(
    "auth.factor.refused", _AUTH, _FAILURE, "A second factor was wrong, malformed, used before or locked."
)

FACTOR_SUSPENDED: Final = _event(
    "auth.factor.suspended", Category.SECURITY, _BLOCKED,
    "A second factor was answered wrongly too often in a row; it counts no more.", retention=_LONG,
)  # fmt: skip
FACTOR_RESUMED: Final = _event(
    "auth.factor.resumed", Category.SECURITY, _SUCCESS, "A suspended second factor counts again.",
    retention=_LONG,
)  # fmt: skip
DEVICE_FORGOTTEN: Final = _event(
    "auth.device.forgotten", _AUTH, _SUCCESS, "A browser is no known device of an account any more."
)
FACTOR_REMOVED: Final = _event(
    "auth.factor.removed", _AUTH, _SUCCESS, "A second factor was taken off an account.", retention=_LONG
)
PASSKEY_SUSPENDED: Final = _event(
    "auth.passkey.suspended", Category.SECURITY, _BLOCKED,
    "A passkey gave signs of having been copied; it was suspended.", retention=_LONG,
)  # fmt: skip
PASSKEY_ALTERED: Final = _event(
    "auth.passkey.altered", Category.SECURITY, _BLOCKED,
    "A stored passkey is not as it was registered: somebody changed the table.", retention=_LONG,
)  # fmt: skip
BACKUP_CODES_MADE: Final = _event(
    "auth.backup_codes.made", _AUTH, _SUCCESS, "An account received new backup codes; the old ones ended.",
    retention=_LONG,
)  # fmt: skip
BACKUP_CODE_USED: Final = _event(
    "auth.backup_codes.used", _AUTH, _SUCCESS, "A backup code was used up; another took its place."
)
STEP_UP_PROVED: Final = _event(
    "auth.step_up.proved", _AUTH, _SUCCESS, "A person proved a factor again within a session."
)
STEP_UP_REQUIRED: Final = _event(
    "auth.step_up.required",
    Category.SECURITY,
    _BLOCKED,
    "An action was refused until a factor is proved again.",
)
RECOVERY_BEGUN: Final = _event(
    "auth.recovery.begun", _AUTH, Outcome.PENDING, "Somebody said that they lost a second factor."
)
RECOVERY_PROVED: Final = _event(
    "auth.recovery.proved", _AUTH, Outcome.PENDING, "One of the two proofs of a recovery was given."
)
RECOVERY_REFUSED: Final = _event(
    "auth.recovery.refused",
    Category.SECURITY,
    _FAILURE,
    "A proof of a recovery was wrong, late or one too many.",
)
FACTOR_RESET_REQUESTED: Final = _event(
    "auth.factor_reset.requested", Category.SECURITY, Outcome.PENDING,
    "Two proofs were given: all second factors of an account end after a while.", retention=_LONG,
)  # fmt: skip
FACTOR_RESET_CANCELLED: Final = _event(
    "auth.factor_reset.cancelled", Category.SECURITY, Outcome.CANCELLED,
    "A factor reset was stopped before it took effect.", retention=_LONG,
)  # fmt: skip
FACTOR_RESET_DONE: Final = _event(
    "auth.factor_reset.done", Category.SECURITY, _SUCCESS, "All second factors of an account were removed.",
    retention=_LONG,
)  # fmt: skip

# --- Second persons, reviews, emergencies -----------------------------------------------------------------
APPROVAL_ASKED: Final = _event(
    "approval.asked", Category.SECURITY, Outcome.PENDING, "Somebody asked a second person for an action.",
    retention=_LONG,
)  # fmt: skip
APPROVAL_GIVEN: Final = _event(
    "approval.given", Category.SECURITY, _SUCCESS, "A second person approved an action.", retention=_LONG
)
APPROVAL_REFUSED: Final = _event(
    "approval.refused", Category.SECURITY, _BLOCKED, "A second person refused an action.", retention=_LONG
)
APPROVAL_WITHDRAWN: Final = _event(
    "approval.withdrawn",
    Category.SECURITY,
    Outcome.CANCELLED,
    "Somebody took back what they had asked a second person for.",
)
APPROVAL_USED: Final = _event(
    "approval.used", Category.SECURITY, _SUCCESS, "An approved action was carried out.", retention=_LONG
)
APPROVAL_MISSING: Final = _event(
    "approval.missing", Category.SECURITY, _BLOCKED, "An action was refused for want of a second person."
)
APPROVAL_NOT_ALLOWED: Final = _event(
    "approval.not_allowed",
    Category.SECURITY,
    _BLOCKED,
    "Somebody tried to decide about a request that is not theirs to decide.",
    retention=_LONG,
)
ACCESS_REVIEW_STARTED: Final = _event(
    "access_review.started", Category.AUDIT, Outcome.PENDING, "A review of all grants in force began.",
    retention=_LONG,
)  # fmt: skip
ACCESS_REVIEW_DECIDED: Final = _event(
    "access_review.decided", Category.AUDIT, _SUCCESS, "A grant was confirmed or taken back in a review.",
    retention=_LONG,
)  # fmt: skip
EXPORT_MADE: Final = _event(
    "export.made", Category.AUDIT, _SUCCESS, "A file about many people left, as a second person approved.",
    retention=_FOR_EVER,
)  # fmt: skip
AUDIT_EXPORT_BEGUN: Final = _event(
    "audit.export.begun", Category.DATA_EXPORT, Outcome.PENDING,
    "Events of the audit trail began to leave as a file.", retention=_FOR_EVER,
)  # fmt: skip
AUDIT_EXPORTED: Final = _event(
    "audit.export.finished", Category.DATA_EXPORT, _SUCCESS,
    "Events of the audit trail left as a file; its digest is kept.", retention=_FOR_EVER,
)  # fmt: skip
AUDIT_DESTINATION_ADDED: Final = _event(
    "audit.destination_added", Category.DATA_EXPORT, _SUCCESS,
    "A place that events of the audit trail are sent to was used for the first time.", retention=_FOR_EVER,
)  # fmt: skip
AUDIT_READ: Final = _event(
    "audit.read", Category.AUDIT, _SUCCESS, "Events of the audit trail were read over the API.",
)  # fmt: skip
ACCESS_REVIEW_FINISHED: Final = _event(
    "access_review.finished", Category.AUDIT, _SUCCESS, "A review ended; its outcome is fixed by a seal.",
    retention=_FOR_EVER,
)  # fmt: skip
IMPERSONATION_STARTED: Final = _event(
    "impersonation.started",
    Category.SECURITY,
    _SUCCESS,
    "An administrator began to see the system as another account.",
    retention=_LONG,
)
IMPERSONATION_ENDED: Final = _event(
    "impersonation.ended", Category.SECURITY, _SUCCESS, "An impersonation was stopped.", retention=_LONG
)
IMPERSONATION_REFUSED: Final = _event(
    "impersonation.refused",
    Category.SECURITY,
    _BLOCKED,
    "An impersonation was not allowed, or something was tried in one that it does not open.",
    retention=_LONG,
)
BREAK_GLASS_SEALED: Final = _event(
    "break_glass.sealed", Category.EMERGENCY, _SUCCESS, "The account of emergencies received a new code.",
    retention=_FOR_EVER,
)  # fmt: skip
BREAK_GLASS_OPENED: Final = _event(
    "break_glass.opened", Category.EMERGENCY, _SUCCESS, "The account of emergencies was opened.",
    retention=_FOR_EVER,
)  # fmt: skip
BREAK_GLASS_REFUSED: Final = _event(
    "break_glass.refused", Category.EMERGENCY, _BLOCKED, "A code of the account of emergencies was wrong.",
    retention=_FOR_EVER,
)  # fmt: skip
BREAK_GLASS_CLOSED: Final = _event(
    "break_glass.closed", Category.EMERGENCY, _SUCCESS, "The account of emergencies was closed again.",
    retention=_FOR_EVER,
)  # fmt: skip

# --- Sessions and tokens ----------------------------------------------------------------------------------
SESSION_STARTED: Final = _event("session.started", _AUTH, _SUCCESS, "A session began.")
SESSION_ENDED: Final = _event(
    "session.ended", _AUTH, _SUCCESS, "A session was ended, by its owner or by a rule."
)
SESSION_EVICTED: Final = _event(
    "session.evicted", _AUTH, _SUCCESS, "The oldest session ended because the role allows no more."
)
EVERY_SESSION_ENDED: Final = _event(
    "session.everyone_ended",
    Category.EMERGENCY,
    _SUCCESS,
    "Two people ended every session of everybody.",
    retention=_LONG,
)
VALUES_RESEALED: Final = _event(
    "keys.resealed",
    Category.SECURITY,
    _SUCCESS,
    "What is sealed in the database was moved to the current master key.",
    retention=_LONG,
)
SESSIONS_MARKED: Final = _event(
    "session.everyone_marked", _AUTH, _SUCCESS, "Sessions that everybody's end had ended were marked so."
)
SESSION_UNREADABLE: Final = _event(
    "session.unreadable",
    Category.SECURITY,
    _FAILURE,
    "What a browser's session remembers does not open: altered, moved, or its key gone. The session ended.",
    retention=_LONG,
)
SESSION_MOVED: Final = _event(
    "session.moved", _AUTH, _SUCCESS, "A session was used from another network; the policy lets it go on."
)
SESSION_CHALLENGED: Final = _event(
    "session.challenged", Category.SECURITY, _BLOCKED,
    "A session was used from elsewhere; it goes on there once a factor is proved.",
)  # fmt: skip
SESSION_CONFIRMED: Final = _event(
    "session.confirmed", _AUTH, _SUCCESS, "A factor was proved where a session had been challenged."
)
SESSION_REFUSED: Final = _event(
    "session.refused", Category.SECURITY, _BLOCKED, "A request with a session was refused."
)
TOKEN_ISSUED: Final = _event(
    "auth.token.issued", _AUTH, _SUCCESS, "A machine account received an access token."
)
TOKEN_REFRESHED: Final = _event(
    "auth.token.refreshed", _AUTH, _SUCCESS, "A refresh token was exchanged for the next."
)
TOKEN_REUSED: Final = _event(
    "auth.token.reused", Category.SECURITY, _BLOCKED, "A used refresh token came again; its family ended.",
    retention=_LONG,
)  # fmt: skip
TOKEN_REFUSED: Final = _event("auth.token.refused", _AUTH, _BLOCKED, "A token was not accepted.")
CLIENT_REFUSED: Final = _event(
    "client.refused",
    Category.SECURITY,
    _BLOCKED,
    "A machine account's key, network or state was not accepted.",
)

# --- Permissions and limits -------------------------------------------------------------------------------
PERMISSION_DENIED: Final = _event(
    "authz.denied", Category.SECURITY, _BLOCKED, "An authenticated caller asked for what it may not do."
)
RATE_LIMITED: Final = _event(
    "limit.exceeded", Category.SECURITY, _BLOCKED, "A caller sent more requests than its limit allows."
)
SENSITIVE_PAGE_VIEWED: Final = _event(
    "console.sensitive_viewed",
    Category.AUDIT,
    _SUCCESS,
    "Personal or secret-adjacent data was shown in the console.",
)

# --- People -----------------------------------------------------------------------------------------------
USER_CREATED: Final = _event("user.created", _PEOPLE, _SUCCESS, "An account was created.", retention=_LONG)
ADMINISTRATOR_CREATED: Final = _event(
    "user.administrator_created",
    _PEOPLE,
    _SUCCESS,
    "An account of the staff was created.",
    retention=_FOR_EVER,
)
USER_DEACTIVATED: Final = _event(
    "user.deactivated", _PEOPLE, _SUCCESS, "An account was closed; its sessions ended.", retention=_LONG
)
USER_REACTIVATED: Final = _event(
    "user.reactivated", _PEOPLE, _SUCCESS, "An account was opened again.", retention=_LONG
)
CREDENTIALS_GIVEN: Final = _event(
    "user.credentials_given", _PEOPLE, _SUCCESS, "An account received a password.", retention=_LONG
)
ADMINISTRATION_REFUSED: Final = _event(
    "user.administration_refused", _PEOPLE, _BLOCKED, "A change to an account was refused.", retention=_LONG
)
GRANT_GIVEN: Final = _event(
    "grant.given", _PEOPLE, _SUCCESS, "A permission was given to a person.", retention=_LONG
)
GRANT_REVOKED: Final = _event(
    "grant.revoked", _PEOPLE, _SUCCESS, "A permission was taken back.", retention=_LONG
)
USER_UPDATED: Final = _event(
    "user.updated",
    _PEOPLE,
    _SUCCESS,
    "An administrator changed what is known about a person.",
    retention=_LONG,
)
USER_ROLE_CHANGED: Final = _event(
    "user.role_changed", _PEOPLE, _SUCCESS, "An account received another role; its sessions ended.",
    retention=_FOR_EVER,
)  # fmt: skip
USER_CLEARANCE_CHANGED: Final = _event(
    "user.clearance_changed", _PEOPLE, _SUCCESS, "The clearance of an account was changed.", retention=_LONG
)
USER_CONTACT_MARKED: Final = _event(
    "user.contact_marked",
    _PEOPLE,
    _SUCCESS,
    "An administrator said that an account or address counts as verified, or no longer.",
)
USER_LOCKED: Final = _event(
    "user.locked", _PEOPLE, _SUCCESS, "An administrator locked an account for a while; its sessions ended."
)
USER_UNLOCKED: Final = _event(
    "user.unlocked", _PEOPLE, _SUCCESS, "An administrator ended the lock of an account."
)
USER_DELETED: Final = _event(
    "user.deleted", _PEOPLE, _SUCCESS, "An account was deleted; it can be restored.", retention=_LONG
)
USER_RESTORED: Final = _event(
    "user.restored", _PEOPLE, _SUCCESS, "A deleted account was restored.", retention=_LONG
)
USER_ERASED: Final = _event(
    "user.erased", _PEOPLE, _SUCCESS, "A deleted account was removed for ever.", retention=_FOR_EVER
)
USER_DETAILS_READ: Final = _event(
    "user.details_read", Category.AUDIT, _SUCCESS, "What is known about a person was read over the API."
)
AUDIT_PROOF_DOWNLOADED: Final = _event(
    "audit.proof_downloaded", Category.AUDIT, _SUCCESS, "The proof of one event left the house as a file."
)
AUDIT_VALUES_REVEALED: Final = _event(
    "audit.values_revealed", Category.AUDIT, _SUCCESS,
    "The personal values of one event of the trail were shown to somebody, who said why.", retention=_LONG,
)  # fmt: skip
AUDIT_SUBJECT_ERASED: Final = _event(
    "audit.subject_erased", Category.AUDIT, _SUCCESS,
    "What the trail knew about a person was erased: their key and the values beside events.", retention=_LONG,
)  # fmt: skip
AUDIT_EVIDENCE_MADE: Final = _event(
    "audit.evidence_made", Category.DATA_EXPORT, _SUCCESS,
    "A pack of checkpoints, keys and proofs left the house as a file.", retention=_LONG,
)  # fmt: skip
AUDIT_VERIFIED: Final = _event(
    "audit.verified", Category.AUDIT, _SUCCESS,
    "The log was verified: it says what was signed, and the trail says what the log says.", retention=_LONG,
)  # fmt: skip
AUDIT_VERIFICATION_FAILED: Final = _event(
    "audit.verification_failed", Category.AUDIT, _FAILURE,
    "Verifying the log found something that is not as it was signed.", retention=_FOR_EVER,
)  # fmt: skip
AUDIT_RECONCILED: Final = _event(
    "audit.reconciled", Category.AUDIT, _SUCCESS,
    "Rows of watched tables were compared with what the trail tells of them.", retention=_LONG,
)  # fmt: skip
AUDIT_RECONCILIATION_FAILED: Final = _event(
    "audit.reconciliation_failed", Category.AUDIT, _FAILURE,
    "Rows of watched tables came, went or changed, and the trail does not tell of it.", retention=_FOR_EVER,
)  # fmt: skip
AUDIT_GUARDS_SEEN: Final = _event(
    "audit.guards_seen", Category.AUDIT, _SUCCESS,
    "This hour's look at the guards of the trail: capture and all others are as the migrations made them.",
    retention=_LONG,
)  # fmt: skip
AUDIT_GUARDS_NOT_WHOLE: Final = _event(
    "audit.guards_not_whole", Category.AUDIT, _FAILURE,
    "This hour's look at the guards of the trail: some are missing, off or not as the migrations made them.",
    retention=_FOR_EVER,
)  # fmt: skip
AUDIT_REQUEUED: Final = _event(
    "audit.requeued", Category.AUDIT, _SUCCESS,
    "An event that had been taken out of the queue of the log was put back by a person.",
    retention=_FOR_EVER,
)  # fmt: skip
AUDIT_VERIFICATION_ASKED: Final = _event(
    "audit.verification_asked", Category.AUDIT, Outcome.PENDING, "Somebody asked for the log to be verified."
)
JOB_RETRIED: Final = _event(
    "job.retried", Category.SYSTEM_CONFIG, _SUCCESS, "A background job that had failed was put back in line."
)
JOB_PARKED: Final = _event(
    "job.parked", Category.SYSTEM_CONFIG, _SUCCESS, "A background job that waited was taken out of the line."
)
USER_REGISTERED: Final = _event(
    "user.registered", _PEOPLE, _SUCCESS, "Somebody opened an account of their own.", retention=_LONG
)
REGISTRATION_REFUSED: Final = _event(
    "user.registration_refused", _PEOPLE, _BLOCKED, "A registration was refused: the address has an account."
)
CONTACT_VERIFIED: Final = _event(
    "user.contact_verified", _PEOPLE, _SUCCESS, "An e-mail address or a telephone was proved by a code."
)
VERIFICATION_REFUSED: Final = _event(
    "user.verification_refused", _PEOPLE, _FAILURE, "A code for an address was wrong, late or used before."
)
VENDOR_IMPORTED: Final = _event(
    "vendor.imported", Category.VENDOR_MANAGEMENT, _SUCCESS, "A vendor was created from a marketplace file."
)

# --- Vendors ----------------------------------------------------------------------------------------------
VENDOR_APPROVED: Final = _event(
    "vendor.approved", Category.VENDOR_MANAGEMENT, _SUCCESS, "A vendor may sell.", retention=_LONG
)
VENDOR_REJECTED: Final = _event(
    "vendor.rejected", Category.VENDOR_MANAGEMENT, _SUCCESS, "A vendor was rejected.", retention=_LONG
)
VENDOR_PROFILE_CHANGED: Final = _event(
    "vendor.profile_changed", Category.VENDOR_MANAGEMENT, _SUCCESS, "A vendor changed what the shop shows."
)
VENDOR_NOTED: Final = _event(
    "vendor.noted", Category.VENDOR_MANAGEMENT, _SUCCESS, "A note about a vendor was written."
)
VENDOR_WRITTEN_TO: Final = _event(
    "vendor.written_to", Category.VENDOR_MANAGEMENT, _SUCCESS, "An administrator wrote to a vendor."
)
VENDOR_DOCUMENT_ADDED: Final = _event(
    "vendor.document_added", Category.VENDOR_MANAGEMENT, _SUCCESS, "A vendor's document was handed in."
)
VENDOR_DOCUMENT_REVIEWED: Final = _event(
    "vendor.document_reviewed",
    Category.VENDOR_MANAGEMENT,
    _SUCCESS,
    "A vendor's document was accepted or rejected.",
    retention=_LONG,
)
VENDOR_DOCUMENT_REMOVED: Final = _event(
    "vendor.document_removed", Category.VENDOR_MANAGEMENT, _SUCCESS, "A vendor's document was removed."
)

# --- Passwords and addresses ------------------------------------------------------------------------------
PASSWORD_CHANGED: Final = _event(
    "auth.password.changed", _AUTH, _SUCCESS, "A person chose a new password; all sessions ended.",
    retention=_LONG,
)  # fmt: skip
PASSWORD_CHANGE_REFUSED: Final = _event(
    "auth.password.change_refused", _AUTH, _FAILURE, "The present password was wrong; nothing changed."
)
PASSWORD_FLAGGED: Final = _event(
    "auth.password.flagged",
    Category.SECURITY,
    _BLOCKED,
    "A password turned out at sign-in to be known or too short; it must be changed.",
)
PASSWORD_FLAG_LIFTED: Final = _event(
    "auth.password.flag_lifted",
    Category.SECURITY,
    _SUCCESS,
    "A password need not change any more: a second factor was added to it.",
)
PASSWORD_RESET_REQUESTED: Final = _event(
    "auth.password.reset_requested", _AUTH, Outcome.PENDING, "Somebody asked for a reset link."
)
PASSWORD_RESET_STARTED: Final = _event(
    "auth.password.reset_started", _PEOPLE, Outcome.PENDING,
    "An administrator had a reset link sent to a person.", retention=_LONG,
)  # fmt: skip
PASSWORD_RESET_DONE: Final = _event(
    "auth.password.reset_done", _AUTH, _SUCCESS,
    "A new password was chosen through a reset link; all sessions ended.", retention=_LONG,
)  # fmt: skip
PASSWORD_RESET_REFUSED: Final = _event(
    "auth.password.reset_refused", _AUTH, _FAILURE, "A reset link was unknown, used, too old or overtaken."
)
ADDRESS_CHANGE_REQUESTED: Final = _event(
    "user.address_change.requested",
    _PEOPLE,
    Outcome.PENDING,
    "A person asked for another address; it waits for its confirmation.",
)
ADDRESS_CHANGED: Final = _event(
    "user.address_change.done", _PEOPLE, _SUCCESS, "An account has another address.", retention=_LONG
)
ADDRESS_CHANGE_CANCELLED: Final = _event(
    "user.address_change.cancelled",
    _PEOPLE,
    Outcome.CANCELLED,
    "A change of address was stopped, by a link or by a newer one.",
)
PROFILE_CHANGED: Final = _event(
    "user.profile_changed", _PEOPLE, _SUCCESS, "A person changed what their account says about them."
)

# --- Messages ---------------------------------------------------------------------------------------------
MESSAGE_QUEUED: Final = _event(
    "message.queued",
    Category.MONITORING,
    Outcome.PENDING,
    "A message to a person was written; it is sent soon.",
)
MESSAGE_SENT: Final = _event(
    "message.sent", Category.MONITORING, _SUCCESS, "A message was handed to the mail server or provider."
)
MESSAGE_GIVEN_UP: Final = _event(
    "message.given_up",
    Category.MONITORING,
    _FAILURE,
    "A message could not be sent before it lost its use; it was deleted.",
)
MESSAGE_NOT_DUE: Final = _event(
    "message.not_due",
    Category.MONITORING,
    _BLOCKED,
    "A message was asked for where nobody is to be told; the answer did not show it.",
)

# --- Signals ----------------------------------------------------------------------------------------------
SIGNAL_ASSIGNED: Final = _event(
    "signal.assigned", Category.MONITORING, _SUCCESS, "A signal received an owner.", retention=_LONG
)
SIGNAL_REVIEWED: Final = _event(
    "signal.reviewed", Category.MONITORING, _SUCCESS, "Somebody began to look at a signal.", retention=_LONG
)
SIGNAL_ACKNOWLEDGED: Final = _event(
    "signal.acknowledged", Category.MONITORING, _SUCCESS,
    "A signal was made quiet until a moment, with a reason.", retention=_LONG,
)  # fmt: skip
SIGNAL_ARCHIVED: Final = _event(
    "signal.archived", Category.MONITORING, _SUCCESS, "Somebody said what a signal was; it is closed.",
    retention=_LONG,
)  # fmt: skip
SIGNAL_REOPENED: Final = _event(
    "signal.reopened", Category.MONITORING, _SUCCESS, "The time for which a signal was quiet is over."
)
SIGNAL_TOLD: Final = _event(
    "signal.told", Category.MONITORING, _SUCCESS, "Those who may act on signals were mailed about one."
)

# --- What people decide about their own data --------------------------------------------------------------
CONSENT_GIVEN: Final = _event(
    "consent.given", _PEOPLE, _SUCCESS, "A person agreed to one version of a text.", retention=_FOR_EVER
)
CONSENT_REFUSED: Final = _event(
    "consent.refused", _PEOPLE, _SUCCESS, "A person did not agree to a text, or took their agreement back.",
    retention=_FOR_EVER,
)  # fmt: skip
DATA_REQUEST_MADE: Final = _event(
    "data_request.made", _PEOPLE, Outcome.PENDING,
    "A person asked for a copy of their data, or to be forgotten.", retention=_LONG,
)  # fmt: skip
DATA_REQUEST_CANCELLED: Final = _event(
    "data_request.cancelled", _PEOPLE, Outcome.CANCELLED,
    "A request about one's own data was taken back, or its account is gone.", retention=_LONG,
)  # fmt: skip
DATA_REQUEST_APPROVED: Final = _event(
    "data_request.approved", _PEOPLE, _SUCCESS, "The staff granted a request about one's own data.",
    retention=_LONG,
)  # fmt: skip
DATA_REQUEST_REJECTED: Final = _event(
    "data_request.rejected", _PEOPLE, _BLOCKED,
    "The staff refused a request about one's own data, with the reason that the person is told.",
    retention=_LONG,
)  # fmt: skip
DATA_REQUEST_ERASED: Final = _event(
    "data_request.erased", _PEOPLE, _SUCCESS, "A person was forgotten at their own request.",
    retention=_FOR_EVER,
)  # fmt: skip
DATA_ARCHIVE_MADE: Final = _event(
    "data_request.archive_made", Category.DATA_EXPORT, _SUCCESS,
    "The archive of a person's own data was made and sealed.", retention=_LONG,
)  # fmt: skip
DATA_ARCHIVE_DOWNLOADED: Final = _event(
    "data_request.archive_downloaded", Category.DATA_EXPORT, _SUCCESS,
    "A person downloaded the archive of their own data.", retention=_LONG,
)  # fmt: skip
DATA_ARCHIVE_PURGED: Final = _event(
    "data_request.archive_purged", Category.DATA_EXPORT, _SUCCESS,
    "The archive of a person's own data was deleted; its time was over.", retention=_LONG,
)  # fmt: skip

# --- Machines and keys ------------------------------------------------------------------------------------
CLIENT_CREATED: Final = _event(
    "client.created",
    Category.SYSTEM_CONFIG,
    _SUCCESS,
    "A machine account and its key were created.",
    retention=_LONG,
)
SIGNING_KEY_CREATED: Final = _event(
    "key.signing.created", Category.SYSTEM_CONFIG, _SUCCESS, "A key that signs access tokens was made.",
    retention=_FOR_EVER,
)  # fmt: skip

SIGNING_KEY_RETIRED: Final = _event(
    "key.signing.retired", Category.SYSTEM_CONFIG, _SUCCESS,
    "A key that signed access tokens was deleted: its overlap was over, or it was compromised.",
    retention=_FOR_EVER,
)  # fmt: skip
CLIENT_KEY_ROTATED: Final = _event(
    "client.key.rotated", Category.SYSTEM_CONFIG, _SUCCESS,
    "A machine account got a new key; the old one works until its overlap ends.", retention=_LONG,
)  # fmt: skip
CLIENT_REVOKED: Final = _event(
    "client.revoked", Category.SYSTEM_CONFIG, _SUCCESS,
    "A machine account was closed for good; its sessions ended.", retention=_LONG,
)  # fmt: skip
CLIENT_NETWORKS_CHANGED: Final = _event(
    "client.networks.changed", Category.SYSTEM_CONFIG, _SUCCESS,
    "The networks that a machine account may call from were changed.", retention=_LONG,
)  # fmt: skip
CLIENT_METHOD_CHANGED: Final = _event(
    "client.method.changed", Category.SYSTEM_CONFIG, _SUCCESS,
    "The way a machine account signs in was changed; its sessions ended.", retention=_LONG,
)  # fmt: skip
CLIENT_PUBLIC_KEY_ADDED: Final = _event(
    "client.public_key.added", Category.SYSTEM_CONFIG, _SUCCESS,
    "A public key was registered for a machine account.", retention=_LONG,
)  # fmt: skip
CLIENT_PUBLIC_KEY_REMOVED: Final = _event(
    "client.public_key.removed", Category.SYSTEM_CONFIG, _SUCCESS,
    "A public key of a machine account was withdrawn; its sessions ended.", retention=_LONG,
)  # fmt: skip
PROOF_REFUSED: Final = _event(
    "auth.proof.refused", Category.SECURITY, _BLOCKED,
    "A proof of possession was missing, wrong or used before.",
)  # fmt: skip

# --- Changes of rows: the database writes these itself, whatever changed the row ---------------------------
CAPTURED_INSERT: Final = _event(
    "capture.insert", Category.AUDIT, _SUCCESS, "A row appeared in a watched table.", retention=_LONG
)
CAPTURED_UPDATE: Final = _event(
    "capture.update", Category.AUDIT, _SUCCESS, "A row of a watched table was changed.", retention=_LONG
)
CAPTURED_DELETE: Final = _event(
    "capture.delete", Category.AUDIT, _SUCCESS, "A row of a watched table was deleted.", retention=_LONG
)
CAPTURED_TRUNCATE: Final = _event(
    "capture.truncate",
    Category.AUDIT,
    _SUCCESS,
    "A watched table was emptied with TRUNCATE.",
    retention=_LONG,
)

AUDIT_LOG_BEGUN: Final = _event(
    "audit.log_begun", Category.AUDIT, _SUCCESS,
    "The signed log was ended as it stood, after a loss that two people admitted, and a new one began.",
    retention=_FOR_EVER,
)  # fmt: skip

AUDIT_MONTH_ARCHIVED: Final = _event(
    "audit.month_archived", Category.AUDIT, _SUCCESS,
    "A month of the trail was verified, written to an archive and read back.", retention=_FOR_EVER,
)  # fmt: skip
AUDIT_MONTH_RETIRED: Final = _event(
    "audit.month_retired", Category.AUDIT, _SUCCESS,
    "Two people gave up a month of the trail, which is archived: its table is dropped after this.",
    retention=_FOR_EVER,
)  # fmt: skip

# --- Orders and money -------------------------------------------------------------------------------------
ORDER_RECORDED: Final = _event("order.recorded", _MONEY, _SUCCESS, "An order was written.", retention=_LONG)
ORDER_REFUSED: Final = _event(
    "order.refused",
    _MONEY,
    _BLOCKED,
    "An order was refused: a vendor, a buyer, a reference or a payment was not right.",
)
CARD_DATA_REFUSED: Final = _event(
    "order.card_data_refused",
    Category.SECURITY,
    _BLOCKED,
    "A body with card data was refused; the data is kept nowhere.",
)
IMPORT_FINISHED: Final = _event("import.finished", _MONEY, _SUCCESS, "An import of marketplace files ended.")
IMPORT_REJECTED: Final = _event(
    "import.rejected", _MONEY, Outcome.PARTIAL, "Lines of an import were rejected."
)
REPORT_TAKEN_IN: Final = _event(
    "report.taken_in", _MONEY, _SUCCESS, "A report of a provider or a bank was taken in.", retention=_LONG
)
BOOKS_COMPARED: Final = _event(
    "books.compared", _MONEY, _SUCCESS, "The ledger was compared with what others report.", retention=_LONG
)
CASE_DECIDED: Final = _event(
    "reconciliation_case.decided", _MONEY, _SUCCESS, "A difference was explained or corrected.",
    retention=_LONG,
)  # fmt: skip
DISPUTE_OPENED: Final = _event(
    "dispute.opened", _MONEY, _SUCCESS, "A vendor disputes a commission.", retention=_LONG
)
DISPUTE_REVIEWED: Final = _event(
    "dispute.reviewed", _MONEY, _SUCCESS, "Somebody looks at a dispute.", retention=_LONG
)
DISPUTE_RESOLVED: Final = _event(
    "dispute.resolved", _MONEY, _SUCCESS, "A dispute was decided for the vendor.", retention=_LONG
)
DISPUTE_REFUSED: Final = _event(
    "dispute.refused", _MONEY, _SUCCESS, "A dispute was decided against the vendor.", retention=_LONG
)
EVENT_REPLAYED: Final = _event(
    "storefront_event.replayed", _MONEY, _SUCCESS, "An event was sent to the storefront again."
)
ENDPOINT_CREATED: Final = _event(
    "storefront_endpoint.created", Category.SYSTEM_CONFIG, _SUCCESS,
    "An address for the storefront's events was entered.",
)  # fmt: skip
ENDPOINT_ROTATED: Final = _event(
    "storefront_endpoint.rotated", Category.SYSTEM_CONFIG, _SUCCESS,
    "The secret that signs the storefront's events changed.",
)  # fmt: skip
ENDPOINT_OPENED: Final = _event(
    "storefront_endpoint.opened", Category.SYSTEM_CONFIG, _SUCCESS,
    "An address for the storefront's events was opened again.",
)  # fmt: skip
ENDPOINT_CLOSED: Final = _event(
    "storefront_endpoint.closed", Category.SYSTEM_CONFIG, _SUCCESS,
    "An address gets no events of the storefront any more.",
)  # fmt: skip
COMMISSION_CALCULATED: Final = _event(
    "commission.calculated",
    _MONEY,
    _SUCCESS,
    "The commission of one vendor on one order was fixed.",
    retention=_LONG,
)
COMMISSION_APPROVED: Final = _event(
    "commission.approved", _MONEY, _SUCCESS, "A pending commission was approved.", retention=_LONG
)
RULE_PROPOSED: Final = _event(
    "commission_rule.proposed", _MONEY, Outcome.PENDING, "A commission rule was proposed.", retention=_LONG
)
RULE_APPROVED: Final = _event(
    "commission_rule.approved", _MONEY, _SUCCESS,
    "A commission rule was approved by a second person and is in force from its beginning.", retention=_LONG,
)  # fmt: skip
RULE_WITHDRAWN: Final = _event(
    "commission_rule.withdrawn", _MONEY, Outcome.CANCELLED,
    "A commission rule was withdrawn before it began.", retention=_LONG,
)  # fmt: skip
RULE_ENDED: Final = _event(
    "commission_rule.ended", _MONEY, _SUCCESS,
    "A commission rule was ended, now or at a moment to come.", retention=_LONG,
)  # fmt: skip
LEDGER_ENTRY_POSTED: Final = _event(
    "finance.ledger_entry.posted", _MONEY, _SUCCESS,
    "An entry was written to the ledger. The database writes this event itself.", retention=_FOR_EVER,
)  # fmt: skip
SETTLEMENT_STARTED: Final = _event(
    "settlement.started", _MONEY, Outcome.PENDING, "A settlement of what is due began.", retention=_LONG
)
SETTLEMENT_FINISHED: Final = _event(
    "settlement.finished", _MONEY, _SUCCESS,
    "A settlement ended; money whose hold is over is available to its vendors.", retention=_LONG,
)  # fmt: skip
PERIOD_CLOSED: Final = _event(
    "period.closed", _MONEY, _SUCCESS,
    "The books were closed up to a moment: nothing of before is posted any more.", retention=_FOR_EVER,
)  # fmt: skip
JOURNAL_POSTED: Final = _event(
    "journal.posted", _MONEY, _SUCCESS,
    "A manual journal was posted after a second person's approval.", retention=_FOR_EVER,
)  # fmt: skip
STATEMENT_TAKEN: Final = _event(
    "statement.taken", Category.DATA_EXPORT, _SUCCESS,
    "Somebody of the staff took a vendor's statement out of the house.", retention=_LONG,
)  # fmt: skip
MONEY_VERIFIED: Final = _event(
    "money.verified", _MONEY, _SUCCESS, "The invariants of money were verified.", retention=_LONG
)
MONEY_VERIFY_FAILED: Final = _event(
    "money.verify_failed", _MONEY, _FAILURE,
    "Verifying the invariants of money found rows that do not add up.", retention=_FOR_EVER,
)  # fmt: skip
SNAPSHOTS_REBUILT: Final = _event(
    "ledger.snapshots_rebuilt", _MONEY, _SUCCESS,
    "The sums behind balances were thrown away and taken anew.", retention=_LONG,
)  # fmt: skip
BANK_ACCOUNT_ADDED: Final = _event(
    "bank_account.added", _MONEY, _SUCCESS, "A vendor's bank account was entered; its cooling-off began.",
    retention=_LONG,
)  # fmt: skip
BANK_ACCOUNT_REMOVED: Final = _event(
    "bank_account.removed", _MONEY, _SUCCESS, "No money goes to this bank account any more.", retention=_LONG
)
BANK_ACCOUNT_REVEALED: Final = _event(
    "bank_account.revealed", Category.SECURITY, _SUCCESS,
    "Somebody of the staff saw the whole number of a bank account, and said why.", retention=_LONG,
)  # fmt: skip
BANK_ACCOUNT_ALTERED: Final = _event(
    "bank_account.altered", Category.SECURITY, _BLOCKED,
    "A bank account is not what was entered: no payout goes there.", retention=_FOR_EVER,
)  # fmt: skip
PAYOUT_REQUESTED: Final = _event(
    "payout.requested", _MONEY, Outcome.PENDING, "A payout was asked for; its amount is reserved.",
    retention=_LONG,
)  # fmt: skip
PAYOUT_APPROVAL_GIVEN: Final = _event(
    "payout.approval_given", _MONEY, _SUCCESS, "Somebody agreed to a payout.", retention=_LONG
)
PAYOUT_APPROVED: Final = _event(
    "payout.approved", _MONEY, _SUCCESS, "A payout has every approval that it needs.", retention=_LONG
)
PAYOUT_APPROVAL_REFUSED: Final = _event(
    "payout.approval_refused", Category.SECURITY, _BLOCKED,
    "Somebody was not allowed to agree to a payout.", retention=_LONG,
)  # fmt: skip
PAYOUT_MOVED: Final = _event(
    "payout.moved", _MONEY, _SUCCESS,
    "A payout was held, let go on, rejected, cancelled, or went back for approval.", retention=_LONG,
)  # fmt: skip
PAYOUT_OUTCOME: Final = _event(
    "payout.outcome", _MONEY, _SUCCESS,
    "What became of a payout that was sent: paid, returned, or not known.", retention=_LONG,
)  # fmt: skip
PAYOUT_FILE_MADE: Final = _event(
    "payout_file.made", _MONEY, _SUCCESS, "Approved payouts were put into a bank file.", retention=_LONG
)
PAYOUT_FILE_TAKEN: Final = _event(
    "payout_file.taken", Category.DATA_EXPORT, _SUCCESS, "A bank file was handed over.", retention=_LONG
)
PAYOUT_FILE_DISCARDED: Final = _event(
    "payout_file.discarded", _MONEY, Outcome.CANCELLED,
    "A bank file was thrown away before it was handed over; its payouts are rejected.", retention=_LONG,
)  # fmt: skip
PAYOUT_ANSWER_READ: Final = _event(
    "payout_file.answered", _MONEY, _SUCCESS, "The bank's answer about payouts was read.", retention=_LONG
)
ORDER_MOVED: Final = _event(
    "order.moved", _MONEY, _SUCCESS, "An order went from one state to another.", retention=_LONG
)
ORDER_ITEM_MOVED: Final = _event(
    "order.item_moved", _MONEY, _SUCCESS, "A vendor said how far its line of an order is."
)
TRACKING_LINK_MADE: Final = _event(
    "order.tracking_link_made", _MONEY, _SUCCESS, "A link was made with which an order can be followed."
)
REFUND_POSTED: Final = _event(
    "refund.posted", _MONEY, _SUCCESS, "Money that goes back to a buyer was taken from whom it had gone to.",
    retention=_LONG,
)  # fmt: skip
REFUND_ASKED: Final = _event(
    "refund.asked", _MONEY, Outcome.PENDING, "A refund waits for a second person.", retention=_LONG
)
REFUND_PAID: Final = _event(
    "refund.paid", _MONEY, _SUCCESS, "A provider confirmed that a refund reached its buyer.", retention=_LONG
)
REFUND_FAILED: Final = _event(
    "refund.failed", _MONEY, _FAILURE, "A provider gave a refund up; its amount is due again.",
    retention=_LONG,
)  # fmt: skip
REFUND_CLAIM_GIVEN_UP: Final = _event(
    "refund.claim_given_up", _MONEY, _SUCCESS,
    "Two people decided that what was due to a buyer does not go back.", retention=_LONG,
)  # fmt: skip
COMMISSION_GIVEN_BACK: Final = _event(
    "commission.given_back", _MONEY, _SUCCESS,
    "A commission ended because all of its sale is back with the buyer.", retention=_LONG,
)  # fmt: skip
IDEMPOTENCY_MISMATCH: Final = _event(
    "idempotency.mismatch", Category.SECURITY, _BLOCKED, "An idempotency key came again with another body."
)
