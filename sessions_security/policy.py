"""What a session must obey: how long it lives, how many there may be, what must have been proved in it, and
what follows when it is used from elsewhere. Pure rules over the policy tables.

The tables are settings (`SESSION_POLICY`, `SESSION_CHANGE_POLICY`); this module reads no clock and imports no
framework. A role without a complete line has no policy, and no policy means no session.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, Literal

TOUCH_EVERY = timedelta(seconds=60)
"""How often "last seen" is written at most: an idle end may come this much early, never late."""

Answer = Literal["ignore", "note", "challenge", "end"]
Change = Literal["network_near", "network_far", "country", "agent"]

ANSWERS: Final[tuple[Answer, ...]] = ("ignore", "note", "challenge", "end")
"""What may follow a change, the mildest first."""
CHANGES: Final[tuple[Change, ...]] = ("network_near", "network_far", "country", "agent")
"""What may differ from how a session began. Near: the /24 (IPv6: /64). Far: the /16 (IPv6: /48)."""
CONFIRMED_NETWORKS: Final = 8
"""How many further networks a session may have been confirmed in; the oldest makes room."""

_NEAR, _FAR = {4: 24, 6: 64}, {4: 16, 6: 48}


class NoPolicy(LookupError):
    """The role is not in the policy table: such an account may not have a session."""


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """What one role's sessions must obey. `idle` is None for roles that do not idle out."""

    idle: timedelta | None
    absolute: timedelta
    max_sessions: int

    def ends(self, start: datetime) -> tuple[datetime | None, datetime]:
        """Return when a session begun (or seen) at `start` ends: by idling, and at the latest."""
        latest = start + self.absolute
        return (min(start + self.idle, latest) if self.idle else None), latest


def for_role(table: Mapping[str, Mapping[str, int | str | None]], role: str) -> SessionPolicy:
    """Return the policy of `role`; raise `NoPolicy` for a role without a usable line, never a default."""
    try:
        line = table[role]
        absolute, most = line["absolute_seconds"], line["max_sessions"]
        idle = line["idle_seconds"]
    except KeyError:
        raise NoPolicy(f"SESSION_POLICY has no complete line for role {role!r}") from None
    if (
        not isinstance(absolute, int)
        or not isinstance(most, int)
        or not (idle is None or isinstance(idle, int))
        or absolute <= 0
        or most <= 0
        or (idle is not None and idle <= 0)
    ):
        raise NoPolicy(f"SESSION_POLICY has an impossible line for role {role!r}")
    return SessionPolicy(
        idle=timedelta(seconds=idle) if idle is not None else None,
        absolute=timedelta(seconds=absolute),
        max_sessions=most,
    )


# --- What must have been proved ---------------------------------------------------------------------------

# Names of RFC 8176 where it has one. A passkey verified its user, so it is two factors by itself (NIST
# SP 800-63B, 5.1.9: a multi-factor cryptographic authenticator).
_PASSKEY = frozenset({"hwk", "swk"})
_MACHINE = frozenset({"key", "assertion"})
_EMERGENCY = "break_glass"
ASSURANCE: Final = ("password", "password+factor", "machine")


def is_assured(table: Mapping[str, Mapping[str, int | str | None]], role: str, amr: Collection[str]) -> bool:
    """Say whether the factors `amr` are what every session of `role` must have proved.

    `password`: a password or a passkey. `password+factor`: a password and a code, or a passkey, or the sealed
    code of emergencies. `machine`: a client's key or signed assertion. What is not known is not assured.
    """
    level, proved = table.get(role, {}).get("assurance"), frozenset(amr)
    if level == "machine":
        return bool(proved & _MACHINE)
    if proved & _PASSKEY or _EMERGENCY in proved:
        return level in {"password", "password+factor"}
    if level == "password+factor":
        return {"pwd", "otp"} <= proved
    return level == "password" and "pwd" in proved


# --- What follows when a session is used from elsewhere ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class Origin:
    """From where something comes: an address or network, a country ("" unknown), a program's own words."""

    address: str
    country: str
    agent: str


def near(address: str) -> str | None:
    """Return the near network of an address (or of a network), as text; None for what is neither."""
    return _network(address, far=False)


def far(address: str) -> str | None:
    """Return the far network of an address (or of a network), as text; None for what is neither."""
    return _network(address, far=True)


def is_elsewhere(began: Origin, confirmed: Iterable[str], address: str) -> bool:
    """Say whether `address` is neither near to where a session began nor in a network it was confirmed in.

    An address that cannot be read is elsewhere: nothing says that it is not.
    """
    here = near(address)
    return here is None or (here != near(began.address) and here not in confirmed)


def changes(began: Origin, confirmed: Iterable[str], now: Origin) -> frozenset[Change]:
    """Return what differs between how a session began and a request in it, in words of CHANGES.

    In a confirmed network neither network nor country differs. A country that is not known on either side
    decides nothing: the networks do.
    """
    found: set[Change] = set()
    if is_elsewhere(began, confirmed, now.address):
        found.add("network_near")
        there = far(now.address)
        if there is None or there != far(began.address):
            found.add("network_far")
        if began.country and now.country and began.country != now.country:
            found.add("country")
    if family(began.agent) != family(now.agent):
        found.add("agent")
    return frozenset(found)


