"""Working days of Colombia, against the published calendars."""

from __future__ import annotations

import datetime as dt

import pytest

from accounts import working_days

# As published for these years: the third Monday holidays, Holy Week and those that hang on Easter among them.
PUBLISHED = {
    2024: "01-01 01-08 03-25 03-28 03-29 05-01 05-13 06-03 06-10 07-01 07-20 08-07 08-19 10-14 11-04 11-11"
    " 12-08 12-25",
    2025: "01-01 01-06 03-24 04-17 04-18 05-01 06-02 06-23 06-30 07-20 08-07 08-18 10-13 11-03 11-17"
    " 12-08 12-25",
    2026: "01-01 01-12 03-23 04-02 04-03 05-01 05-18 06-08 06-15 06-29 07-20 08-07 08-17 10-12 11-02 11-16"
    " 12-08 12-25",
    2027: "01-01 01-11 03-22 03-25 03-26 05-01 05-10 05-31 06-07 07-05 07-20 08-07 08-16 10-18 11-01 11-15"
    " 12-08 12-25",
}
EASTER = {
    1984: (4, 22), 2000: (4, 23), 2008: (3, 23), 2011: (4, 24), 2019: (4, 21), 2024: (3, 31), 2038: (4, 25),
    2049: (4, 18), 2076: (4, 19),
}  # fmt: skip


@pytest.mark.parametrize("year", PUBLISHED)
def test_holidays_are_those_of_the_published_calendar(year: int) -> None:
    wanted = {dt.date.fromisoformat(f"{year}-{day}") for day in PUBLISHED[year].split()}

    assert working_days.holidays(year) == wanted


@pytest.mark.parametrize("year", EASTER)
def test_easter(year: int) -> None:
    assert working_days.easter_sunday(year) == dt.date(year, *EASTER[year])


@pytest.mark.parametrize(
    ("received", "days", "counting_first", "last"),
    [
        ("2026-11-23", 1, True, "2026-11-23"),  # a Monday
        ("2026-11-23", 10, True, "2026-12-04"),
        ("2026-11-23", 15, False, "2026-12-15"),  # over the 8th of December
        ("2026-11-21", 1, True, "2026-11-23"),  # a Saturday
        ("2026-11-21", 1, False, "2026-11-23"),
        ("2026-12-24", 10, True, "2027-01-08"),  # over Christmas and New Year
        ("2026-04-01", 2, False, "2026-04-07"),  # over Holy Thursday and Friday
        ("2026-10-09", 2, False, "2026-10-14"),  # over the Monday of the 12th
    ],
)
def test_terms_end_on_working_days(received: str, days: int, counting_first: bool, last: str) -> None:
    found = working_days.last_day(dt.date.fromisoformat(received), days, counting_first=counting_first)

    assert found == dt.date.fromisoformat(last)


def test_a_term_of_no_days_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        working_days.last_day(dt.date(2026, 1, 1), 0, counting_first=True)


def test_every_term_over_ten_years_has_its_working_days() -> None:
    day = dt.date(2024, 1, 1)
    while day.year < 2034:
        last = working_days.last_day(day, 10, counting_first=True)
        between = [day + dt.timedelta(days=n) for n in range((last - day).days + 1)]
        assert sum(working_days.is_working_day(one) for one in between) == 10
        assert working_days.is_working_day(last)
        day += dt.timedelta(days=1)
