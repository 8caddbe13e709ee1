"""Charts as SVG written by the server, each with its figures as a table.

Only presentation attributes and classes: a strict Content-Security-Policy forbids styles inside a
page, and classes let one stylesheet colour both themes. Heights are pixels and widths percentages,
so that the words stay legible on a narrow screen instead of shrinking with the drawing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

Text = str | Promise
HEIGHT, TOP, BOTTOM = 190, 14, 24
GRID_LINES = 4
LABELS_WIDE = 8


@dataclass(frozen=True, slots=True)
class Series:
    """One colour of a chart: its name and one value per category."""

    name: Text
    values: Sequence[int]


def stacked_bars(
    *,
    title: Text,
    subtitle: Text,
    categories: Sequence[str],
    series: Sequence[Series],
    category_name: Text,
    tick: Callable[[int], str] = str,
    exact: Callable[[int], str] | None = None,
    note: Text = "",
) -> SafeString:
    """Bars from a zero baseline, the first series at the bottom.

    `tick` writes the few numbers of the axis, `exact` those of the table and of the bars' titles.
    Raises ValueError when a series has not exactly one value per category, or a negative one.
    """
    _require_whole(categories, series)
    exact = exact or tick
    totals = [sum(one.values[i] for one in series) for i in range(len(categories))]
    ticks = axis(max(totals, default=0))
    return format_html(
        '<figure class="chart"><figcaption><h2>{}</h2><p>{}</p></figcaption>'
        '<div class="chart-body">{}{}</div>{}{}{}</figure>',
        title,
        subtitle,
        _axis_svg(ticks, tick),
        _plot_svg(title, categories, series, ticks, exact),
        _legend(series),
        format_html('<p class="second">{}</p>', note) if note else "",
        _table(categories, series, totals, category_name, exact),
    )


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart: its name and one value per category, None where nobody measured."""

    name: Text
    values: Sequence[int | None]


def lines(
    *,
    title: Text,
    subtitle: Text,
    categories: Sequence[str],
    series: Sequence[Line],
    category_name: Text,
    exact: Callable[[int], str] = str,
    note: Text = "",
) -> SafeString:
    """Lines from a zero baseline; what was not measured is a gap in the line and "no data" in the table.

    Raises ValueError when a series has not exactly one value per category, or a negative one.
    """
    _require_whole(categories, series)
    known = [value for one in series for value in one.values if value is not None]
    ticks = axis(max(known, default=0))
    plotted = _join([_line(index, one, ticks[-1], exact) for index, one in enumerate(series, start=1)])
    return format_html(
        '<figure class="chart"><figcaption><h2>{}</h2><p>{}</p></figcaption>'
        '<div class="chart-body">{}{}</div>{}{}{}</figure>',
        title,
        subtitle,
        _axis_svg(ticks, exact),
        _drawing(title, categories, ticks, plotted),
        _legend(series),
        format_html('<p class="second">{}</p>', note) if note else "",
        _table(categories, series, _totals(categories, series), category_name, exact),
    )


@dataclass(frozen=True, slots=True)
class Rank:
    """One row of a ranking: its name (or a link) and how many."""

    name: Text
    value: int


def ranked(
    *,
    title: Text,
    subtitle: Text,
    rows: Sequence[Rank],
    name_header: Text,
    value_header: Text,
    exact: Callable[[int], str] = str,
    note: Text = "",
) -> SafeString:
    """Rows with a bar each, in the order given: the drawing is a table already.

    Raises ValueError for a negative value.
    """
    if any(row.value < 0 for row in rows):
        raise ValueError("charts begin at zero: no negative values")
    top = max((row.value for row in rows), default=0) or 1
    body = format_html_join(
        "",
        '<tr><th scope="row">{}</th><td class="rank-bar"><svg width="100%" height="10" aria-hidden="true" '
        'focusable="false"><rect class="chart-1" width="{}%" height="10" rx="1.5"/></svg></td>'
        '<td class="num">{}</td></tr>',
        ((row.name, round(100 * row.value / top, 2), exact(row.value)) for row in rows),
    )
    return format_html(
        '<figure class="chart"><figcaption><h2>{}</h2><p>{}</p></figcaption>'
        '<table class="ranks"><thead><tr><th scope="col" colspan="2">{}</th>'
        '<th scope="col" class="num">{}</th>'
        "</tr></thead><tbody>{}</tbody></table>{}</figure>",
        title,
        subtitle,
        name_header,
        value_header,
        body,
        format_html('<p class="second">{}</p>', note) if note else "",
    )


