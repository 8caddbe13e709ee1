"""Events in the words of the Open Cybersecurity Schema Framework (OCSF 1.3), for a SIEM that speaks it.

Sign-ins and sessions are class 3002, changes of accounts 3001, rights 3005, everything else an activity on
the API, 6003. What the classes have no place for stays in `unmapped`, so nothing is lost on the way.
`docs/audit.md` shows the table.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from monitoring import events
from monitoring.events import Category, Outcome

VERSION: Final = "1.3.0"
OTHER: Final = 99


class Class(IntEnum):
    """The classes that are used; the first digit is the category's."""

    ACCOUNT_CHANGE = 3001
    AUTHENTICATION = 3002
    USER_ACCESS = 3005
    API_ACTIVITY = 6003


@dataclass(frozen=True, slots=True)
class Kind:
    """What an event is in OCSF."""

    class_uid: Class
    activity_id: int

    @property
    def type_uid(self) -> int:
        return self.class_uid * 100 + self.activity_id


_NAMES: Final = {
    Class.ACCOUNT_CHANGE: "Account Change",
    Class.AUTHENTICATION: "Authentication",
    Class.USER_ACCESS: "User Access Management",
    Class.API_ACTIVITY: "API Activity",
}
_CATEGORIES: Final = {3: "Identity & Access Management", 6: "Application Activity"}
_CHANGE, _SIGN_IN = Class.ACCOUNT_CHANGE, Class.AUTHENTICATION
_ACCESS, _API = Class.USER_ACCESS, Class.API_ACTIVITY
# The activities that the schema names; whatever is not here is the class's "Other".
_EXACT: Final = {
    "auth.sign_in.succeeded": Kind(_SIGN_IN, 1), "auth.sign_in.failed": Kind(_SIGN_IN, 1),
    "auth.sign_in.refused": Kind(_SIGN_IN, 1), "auth.sign_in.risk_refused": Kind(_SIGN_IN, 1),
    "auth.sign_in.factor_required": Kind(_SIGN_IN, 1), "session.started": Kind(_SIGN_IN, 1),
    "auth.signed_out": Kind(_SIGN_IN, 2), "session.ended": Kind(_SIGN_IN, 2),
    "session.evicted": Kind(_SIGN_IN, 2), "session.everyone_ended": Kind(_SIGN_IN, 2),
    "user.created": Kind(_CHANGE, 1), "user.administrator_created": Kind(_CHANGE, 1),
    "user.registered": Kind(_CHANGE, 1), "vendor.imported": Kind(_CHANGE, 1),
    "user.reactivated": Kind(_CHANGE, 2), "user.restored": Kind(_CHANGE, 2),
    "auth.password.changed": Kind(_CHANGE, 3), "auth.password.change_refused": Kind(_CHANGE, 3),
    "auth.password.reset_requested": Kind(_CHANGE, 4), "auth.password.reset_started": Kind(_CHANGE, 4),
    "auth.password.reset_done": Kind(_CHANGE, 4), "auth.password.reset_refused": Kind(_CHANGE, 4),
    "user.deactivated": Kind(_CHANGE, 5), "client.revoked": Kind(_CHANGE, 5),
    "user.deleted": Kind(_CHANGE, 6), "user.erased": Kind(_CHANGE, 6),
    "auth.locked": Kind(_CHANGE, 9), "user.locked": Kind(_CHANGE, 9),
    "auth.factor.enrolled": Kind(_CHANGE, 10), "auth.factor.confirmed": Kind(_CHANGE, 10),
    "auth.factor.removed": Kind(_CHANGE, 11), "auth.factor_reset.done": Kind(_CHANGE, 11),
    "client.created": Kind(_CHANGE, 1),
    "grant.given": Kind(_ACCESS, 1), "grant.revoked": Kind(_ACCESS, 2), "user.role_changed": Kind(_ACCESS, 1),
}  # fmt: skip
# By the beginning of the code, the longest first.
_FAMILIES: Final = (
    ("auth.password.", _CHANGE), ("auth.factor", _CHANGE), ("auth.passkey.", _CHANGE),
    ("auth.backup_codes.", _CHANGE), ("auth.recovery.", _CHANGE), ("account.", _CHANGE), ("user.", _CHANGE),
    ("vendor.", _CHANGE), ("client.", _CHANGE), ("auth.", _SIGN_IN), ("session.", _SIGN_IN),
    ("impersonation.", _SIGN_IN), ("break_glass.", _SIGN_IN),
)  # fmt: skip
_CRUD: Final = {
    "created": 1, "recorded": 1, "posted": 1, "insert": 1, "queued": 1, "calculated": 1,
    "read": 2, "sensitive_viewed": 2, "details_read": 2, "exported": 2, "made": 2,
    "updated": 3, "changed": 3, "update": 3, "approved": 3, "rotated": 3, "assigned": 3,
    "deleted": 4, "delete": 4, "erased": 4, "removed": 4, "truncate": 4, "retired": 4,
}  # fmt: skip
_ACTIVITIES: Final = {
    _SIGN_IN: {1: "Logon", 2: "Logoff"},
    _CHANGE: {
        1: "Create", 2: "Enable", 3: "Password Change", 4: "Password Reset", 5: "Disable", 6: "Delete",
        9: "Lock", 10: "MFA Factor Enable", 11: "MFA Factor Disable",
    },
    _ACCESS: {1: "Assign Privileges", 2: "Revoke Privileges"},
    _API: {1: "Create", 2: "Read", 3: "Update", 4: "Delete"},
}  # fmt: skip
_STATUSES: Final = {
    Outcome.SUCCESS: (1, "Success"), Outcome.FAILURE: (2, "Failure"), Outcome.BLOCKED: (2, "Failure"),
    Outcome.TIMEOUT: (2, "Failure"), Outcome.PARTIAL: (OTHER, "Partial"),
    Outcome.PENDING: (OTHER, "Pending"), Outcome.CANCELLED: (OTHER, "Cancelled"),
}  # fmt: skip
_SEVERITIES: Final = {1: "Informational", 2: "Low", 3: "Medium", 4: "High"}
_USER_TYPES: Final = {"user": (1, "User"), "system": (3, "System"), "machine": (OTHER, "Machine")}
_ADMINISTRATORS: Final = frozenset({"ADMIN", "SUPERUSER"})


