"""Values as cells: short to read, exact in the title, never by colour alone."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language
from django.utils.translation import gettext as _

BOGOTA = ZoneInfo("America/Bogota")
EMPTY = "—"
LONGEST_PLAIN_ID = 20
_COLOMBIAN = str.maketrans(",.", ".,")


class State(StrEnum):
    """How a thing is; each has its own shape so that colour is never needed to tell them apart."""

    GOOD = "good"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"
    PLAIN = "plain"


_SHAPES = {
    State.GOOD: '<circle cx="7" cy="7" r="5"/>',
    State.WARNING: '<path d="M7 1 13.5 13H.5z"/>',
    State.CRITICAL: '<path d="M7 0 14 7 7 14 0 7z"/>',
    State.UNKNOWN: '<circle cx="7" cy="7" r="4.5" fill="none" stroke="currentColor" stroke-width="2"/>',
}


def mark(state: State) -> SafeString:
    """The shape of a state, hidden from screen readers: a word always stands beside it."""
    shape = _SHAPES.get(state)
    if shape is None:
        return SafeString("")
    return mark_safe(  # noqa: S308  # built from the constants above only
        f'<svg class="mark mark-{state.value}" viewBox="0 0 14 14" width="12" height="12" '
        f'aria-hidden="true" focusable="false" fill="currentColor">{shape}</svg>'
    )


def state(kind: State, word: Any) -> SafeString:
    """A state as shape + word + colour."""
    return format_html('<span class="state state-{}">{}<span>{}</span></span>', kind.value, mark(kind), word)


def chip(kind: State, word: Any) -> SafeString:
    """A severity."""
    return format_html('<span class="chip chip-{}">{}</span>', kind.value, word)


def moment(value: dt.datetime | None, *, full: bool = False) -> SafeString:
    """A time in Bogotá, short unless `full`, with the whole UTC and Bogotá time in the title."""
    if value is None:
        return SafeString(EMPTY)
    local = value.astimezone(BOGOTA)
    today = timezone.now().astimezone(BOGOTA).date()
    if full:
        short = local.strftime("%Y-%m-%d %H:%M:%S")
    elif local.date() == today:
        short = local.strftime("%H:%M")
    elif local.year == today.year:
        short = f"{formats.date_format(local, 'j M')} {local:%H:%M}"
    else:
        short = local.strftime("%Y-%m-%d %H:%M")
    utc = value.astimezone(dt.UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC · {} Bogotá">{}</time>',
        utc.isoformat(),
        utc.strftime("%Y-%m-%d %H:%M:%S"),
        local.strftime("%Y-%m-%d %H:%M:%S"),
        short,
    )


def age(since: dt.datetime, now: dt.datetime | None = None) -> str:
    """How long ago, in one unit: "40 s", "3 min", "5 h", "12 d"."""
    seconds = max(0, int(((now or timezone.now()) - since).total_seconds()))
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // size} {unit}"
    return f"{seconds // 86400} d"


def clock(value: dt.datetime) -> str:
    """The time of day in Bogotá, as in "session ends 17:42"."""
    return value.astimezone(BOGOTA).strftime("%H:%M")


def two_lines(first: Any, second: Any) -> SafeString:
    """A thing and its one line of context."""
    if not second:
        return format_html("<span>{}</span>", first)
    return format_html('<span>{}</span><span class="second">{}</span>', first, second)


def number(value: int) -> str:
    """A whole number with grouped thousands."""
    return grouped(str(value))


def grouped(text: str) -> str:
    """A decimal number as people write it: "1,234.50" in English, "1.234,50" in Colombia."""
    whole, _point, decimals = text.partition(".")
    english = f"{int(whole):,}" + (f".{decimals}" if decimals else "")
    is_english = (get_language() or "").startswith("en")
    return english if is_english else english.translate(_COLOMBIAN)


def numeric(text: Any) -> SafeString:
    """A number in a column of numbers."""
    return format_html('<span class="num">{}</span>', text)


def code(text: Any) -> SafeString:
    """An identifier or other text for machines."""
    return format_html("<code>{}</code>", text) if text not in (None, "") else SafeString(EMPTY)


def short_id(text: Any) -> SafeString:
    """A long identifier in a list: its beginning and end, the whole of it in the title."""
    whole = str(text)
    if len(whole) <= LONGEST_PLAIN_ID:
        return format_html("<span>{}</span>", whole)
    return format_html('<span title="{}">{}…{}</span>', whole, whole[:8], whole[-6:])


def block(text: str) -> SafeString:
    """Several lines of text for machines, in a box that scrolls by itself."""
    return format_html('<pre tabindex="0">{}</pre>', text)


def link(url: str, text: Any) -> SafeString:
    return format_html('<a href="{}">{}</a>', url, text)


def yes_no(value: bool | None) -> str:
    return EMPTY if value is None else (_("yes") if value else _("no"))


def agent(text: str | None) -> str:
    """The browser and system of a user agent, short: "Chrome on Linux"."""
    if not text:
        return EMPTY
    browsers = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"))
    systems = (
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    )
    browser = next((name for sign, name in browsers if sign in text), "")
    if not browser and "Safari/" in text:
        browser = "Safari"
    system = next((name for sign, name in systems if sign in text), "")
    if not browser:
        return text[:40]
    return _("%(browser)s on %(system)s") % {"browser": browser, "system": system} if system else browser


def amount(text: str, currency: str) -> SafeString:
    """An amount of money, `text` with the currency's own decimals: "1,234.50 COP"."""
    sign, digits = ("−", text[1:]) if text.startswith("-") else ("", text)
    return format_html('<span class="num">{}{} <abbr>{}</abbr></span>', sign, grouped(digits), currency)
