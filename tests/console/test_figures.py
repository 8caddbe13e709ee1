"""No number without its source and age; the unknown is never shown as 0; a broken panel breaks nothing."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from django.utils import timezone, translation

from finance import ledger
from finance import panels as finance_panels
from mestore.lib import charts
from mestore.lib.console import Panel, State, collect, figures, panel
from mestore.lib.console.display import age, agent, amount, moment, number, short_id
from monitoring import panels as monitoring_panels
from monitoring import pools
from tests.console import house
from tests.factories.accounts import AdminFactory, VendorFactory

NOW = dt.datetime(2026, 3, 4, 17, 30, tzinfo=dt.UTC)


class _Viewer:
    """Somebody with some rights."""

    def __init__(self, *held: str) -> None:
        self.user = self
        self.held = held

    def has_perm(self, name: str) -> bool:
        return name in self.held


@pytest.mark.parametrize("missing", [{"source": ""}, {"as_of": None}])
def test_number_without_source_or_age_is_refused(missing: dict[str, Any]) -> None:
    given: dict[str, Any] = {"title": "x", "value": "3", "source": "y", "as_of": NOW, **missing}

    with pytest.raises(ValueError, match="source and age"):
        Panel(**given)


def test_unknown_panel_says_no_data_and_since_when() -> None:
    assert Panel(title="x", source="y").absence == "no data"
    assert Panel(title="x", source="y", since=NOW).absence == "no data since 12:30"
    assert not Panel(title="x", source="y").is_known


def test_panel_that_fails_becomes_unknown_and_remembers_when_it_last_knew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = False

    @panel("Figure", source="somewhere")
    def figure(request: Any) -> Panel:
        if broken:
            raise RuntimeError("gone")
        return Panel(title="Figure", value="7", source="somewhere", as_of=timezone.now())

    assert [made.value for made in collect(_Viewer(), (figure,))] == ["7"]
    broken = True

    (made,) = collect(_Viewer(), (figure,))

    assert made.value is None
    assert made.state is State.UNKNOWN
    assert made.absence.startswith("no data since ")
    assert "console_panel_failed" in caplog.text


def test_kept_panel_is_computed_once_and_shows_its_age() -> None:
    computed: list[int] = []

    @panel("Figure", source="somewhere", keep_seconds=60)
    def figure(request: Any) -> list[Panel]:
        computed.append(1)
        moment_of_reading = timezone.now() - dt.timedelta(seconds=40)
        return [Panel(title="Figure", value="7", source="somewhere", as_of=moment_of_reading)]

    first, second = (collect(_Viewer(), (figure,)) for _ in range(2))

    assert len(computed) == 1
    assert first == second
    assert re.fullmatch(r"[4-9]\d s ago", second[0].age)


def test_panel_is_not_made_for_those_who_lack_the_right() -> None:
    @panel("Figure", source="somewhere", permission="finance.view_order")
    def figure(request: Any) -> Panel:
        return Panel(title="Figure", value="7", source="somewhere", as_of=NOW)

    assert collect(_Viewer(), (figure,)) == []
    assert len(collect(_Viewer("finance.view_order"), (figure,))) == 1


@pytest.mark.parametrize(
    ("highest", "expected"),
    [
        (0, [0, 1]),
        (1, [0, 1]),
        (3, [0, 1, 2, 3]),
        (4, [0, 2, 4]),
        (80, [0, 50, 100]),
        (7_001, [0, 5_000, 10_000]),
    ],
)
def test_axis_has_round_numbers_and_at_most_four_lines(highest: int, expected: list[int]) -> None:
    assert charts.axis(highest) == expected


@pytest.mark.parametrize("highest", [*range(1, 300), 10**6 + 1, 10**15])
def test_axis_always_reaches_the_highest_bar(highest: int) -> None:
    ticks = charts.axis(highest)

    assert ticks[0] == 0
    assert ticks[-1] >= highest
    assert len(ticks) <= 4


def _chart(**changes: Any) -> str:
    given: dict[str, Any] = {
        "title": "Sign-ins",
        "subtitle": "per hour",
        "categories": ["00:00", "<01:00>"],
        "series": [charts.Series("good", [3, 0]), charts.Series("bad & ugly", [1, 2])],
        "category_name": "Hour",
    }
    return str(charts.stacked_bars(**given | changes))


def test_chart_carries_its_figures_as_a_table() -> None:
    html = _chart()

    rows = re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', html)
    assert [re.findall(r">(\d+)<", cells) for _head, cells in rows] == [["3", "1", "4"], ["0", "2", "2"]]
    assert "<summary>" in html


def test_chart_escapes_and_has_no_inline_style() -> None:
    html = _chart()

    assert "&lt;01:00&gt;" in html
    assert "bad &amp; ugly" in html
    assert "<01:00>" not in html
    assert "style" not in html


def test_chart_without_any_row_still_stands() -> None:
    assert "<svg" in _chart(categories=[], series=[charts.Series("good", [])])


@pytest.mark.parametrize("values", [[1], [1, -1]])
def test_chart_refuses_what_it_cannot_draw_truly(values: list[int]) -> None:
    with pytest.raises(ValueError):
        _chart(series=[charts.Series("good", values)])


def test_moment_is_short_with_both_full_times_in_the_title() -> None:
    html = moment(dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=dt.UTC))

    assert 'title="2020-01-02 03:04:05 UTC · 2020-01-01 22:04:05 Bogotá"' in html
    assert ">2020-01-01 22:04<" in html
    assert ">2020-01-01 22:04:05<" in moment(dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=dt.UTC), full=True)
    assert moment(None) == "—"


def test_values_are_written_as_people_read_them() -> None:
    with translation.override("en"):
        assert "1,234,567.80 <abbr>COP</abbr>" in amount("1234567.80", "COP")
        assert number(1_234_567) == "1,234,567"
    with translation.override("es"):
        assert "1.234.567,80 <abbr>COP</abbr>" in amount("1234567.80", "COP")
        assert number(1_234_567) == "1.234.567"
    with translation.override("en"):
        assert "−1.00" in amount("-1.00", "COP")
    assert "12 <abbr>CLP</abbr>" in amount("12", "CLP")
    assert "0000aaaa…efefef" in short_id("0000aaaa-1111-2222-3333-444444efefef")
    assert [age(NOW - dt.timedelta(seconds=s), NOW) for s in (5, 300, 9_000, 400_000, -9)] == [
        "5 s", "5 min", "2 h", "4 d", "0 s"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "—"),
        ("curl/8.1", "curl/8.1"),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/126.0 Safari/537.36 Edg/126.0", "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17) Version/17 Safari/604.1", "Safari on iPhone"),
        ("Firefox/127.0", "Firefox"),
    ],
)
def test_agents_are_named_shortly(text: str, expected: str) -> None:
    assert agent(text) == expected


class TestFiguresOfTheApps:
    pytestmark = pytest.mark.django_db(databases=["default", "audit"])

    def _overview(self, visitor: house.Visitor) -> str:
        return str(visitor.client.get("/admin/", headers={"accept-language": "en"}).content.decode())

    def test_empty_house_shows_no_invented_figures(self, admin_visitor: house.Visitor) -> None:
        page = self._overview(admin_visitor)

        assert "none yet" in page
        assert "empty" in page

    def test_sign_ins_are_counted_from_the_trail(self, admin_visitor: house.Visitor) -> None:
        admin_visitor.client.post("/admin/login/", {"email": "x@example.com", "password": "wrong"})

        page = self._overview(admin_visitor)

        assert re.search(r"<title>\d\d:00: 1 succeeded, 0 refused</title>", page)

    def test_orders_and_commission_of_today_are_summed_in_their_currency(
        self, admin_visitor: house.Visitor
    ) -> None:
        vendor = VendorFactory.create()
        for _ in range(3):
            house.sale(vendor, timezone.now(), total=200_000)
        house.sale(vendor, timezone.now(), total=999, currency="USD")

        page = self._overview(admin_visitor)

        assert "300.00 COP" in page  # three times 5 % of 2,000.00
        assert "of 3 sales" in page
        assert "Not drawn: USD." in page
        assert "4 sold" in page

    def test_historic_orders_show_their_own_days_and_say_so(self, admin_visitor: house.Visitor) -> None:
        house.sale(VendorFactory.create(), dt.datetime(2018, 8, 29, 15, 0, tzinfo=dt.UTC), currency="BRL")

        page = self._overview(admin_visitor)

        assert "2018-07-31 to 2018-08-29" in page
        assert "There is nothing newer than 2018-08-29" in page

    def test_balanced_ledger_is_good_and_a_broken_one_is_critical(
        self, admin_visitor: house.Visitor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        house.fill(1)
        viewer = _Viewer("finance.view_ledgerentry")
        (sound,) = finance_panels.ledger_balance(viewer)
        found = ledger.check(newest=10)
        broken = ledger.Check(found.entries, found.sums, (VendorFactory.create().pk,), ())

        monkeypatch.setattr(ledger, "check", lambda **_: broken)
        figures.forget()
        (unsound,) = finance_panels.ledger_balance(viewer)

        assert (sound.value, sound.state) == ("balanced", State.GOOD)
        assert (unsound.value, unsound.state) == ("not balanced", State.CRITICAL)

    def test_staff_without_a_factor_is_a_warning(self, admin_visitor: house.Visitor) -> None:
        AdminFactory.create()

        page = self._overview(admin_visitor)

        assert "50 %" in page
        assert "1 of 2 missing" in page
        assert "figure-warning" in page

    def test_pool_that_is_not_there_is_unknown(self, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pools, "pool_statistics", dict)

        (made,) = monitoring_panels.database_pool(_Viewer())

        assert made.state is State.UNKNOWN
        assert made.value is None

    def test_app_whose_panels_cannot_be_asked_leaves_the_others_standing(
        self, admin_visitor: house.Visitor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(request: Any) -> list[Panel]:
            raise RuntimeError("gone")

        monkeypatch.setattr(finance_panels, "panels", fail)

        page = self._overview(admin_visitor)

        assert "no data" in page
        assert "Live sessions" in page

    def test_figures_of_the_trail_link_only_for_those_who_may_see_it(self, db: None) -> None:
        (closed,) = monitoring_panels.standing(_Viewer())
        (opened,) = monitoring_panels.standing(_Viewer("monitoring.view_auditevent"))

        assert closed.link == ""
        assert opened.link == "/admin/integrity/"
