"""Working days of Colombia: Monday to Friday without public holidays. Pure: no clock, no Django.

Holidays: Código Sustantivo del Trabajo, art. 177, in the words of Ley 51 de 1983. Six have their own day,
seven more and three that hang on Easter are kept on the Monday after, two on their own day before Easter.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache

_OWN_DAY = ((1, 1), (5, 1), (7, 20), (8, 7), (12, 8), (12, 25))
_MONDAY_AFTER = ((1, 6), (3, 19), (6, 29), (8, 15), (10, 12), (11, 1), (11, 11))
# Holy Thursday, Good Friday; Ascension, Corpus Christi, Sacred Heart on their Mondays.
_FROM_EASTER = (-3, -2, 43, 64, 71)
_ONE = dt.timedelta(days=1)


@lru_cache(maxsize=64)
def holidays(year: int) -> frozenset[dt.date]:
    """Return the public holidays of a year (from 1984 on, when the present rule began)."""
    own = {dt.date(year, month, day) for month, day in _OWN_DAY}
    moved = {_monday(dt.date(year, month, day)) for month, day in _MONDAY_AFTER}
    easter = easter_sunday(year)
    return frozenset(own | moved | {easter + dt.timedelta(days=days) for days in _FROM_EASTER})


def is_working_day(day: dt.date) -> bool:
    """Whether people work on `day`: no Saturday, no Sunday, no holiday."""
    return day.weekday() < 5 and day not in holidays(day.year)


def last_day(received: dt.date, days: int, *, counting_first: bool) -> dt.date:
    """Return the last of `days` working days for what was received on a day.

    With `counting_first` the day itself counts when it is a working day, else counting begins the day after.
    Raise ValueError for less than one day.
    """
    if days < 1:
        raise ValueError("a term has at least one day")
    day = received if counting_first else received + _ONE
    while True:
        if is_working_day(day):
            days -= 1
            if days == 0:
                return day
        day += _ONE


def easter_sunday(year: int) -> dt.date:
    """Return Easter Sunday of the Gregorian calendar (Meeus, Jones, Butcher)."""
    golden, century, within = year % 19, year // 100, year % 100
    leap, rest = divmod(century, 4)
    moved = (century - (century + 8) // 25 + 1) // 3
    moon = (19 * golden + century - leap - moved + 15) % 30
    weekday = (32 + 2 * rest + 2 * (within // 4) - moon - within % 4) % 7
    late = (golden + 11 * moon + 22 * weekday) // 451
    month, day = divmod(moon + weekday - 7 * late + 114, 31)
    return dt.date(year, month, day + 1)


def _monday(day: dt.date) -> dt.date:
    return day + dt.timedelta(days=-day.weekday() % 7)
