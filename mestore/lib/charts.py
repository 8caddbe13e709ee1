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


def _require_whole(categories: Sequence[str], series: Sequence[Series]) -> None:
    for one in series:
        if len(one.values) != len(categories):
            raise ValueError("a series needs one value per category")
        if any(value < 0 for value in one.values):
            raise ValueError("bars begin at zero: no negative values")


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
        _bars(categories, series, ticks[-1], exact),
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


def _legend(series: Sequence[Series]) -> SafeString:
    """Which colour is what, in the order of the stack; a single series needs none."""
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
    series: Sequence[Series],
    totals: Sequence[int],
    category_name: Text,
    exact: Callable[[int], str],
) -> SafeString:
    heads: list[Any] = [one.name for one in series]
    columns = [list(one.values) for one in series]
    if len(series) > 1:
        heads.append(_("total"))
        columns.append(list(totals))
    head = format_html_join("", '<th scope="col" class="num">{}</th>', ((name,) for name in heads))
    rows = [
        format_html(
            '<tr><th scope="row">{}</th>{}</tr>',
            category,
            format_html_join("", '<td class="num">{}</td>', ((exact(column[i]),) for column in columns)),
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


def _join(parts: Sequence[SafeString]) -> SafeString:
    return mark_safe("".join(parts))  # noqa: S308  # every part was escaped when it was made
