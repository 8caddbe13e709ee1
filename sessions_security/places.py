"""Where an address is, as far as a file of ours knows: nobody outside is ever asked.

`MESTORE_PLACES` names a CSV file of address ranges or a MaxMind database; unset there is no source, and then
nothing is decided by place. A file that is named must be readable and right: it is read when the process
starts, and a wrong one refuses the start. What comes out is a hint of tens of kilometres at best: rules that
use it must stand a wrong answer.
"""

from __future__ import annotations

import csv
import datetime as dt
import ipaddress
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any, Protocol

import maxminddb
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

LONGEST_TABLE = 10_000_000
"""Ranges that a CSV file may hold; they take 22 bytes of memory each, those of IPv6 46."""

_HEADER = ["first", "last", "country", "latitude", "longitude"]
_COUNTRY = re.compile(r"[A-Z]{2}", re.ASCII)
_DECIMAL = re.compile(r"-?\d{1,3}(\.\d{1,10})?", re.ASCII)
_LOW_HALF = (1 << 64) - 1
_NOT_KNOWN = float("nan")


@dataclass(frozen=True, slots=True)
class Place:
    """A country by its code (ISO 3166-1 alpha-2) and, where known, a point in degrees."""

    country: str
    latitude: float | None = None
    longitude: float | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """The file that answers, and when its data were put together."""

    name: str
    built_at: dt.datetime


