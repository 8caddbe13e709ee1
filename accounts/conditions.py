"""When and where a permission counts: pure rules, no database, no clock.

Conditions are a small JSON object on a permission or a grant:

    {"allowed_hours": {"from": "08:00", "to": "18:00", "days": [1, 2, 3, 4, 5]},
     "allowed_ips": ["10.0.0.0/8"],
     "allowed_departments": ["finance"]}

Hours are those of Bogotá, days are ISO weekdays; a window whose end is before its start goes over midnight
and belongs to the day on which it began. What cannot be read, and what cannot be judged because the
circumstance is unknown, does not hold.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

BOGOTA = ZoneInfo("America/Bogota")
MOST_ENTRIES = 50
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_KEYS = frozenset({"allowed_hours", "allowed_ips", "allowed_departments"})
_HOUR_KEYS = frozenset({"from", "to", "days"})


class BadCondition(ValueError):
    """The conditions have no meaning; the text names the part."""


@dataclass(frozen=True, slots=True)
class Access:
    """The circumstances under which permissions are asked for.

    `second_factor` is None where nobody said: the session that says it was judged before. `limit` keeps an
    impersonated session within what the person behind it holds.
    """

    address: str | None = None
    second_factor: bool | None = None
    limit: frozenset[str] | None = None


def check(given: Any) -> dict[str, Any]:
    """Return `given` as it is kept. Raises BadCondition for anything that has no meaning."""
    if not isinstance(given, Mapping) or not _KEYS.issuperset(given):
        raise BadCondition("conditions")
    kept: dict[str, Any] = {}
    if "allowed_hours" in given:
        kept["allowed_hours"] = _hours(given["allowed_hours"])
    if "allowed_ips" in given:
        kept["allowed_ips"] = [str(network) for network in _networks(given["allowed_ips"])]
    if "allowed_departments" in given:
        kept["allowed_departments"] = _texts(given["allowed_departments"], "allowed_departments")
    return kept


def obstacle(conditions: Any, *, now: dt.datetime, address: str | None, department: str) -> str:
    """Return in one word which condition does not hold; an empty text when all do."""
    if conditions is None:
        return ""
    try:
        known = check(conditions)
    except BadCondition:
        return "conditions"
    if "allowed_hours" in known and not _within(known["allowed_hours"], now):
        return "hours"
    if "allowed_ips" in known and not _inside(known["allowed_ips"], address):
        return "network"
    if "allowed_departments" in known and department not in known["allowed_departments"]:
        return "department"
    return ""


def _hours(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping) or not _HOUR_KEYS.issuperset(given):
        raise BadCondition("allowed_hours")
    start, end = given.get("from"), given.get("to")
    for moment in (start, end):
        if not isinstance(moment, str) or not _CLOCK.fullmatch(moment):
            raise BadCondition("allowed_hours")
    days = given.get("days", [1, 2, 3, 4, 5, 6, 7])
    if not isinstance(days, list) or not days or start == end:
        raise BadCondition("allowed_hours")
    if any(type(day) is not int or not 1 <= day <= 7 for day in days):
        raise BadCondition("allowed_hours")
    return {"from": start, "to": end, "days": sorted(set(days))}


def _networks(given: Any) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    try:
        return [ipaddress.ip_network(text, strict=False) for text in _texts(given, "allowed_ips")]
    except ValueError as error:
        raise BadCondition("allowed_ips") from error


def _texts(given: Any, part: str) -> list[str]:
    if not isinstance(given, list) or not 0 < len(given) <= MOST_ENTRIES:
        raise BadCondition(part)
    if any(not isinstance(text, str) or not 0 < len(text) <= 64 or "\x00" in text for text in given):
        raise BadCondition(part)
    return list(given)


def _within(hours: Mapping[str, Any], now: dt.datetime) -> bool:
    here = now.astimezone(BOGOTA)
    clock, day = here.strftime("%H:%M"), here.isoweekday()
    if hours["from"] < hours["to"]:
        return day in hours["days"] and hours["from"] <= clock < hours["to"]
    if clock >= hours["from"]:
        return day in hours["days"]
    yesterday = 7 if day == 1 else day - 1
    return yesterday in hours["days"] and clock < hours["to"]


def _inside(networks: list[str], address: str | None) -> bool:
    try:
        asked = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    if isinstance(asked, ipaddress.IPv6Address) and asked.ipv4_mapped is not None:
        asked = asked.ipv4_mapped
    return any(asked in ipaddress.ip_network(network) for network in networks)
