"""What every page of the operations console is made of.

`ConsoleModelAdmin` is the only base a console page may have: it reads and never writes, pages by
keyset, and opens no lookup, order or search that was not declared. What changes something is a
`ReasonAction`. `Panel` is one figure of the dashboard, `display` turns values into cells.
"""

from __future__ import annotations

from mestore.lib.console.actions import ReasonAction
from mestore.lib.console.admin import ConsoleModelAdmin
from mestore.lib.console.display import State
from mestore.lib.console.figures import Panel, Table, collect, panel
from mestore.lib.console.filters import WindowFilter, choice_filter
from mestore.lib.console.paging import KeysetChangeList, Ordering
from mestore.lib.console.places import Place
from mestore.lib.console.search import SearchField
from mestore.lib.console.secrecy import is_secret

__all__ = [
    "ConsoleModelAdmin",
    "KeysetChangeList",
    "Ordering",
    "Panel",
    "Place",
    "ReasonAction",
    "SearchField",
    "State",
    "Table",
    "WindowFilter",
    "choice_filter",
    "collect",
    "is_secret",
    "panel",
]