class Provider(Protocol):
    """Something that knows places."""

    @property
    def source(self) -> Source: ...
    def find(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Place | None: ...


class WrongFile(ValueError):
    """The file cannot be read as what it claims to be; the text says where."""


def locate(address: str | None) -> Place | None:
    """Return the place of an address; None when nothing is known about it, or there is no source.

    Raises what reading a damaged database raises: whoever decides by place must not take that for "unknown".
    """
    if _provider is None or not address:
        return None
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    return _provider.find(getattr(parsed, "ipv4_mapped", None) or parsed)


def country_of(address: str | None) -> str:
    """Return the country's code; "" when it is not known, or the database is damaged: it decides nothing."""
    try:
        place = locate(address)
    except (maxminddb.InvalidDatabaseError, ValueError, OSError):
        return ""
    return place.country if place is not None else ""


def source() -> Source | None:
    """Return what answers `locate`, for people who must judge how old it is; None without any."""
    return _provider.source if _provider is not None else None


def start() -> None:
    """Open the file that the settings name. Raises ImproperlyConfigured for one that cannot be used."""
    global _provider  # noqa: PLW0603 -- one source per process, opened once
    try:
        _provider = opened(settings.PLACES) if settings.PLACES else None
    except WrongFile as error:
        raise ImproperlyConfigured(f"MeStore does not start:\n- MESTORE_PLACES: {error}") from error


def opened(path: str) -> Provider:
    """Return the provider of a `.csv` or `.mmdb` file. Raises WrongFile."""
    suffix = Path(path).suffix.lower()
    try:
        if suffix == ".csv":
            return Ranges.read(Path(path))
        if suffix == ".mmdb":
            return MaxMind(Path(path))
    except (OSError, UnicodeDecodeError, csv.Error, maxminddb.InvalidDatabaseError) as error:
        raise WrongFile(f"the file cannot be read ({type(error).__name__}).") from error
    raise WrongFile("the file must end in .csv or .mmdb.")


class MaxMind:
    """A database in MaxMind's format, mapped into memory: it costs what is looked up."""

    def __init__(self, path: Path) -> None:
        self._reader = maxminddb.open_database(path)
        built = dt.datetime.fromtimestamp(self._reader.metadata().build_epoch, tz=dt.UTC)
        self.source = Source(path.name, built)

    def find(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Place | None:
        """Return what the database says. Raises maxminddb.InvalidDatabaseError for a damaged one."""
        if address.version == 6 and self._reader.metadata().ip_version == 4:
            return None
        record = self._reader.get(address)
        country = _inside(record, "country", "iso_code")
        if not isinstance(country, str) or not _COUNTRY.fullmatch(country):
            return None
        latitude, longitude = (
            _degrees(_inside(record, "location", name), limit)
            for name, limit in (("latitude", 90), ("longitude", 180))
        )
        if latitude is None or longitude is None:
            return Place(country)
        return Place(country, latitude, longitude)


class Ranges:
    """Address ranges in sorted arrays: a look-up halves them, and memory grows by a few bytes per range."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._four = _Table()
        self._six = _Table()

    @classmethod
    def read(cls, path: Path) -> Ranges:
        """Read a file `first,last,country,latitude,longitude`, sorted, IPv4 and IPv6 in any order.

        Raises WrongFile naming the line: a range that overlaps or stands out of order would answer wrongly.
        """
        built = dt.datetime.fromtimestamp(path.stat().st_mtime, tz=dt.UTC)
        ranges = cls(Source(path.name, built))
        with path.open(encoding="ascii", newline="") as file:
            for number, line in _lines(file):
                try:
                    ranges._add(line)
                except ValueError as error:
                    raise WrongFile(f"line {number}: {error}") from error
        if not len(ranges):
            raise WrongFile("there is no range in the file.")
        return ranges

    def __len__(self) -> int:
        return len(self._four) + len(self._six)

    def find(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Place | None:
        """Return the place of the range that holds `address`."""
        return (self._four if address.version == 4 else self._six).find(int(address))

    def _add(self, line: list[str]) -> None:
        if len(line) != len(_HEADER):
            raise ValueError("there must be five values: first, last, country, latitude, longitude.")
        if len(self) >= LONGEST_TABLE:
            raise ValueError(f"there are more than {LONGEST_TABLE} ranges.")
        first, last = (ipaddress.ip_address(text) for text in line[:2])
        if first.version != last.version:
            raise ValueError("the two ends are of different kinds.")
        table = self._four if first.version == 4 else self._six
        table.add(int(first), int(last), _place(*line[2:]))


class _Table:
    """The ranges of one kind of address. 128-bit ends are kept as two halves."""

    def __init__(self) -> None:
        self._high, self._low = array("Q"), array("Q")
        self._last_high, self._last_low = array("Q"), array("Q")
        self._country = array("H")
        self._latitude, self._longitude = array("f"), array("f")

    def __len__(self) -> int:
        return len(self._low)

    def add(self, first: int, last: int, place: Place) -> None:
        if last < first:
            raise ValueError("the range ends before it begins.")
        if len(self) and first <= self._end(len(self) - 1):
            raise ValueError("the range begins before the one above it ends.")
        self._high.append(first >> 64)
        self._low.append(first & _LOW_HALF)
        self._last_high.append(last >> 64)
        self._last_low.append(last & _LOW_HALF)
        self._country.append(ord(place.country[0]) << 8 | ord(place.country[1]))
        self._latitude.append(_NOT_KNOWN if place.latitude is None else place.latitude)
        self._longitude.append(_NOT_KNOWN if place.longitude is None else place.longitude)

    def find(self, value: int) -> Place | None:
        at = bisect_right(range(len(self)), value, key=self._start) - 1
        if at < 0 or value > self._end(at):
            return None
        code = self._country[at]
        country = chr(code >> 8) + chr(code & 0xFF)
        latitude, longitude = self._latitude[at], self._longitude[at]
        if isnan(latitude):
            return Place(country)
        return Place(country, latitude, longitude)

    def _start(self, at: int) -> int:
        return self._high[at] << 64 | self._low[at]

    def _end(self, at: int) -> int:
        return self._last_high[at] << 64 | self._last_low[at]


def _lines(file: Any) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(file, strict=True)
    for line in reader:
        if reader.line_num == 1 and line == _HEADER:
            continue
        yield reader.line_num, line


def _place(country: str, latitude: str, longitude: str) -> Place:
    if not _COUNTRY.fullmatch(country):
        raise ValueError("the country must be two capital letters.")
    if not latitude and not longitude:
        return Place(country)
    return Place(country, _number(latitude, 90), _number(longitude, 180))


def _number(text: str, limit: int) -> float:
    value = float(text) if _DECIMAL.fullmatch(text) else _NOT_KNOWN
    if not -limit <= value <= limit:
        raise ValueError("latitude and longitude must be degrees, both or neither.")
    return value


def _inside(record: Any, *names: str) -> Any:
    for name in names:
        record = record.get(name) if isinstance(record, Mapping) else None
    return record


def _degrees(value: Any, limit: int) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and -limit <= value <= limit else None


_provider: Provider | None = None