def axis(highest: int) -> list[int]:
    """The numbers of the axis: 0 and at most three round steps, the last not below `highest`.

    >>> axis(80)
    [0, 50, 100]
    """
    if highest <= 0:
        return [0, 1]
    most = GRID_LINES - 1
    power = 10 ** max(0, int(math.log10(highest)) - 1)
    while True:
        for factor in (1, 2, 5):
            step = factor * power
            steps = -(-highest // step)
            if steps <= most:
                return [step * i for i in range(steps + 1)]
        power *= 10


def _require_whole(categories: Sequence[str], series: Sequence[Series | Line]) -> None:
    for one in series:
        if len(one.values) != len(categories):
            raise ValueError("a series needs one value per category")
        if any(value is not None and value < 0 for value in one.values):
            raise ValueError("charts begin at zero: no negative values")


def _totals(categories: Sequence[str], series: Sequence[Line]) -> list[int | None]:
    """What all lines have together, where each of them has a value."""
    columns: list[list[int | None]] = [[one.values[i] for one in series] for i in range(len(categories))]
    return [None if None in column else sum(value or 0 for value in column) for column in columns]


def _line(index: int, one: Line, top: int, exact: Callable[[int], str]) -> SafeString:
    """A segment from each measured value to the next; a value between two gaps is a dot."""
    count = len(one.values)
    slot = 100 / max(1, count)
    places = [
        None if value is None else (round(slot * (i + 0.5), 3), _y(value, top))
        for i, value in enumerate(one.values)
    ]
    parts: list[SafeString] = []
    for i, here in enumerate(places):
        if here is None:
            continue
        before, after = (places[i - 1] if i else None), (places[i + 1] if i + 1 < count else None)
        if after is not None:
            parts.append(
                format_html(
                    '<line class="chart-line chart-line-{}" x1="{}%" y1="{}" x2="{}%" y2="{}"/>',
                    index, *here, *after,
                )
            )  # fmt: skip
        elif before is None:
            parts.append(format_html('<circle class="chart-{}" cx="{}%" cy="{}" r="2.5"/>', index, *here))
    last = next((value for value in reversed(one.values) if value is not None), None)
    words = one.name if last is None else f"{one.name}: {exact(last)}"
    return format_html("<g><title>{}</title>{}</g>", words, _join(parts))


def _y(value: int, top: int) -> float:
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top, 2)


def _axis_svg(ticks: Sequence[int], tick: Callable[[int], str]) -> SafeString:
    """The numbers at the left, in their own drawing, because they keep their width."""
    words = [tick(value) for value in ticks]
    width = 8 + max(sum(11 if letter in "%MW" else 7 for letter in word) for word in words)
    texts = format_html_join(
        "",
        '<text class="chart-word" x="{}" y="{}" text-anchor="end">{}</text>',
        ((width - 8, _y(value, ticks[-1]) + 4, word) for value, word in zip(ticks, words, strict=True)),
    )
    return format_html(
        '<svg class="chart-axis" width="{}" height="{}" aria-hidden="true" focusable="false">{}</svg>',
        width,
        HEIGHT,
        texts,
    )


def _plot_svg(
    title: Text,
    categories: Sequence[str],
    series: Sequence[Series],
    ticks: Sequence[int],
    exact: Callable[[int], str],
) -> SafeString:
    return _drawing(title, categories, ticks, _bars(categories, series, ticks[-1], exact))


def _drawing(title: Text, categories: Sequence[str], ticks: Sequence[int], plotted: SafeString) -> SafeString:
    grid = format_html_join(
        "",
        '<line class="chart-grid" x1="0" x2="100%" y1="{0}" y2="{0}"/>',
        ((_y(value, ticks[-1]),) for value in ticks),
    )
    return format_html(
        '<svg class="chart-plot" width="100%" height="{}" role="img" aria-label="{}">{}{}{}</svg>',
        HEIGHT,
        _("%(title)s: the same figures are in the table below.") % {"title": title},
        grid,
        plotted,
        _category_words(categories),
    )


