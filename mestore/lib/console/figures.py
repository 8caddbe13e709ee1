"""The figures of the dashboard: no number without its source and age, unknown is never 0."""

from __future__ import annotations

import datetime as dt
import functools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils import timezone
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from mestore.lib.console import display
from mestore.lib.console.display import State

Text = str | Promise
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One question and its answer, with where the answer comes from and when it was true.

    `value` is a short figure, `chart` a drawing with its table; a panel without either is unknown
    and says since when. Raises ValueError for a figure without source or moment.
    """

    title: Text
    source: Text
    as_of: dt.datetime | None = None
    value: Text | None = None
    detail: Text = ""
    state: State = State.PLAIN
    link: str = ""
    chart: SafeString | None = None
    order: int = 100
    since: dt.datetime | None = None

    def __post_init__(self) -> None:
        if self.is_known and not (self.source and self.as_of):
            raise ValueError("no number without source and age")

    @property
    def is_known(self) -> bool:
        return self.value is not None or self.chart is not None

    @property
    def is_wide(self) -> bool:
        return self.chart is not None

    @property
    def mark(self) -> SafeString:
        return display.mark(self.state)

    @property
    def state_word(self) -> str:
        """The state in a word, for those who do not see the shape."""
        return {
            State.GOOD: _("good"),
            State.WARNING: _("warning"),
            State.CRITICAL: _("critical"),
            State.UNKNOWN: _("unknown"),
        }.get(self.state, "")

    @property
    def absence(self) -> str:
        """What is shown when there is no figure."""
        if self.since is None:
            return _("no data")
        return _("no data since %(time)s") % {"time": display.clock(self.since)}

    @property
    def age(self) -> str:
        """ "now", or how long ago the figure was true."""
        if self.as_of is None:
            return ""
        if (timezone.now() - self.as_of).total_seconds() < 5:
            return _("now")
        return _("%(age)s ago") % {"age": display.age(self.as_of)}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows that belong to a thing, shown under it (the items of an order, the legs of an entry).

    `newest` and `older` are the addresses of its other pages, where it has more than one.
    """

    title: Text
    headers: Sequence[Text]
    rows: Sequence[Sequence[Any]]
    empty: Text = ""
    note: Text = ""
    numeric: frozenset[int] = field(default_factory=frozenset)
    newest: str = ""
    older: str = ""


Made = Panel | Sequence[Panel]
Builder = Callable[[Any], Made]
Guarded = Callable[[Any], list[Panel]]

# Per process: what was computed lately, and when each panel last had data. Nothing here is about a person.
_kept: dict[tuple[str, str], tuple[float, list[Panel]]] = {}
_last_seen: dict[str, dt.datetime] = {}


def panel(
    title: Text, *, source: Text, permission: str = "", order: int = 100, keep_seconds: int = 0
) -> Callable[[Builder], Guarded]:
    """Make a function into a panel, or several from one reading, that cannot break the page.

    Whoever lacks `permission` does not get the panel at all. `keep_seconds` shows what was computed so
    long ago at most, with its age. A panel that fails is logged and says since when there is no data: the
    dashboard is the edge of the system, and the person looking at it needs the other figures most when
    something is broken.
    """

    def decorate(build: Builder) -> Guarded:
        name = f"{build.__module__}.{build.__qualname__}"

        @functools.wraps(build)
        def guarded(request: Any) -> list[Panel]:
            if permission and not request.user.has_perm(permission):
                return []
            try:
                made = _kept_or_built(name, build, request, keep_seconds)
            except Exception:
                logger.exception("console_panel_failed", extra={"panel": name})
                since = _last_seen.get(name)
                return [Panel(title=title, source=source, state=State.UNKNOWN, order=order, since=since)]
            if all(one.is_known for one in made):
                _last_seen[name] = timezone.now()
            return made

        return guarded

    return decorate


def collect(request: Any, builders: Iterable[Guarded]) -> list[Panel]:
    """The panels of one app that this person may see."""
    return [made for build in builders for made in build(request)]


def forget() -> None:
    """Compute every panel anew."""
    _kept.clear()
    _last_seen.clear()


def _kept_or_built(name: str, build: Builder, request: Any, keep_seconds: int) -> list[Panel]:
    if not keep_seconds:
        return _listed(build(request))
    key = (name, get_language() or "")
    until, known = _kept.get(key, (0.0, []))
    if time.monotonic() < until:
        return known
    made = _listed(build(request))
    _kept[key] = (time.monotonic() + keep_seconds, made)
    return made


def _listed(made: Made) -> list[Panel]:
    return [made] if isinstance(made, Panel) else list(made)