def kind_of(code: str) -> Kind:
    """Return class and activity of an event's code; of one that no catalogue knows too."""
    if code in _EXACT:
        return _EXACT[code]
    for beginning, class_uid in _FAMILIES:
        if code.startswith(beginning):
            return Kind(class_uid, OTHER)
    return Kind(_API, _CRUD.get(code.rpartition(".")[2], OTHER))


def severity_of(code: str, outcome: str) -> int:
    """Return OCSF's severity: an emergency is 4, a refusal for security's sake 3, a failure 2, else 1."""
    category = _category(code)
    if category is Category.EMERGENCY or code == "capture.truncate":
        return 4
    if outcome == Outcome.BLOCKED and category is Category.SECURITY:
        return 3
    return 2 if outcome in {Outcome.FAILURE, Outcome.BLOCKED, Outcome.TIMEOUT} else 1


def event(
    document: Mapping[str, Any],
    *,
    sequence: int,
    log: str,
    leaf_hash: str,
    personal: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return one event as OCSF has it. `document` is its canonical JSON, `sequence` its place in the log."""
    code, outcome = str(document.get("event", "")), str(document.get("outcome", ""))
    kind, severity = kind_of(code), severity_of(code, outcome)
    status_id, status = _STATUSES.get(outcome, (0, "Unknown"))  # type: ignore[call-overload]  # a StrEnum's text
    found: dict[str, Any] = {
        "activity_id": kind.activity_id,
        "activity_name": _ACTIVITIES[kind.class_uid].get(kind.activity_id, code),
        "category_uid": kind.class_uid // 1000,
        "category_name": _CATEGORIES[kind.class_uid // 1000],
        "class_uid": int(kind.class_uid),
        "class_name": _NAMES[kind.class_uid],
        "type_uid": kind.type_uid,
        "severity_id": severity,
        "severity": _SEVERITIES[severity],
        "status_id": status_id,
        "status": status,
        "status_code": outcome,
        "message": code,
        "time": milliseconds(str(document.get("at", ""))),
        "metadata": _metadata(document, code, sequence, log),
        "actor": _actor(document),
        "src_endpoint": _endpoint(personal),
        "unmapped": _unmapped(document, leaf_hash, personal),
    }
    found.update(_own(kind, code, document))
    return found


def milliseconds(at: str) -> int:
    """Return an RFC 3339 moment as milliseconds since 1970; 0 for what is none."""
    try:
        moment = dt.datetime.fromisoformat(at)
        since = moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    except (ValueError, TypeError):
        return 0
    return since // dt.timedelta(milliseconds=1)


def _metadata(document: Mapping[str, Any], code: str, sequence: int, log: str) -> dict[str, Any]:
    return {
        "version": VERSION,
        "product": {"name": "MeStore", "vendor_name": "MeStore"},
        "uid": str(document.get("id", "")),
        "event_code": code,
        "sequence": sequence,
        "log_name": log,
        "original_time": str(document.get("at", "")),
        "correlation_uid": str(document.get("request") or ""),
    }


def _actor(document: Mapping[str, Any]) -> dict[str, Any]:
    actor = document.get("actor")
    given: Mapping[str, Any] = actor if isinstance(actor, Mapping) else {}
    kind, role = str(given.get("kind", "")), str(given.get("role", ""))
    type_id, type_name = (2, "Admin") if role in _ADMINISTRATORS else _USER_TYPES.get(kind, (0, "Unknown"))
    user: dict[str, Any] = {"uid": str(given.get("id") or kind), "type_id": type_id, "type": type_name}
    if role:
        user["groups"] = [{"name": role}]
    found: dict[str, Any] = {"user": user}
    if given.get("name"):
        found["app_name"] = str(given["name"])
    if document.get("session"):
        found["session"] = {"uid": str(document["session"])}
    if given.get("impersonator"):
        found["invoked_by"] = str(given["impersonator"])
    return found


def _endpoint(personal: Mapping[str, Any] | None) -> dict[str, str]:
    """Where it came from. The address is a personal value: without leave to read those, only that it is."""
    address = (personal or {}).get("address")
    return {"ip": str(address)} if address else {"name": "masked"}


def _own(kind: Kind, code: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """What the class itself demands."""
    target = document.get("target")
    given: Mapping[str, Any] = target if isinstance(target, Mapping) else {}
    which = {"uid": str(given.get("id") or ""), "type": str(given.get("type") or "")}
    if kind.class_uid is Class.API_ACTIVITY:
        return {"api": {"operation": code}, "resources": [which] if given else []}
    # Without a target it was done to oneself.
    about = which["uid"] or _actor(document)["user"]["uid"]
    found: dict[str, Any] = {"user": {"uid": about}}
    if kind.class_uid is Class.USER_ACCESS:
        data = document.get("data")
        named: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
        found["privileges"] = [str(named.get("permission") or named.get("role") or code)]
    return found


def _unmapped(
    document: Mapping[str, Any], leaf_hash: str, personal: Mapping[str, Any] | None
) -> dict[str, Any]:
    placed = {"v", "id", "at", "event", "outcome", "actor", "session", "request"}
    rest = {name: value for name, value in document.items() if name not in placed}
    rest |= {"leaf_hash": leaf_hash, "category": str(_category(str(document.get("event", ""))) or "")}
    return rest if personal is None else rest | {"personal": dict(personal)}


def _category(code: str) -> Category | None:
    try:
        return events.get(code).category
    except events.UnknownEvent:
        return None