def _bars(
    categories: Sequence[str], series: Sequence[Series], top: int, exact: Callable[[int], str]
) -> SafeString:
    slot = 100 / max(1, len(categories))
    parts: list[SafeString] = []
    for i, category in enumerate(categories):
        base = 0
        rects: list[SafeString] = []
        for index, one in enumerate(series, start=1):
            value = one.values[i]
            if value:
                rects.append(_rect(index, slot, i, base, value, top))
            base += value
        words = ", ".join(f"{exact(one.values[i])} {one.name}" for one in series)
        parts.append(format_html("<g><title>{}: {}</title>{}</g>", category, words, _join(rects)))
    return _join(parts)


def _rect(index: int, slot: float, i: int, base: int, value: int, top: int) -> SafeString:
    upper, lower = _y(base + value, top), _y(base, top)
    gap = 1 if base else 0  # a line of ground between two colours, so that they part without colour
    return format_html(
        '<rect class="chart-{}" x="{}%" y="{}" width="{}%" height="{}" rx="1.5"/>',
        index,
        round(slot * (i + 0.07), 3),
        upper,
        round(slot * 0.86, 3),
        max(1.0, round(lower - upper - gap, 2)),
    )


def _category_words(categories: Sequence[str]) -> SafeString:
    """At most eight words under the bars; on a narrow screen every second one is left out."""
    count = len(categories)
    every = max(1, -(-count // LABELS_WIDE))
    slot = 100 / max(1, count)
    rows: list[tuple[str, float, int, str]] = []
    for order, i in enumerate(range(0, count, every)):
        css = "chart-word chart-minor" if order % 2 else "chart-word"
        rows.append((css, round(slot * (i + 0.07), 3), HEIGHT - 6, categories[i]))
    return format_html_join("", '<text class="{}" x="{}%" y="{}">{}</text>', rows)


def _legend(series: Sequence[Series | Line]) -> SafeString:
    """Which colour is what, in the order of the series; a single series needs none."""
    if len(series) < 2:
        return SafeString("")
    items = format_html_join(
        "",
        '<li><svg width="10" height="10" aria-hidden="true" focusable="false">'
        '<rect class="chart-{}" width="10" height="10" rx="2"/></svg>{}</li>',
        ((index, one.name) for index, one in enumerate(series, start=1)),
    )
    return format_html('<ul class="chart-legend">{}</ul>', items)


def _table(
    categories: Sequence[str],
    series: Sequence[Series | Line],
    totals: Sequence[int | None],
    category_name: Text,
    exact: Callable[[int], str],
) -> SafeString:
    heads: list[Any] = [one.name for one in series]
    columns: list[list[int | None]] = [list(one.values) for one in series]
    if len(series) > 1:
        heads.append(_("total"))
        columns.append(list(totals))
    head = format_html_join("", '<th scope="col" class="num">{}</th>', ((name,) for name in heads))
    rows = [
        format_html(
            '<tr><th scope="row">{}</th>{}</tr>',
            category,
            format_html_join(
                "", '<td class="num">{}</td>', ((_cell(column[i], exact),) for column in columns)
            ),
        )
        for i, category in enumerate(categories)
    ]
    return format_html(
        '<details class="chart-table"><summary>{}</summary><div class="scroll" tabindex="0" role="region" '
        'aria-label="{}"><table><thead><tr><th scope="col">{}</th>{}</tr></thead><tbody>{}</tbody></table>'
        "</div></details>",
        _("Show as table"),
        _("Figures as a table"),
        category_name,
        head,
        _join(rows),
    )


def _cell(value: int | None, exact: Callable[[int], str]) -> str:
    return _("no data") if value is None else exact(value)


def _join(parts: Sequence[SafeString]) -> SafeString:
    return mark_safe("".join(parts))  # noqa: S308  # every part was escaped when it was made