def answer_to(table: Mapping[str, Mapping[str, str]], role: str, found: Collection[Change]) -> Answer:
    """Return what follows when these changes come together: the strictest of their answers.

    Raises `NoPolicy` for a role without a complete line of known words.
    """
    line = table.get(role, {})
    ranks = {change: _rank(line.get(change)) for change in CHANGES}
    if None in ranks.values():
        raise NoPolicy(f"SESSION_CHANGE_POLICY has no complete line for role {role!r}")
    return ANSWERS[max((ranks[change] or 0 for change in found), default=0)]


def _rank(word: str | None) -> int | None:
    return ANSWERS.index(word) if word in ANSWERS else None


@lru_cache(maxsize=8_192)
def _network(text: str, *, far: bool) -> str | None:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    first = network.network_address
    mapped = getattr(first, "ipv4_mapped", None)
    if mapped is not None:
        first = mapped
    length = (_FAR if far else _NEAR)[first.version]
    return str(ipaddress.ip_network((first, length), strict=False))


# --- Programs ---------------------------------------------------------------------------------------------

# The first that fits: the makers of some name others' browsers too, after their own.
_BROWSERS: Final = (
    ("Edge", re.compile(r"\bEdg(?:e|A|iOS)?/")),
    ("Opera", re.compile(r"\b(?:OPR|OPiOS|OPT|Opera)[/ ]")),
    ("Samsung", re.compile(r"\bSamsungBrowser/")),
    ("Vivaldi", re.compile(r"\bVivaldi/")),
    ("Yandex", re.compile(r"\bYaBrowser/")),
    ("UC", re.compile(r"\bUCBrowser/")),
    ("Headless Chrome", re.compile(r"\bHeadlessChrome/")),
    ("Firefox", re.compile(r"\b(?:Firefox|FxiOS)/")),
    ("Chrome", re.compile(r"\b(?:Chrome|CriOS|Chromium)/")),
    ("Safari", re.compile(r"\bSafari/")),
)
_SYSTEMS: Final = (
    ("Android", re.compile(r"\bAndroid\b")),
    ("iOS", re.compile(r"\b(?:iPhone|iPad|iPod|iOS)\b")),
    ("Windows", re.compile(r"\bWindows\b")),
    ("macOS", re.compile(r"\b(?:Macintosh|Mac OS X|macOS|Darwin)\b")),
    ("ChromeOS", re.compile(r"\bCrOS\b")),
    ("Linux", re.compile(r"\bLinux\b", re.IGNORECASE)),
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LONGEST_AGENT: Final = 256  # what a session keeps of it


def family(agent: str) -> tuple[str, str]:
    """Return which program and which system a user agent names, without versions; ("", "") for none.

    An update of a browser is no other browser. A program that is none is known by its first word.
    """
    # Cut before the cache: nobody fills it with long texts. Control characters are not kept with a session.
    return _family(agent[: 4 * _LONGEST_AGENT])


@lru_cache(maxsize=8_192)
def _family(agent: str) -> tuple[str, str]:
    text = _CONTROL.sub("", agent)[:_LONGEST_AGENT]
    system = next((name for name, sign in _SYSTEMS if sign.search(text)), "")
    browser = next((name for name, sign in _BROWSERS if sign.search(text)), "")
    if not browser:
        browser = re.split(r"[/\s(;]", text.strip(), maxsplit=1)[0].lower()
    return browser, system


# --- The table, for people --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One role's whole policy, as pages and documents show it. Seconds; None for no idle end."""

    role: str
    idle_seconds: int | None
    absolute_seconds: int
    max_sessions: int
    assurance: str
    changes: Mapping[Change, Answer]


def rows(
    table: Mapping[str, Mapping[str, int | str | None]], change_table: Mapping[str, Mapping[str, str]]
) -> list[Row]:
    """Return the policy of every role. Raises `NoPolicy` when a line is incomplete or impossible."""
    return [_row(table, change_table, role) for role in table]


def _row(
    table: Mapping[str, Mapping[str, int | str | None]],
    change_table: Mapping[str, Mapping[str, str]],
    role: str,
) -> Row:
    rule, assurance = for_role(table, role), table[role].get("assurance")
    if assurance not in ASSURANCE:
        raise NoPolicy(f"SESSION_POLICY names no known assurance for role {role!r}")
    return Row(
        role=role,
        idle_seconds=int(rule.idle.total_seconds()) if rule.idle is not None else None,
        absolute_seconds=int(rule.absolute.total_seconds()),
        max_sessions=rule.max_sessions,
        assurance=str(assurance),
        changes={change: answer_to(change_table, role, [change]) for change in CHANGES},
    )
