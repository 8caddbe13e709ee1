"""Where an address is: what a file may say, and what it may not."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import maxminddb
import pytest
from django.core.exceptions import ImproperlyConfigured

from sessions_security import places
from sessions_security.places import Place, WrongFile

LINES = """first,last,country,latitude,longitude
190.24.0.0,190.24.255.255,CO,4.61,-74.08
190.25.0.0,190.25.0.255,EC,,
2800:484::,2800:484:ffff:ffff:ffff:ffff:ffff:ffff,CO,6.25,-75.56
"""


@pytest.fixture(autouse=True)
def _no_source_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_provider", None)


def csv_of(folder: Path, text: str) -> Path:
    path = folder / "places.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1.0.0.0,1.0.0.255,CO", "line 2: there must be five"),
        ("1.0.0.9,1.0.0.1,CO,,", "line 2: the range ends before"),
        ("1.0.0.0,::1,CO,,", "line 2: the two ends"),
        ("1.0.0.0,1.0.0.300,CO,,", "line 2"),
        ("01.0.0.0,1.0.0.3,CO,,", "line 2"),
        ("1.0.0.0,1.0.0.3,co,,", "line 2: the country"),
        ("1.0.0.0,1.0.0.3,COL,,", "line 2: the country"),
        ("1.0.0.0,1.0.0.3,CO,4.6,", "line 2: latitude"),
        ("1.0.0.0,1.0.0.3,CO,91,0", "line 2: latitude"),
        ("1.0.0.0,1.0.0.3,CO,0,-181", "line 2: latitude"),
        ("1.0.0.0,1.0.0.3,CO,nan,0", "line 2: latitude"),
        ("1.0.0.0,1.0.0.3,CO,1e1,0", "line 2: latitude"),
        ("1.0.0.0,1.0.0.3,CO,٤,0", "cannot be read"),
        ("1.0.0.5,1.0.0.9,CO,,\n1.0.0.9,1.0.0.10,CO,,", "line 3: the range begins before"),
        ("1.0.0.5,1.0.0.9,CO,,\n1.0.0.1,1.0.0.2,CO,,", "line 3: the range begins before"),
        ("", "no range"),
    ],
)
def test_wrong_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    header = LINES.split("\n", 1)[0]
    body = f"{header}\n{line}\n" if line else f"{header}\n"

    with pytest.raises(WrongFile, match=says):
        places.opened(str(csv_of(tmp_path, body)))


@pytest.mark.parametrize("name", ["away.csv", "away.mmdb", "places.txt"])
def test_file_that_is_none_refuses_the_start(tmp_path: Path, settings: Any, name: str) -> None:
    settings.PLACES = str(tmp_path / name)

    with pytest.raises(ImproperlyConfigured, match="MESTORE_PLACES"):
        places.start()


@pytest.mark.parametrize("content", [b"", b"\x00" * 4096, b"\xab\xcd\xefMaxMind.com" + b"\xff" * 64])
def test_damaged_database_refuses_the_start(tmp_path: Path, settings: Any, content: bytes) -> None:
    path = tmp_path / "places.mmdb"
    path.write_bytes(content)
    settings.PLACES = str(path)

    with pytest.raises(ImproperlyConfigured, match="MESTORE_PLACES"):
        places.start()


def test_without_a_source_nothing_is_known(settings: Any) -> None:
    settings.PLACES = ""
    places.start()

    assert places.source() is None
    assert places.locate("190.24.1.1") is None
    assert places.country_of("190.24.1.1") == ""


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("190.24.0.0", "CO"),
        ("190.24.255.255", "CO"),
        ("190.25.0.1", "EC"),
        ("190.23.255.255", None),
        ("190.25.1.0", None),
        ("255.255.255.255", None),
        ("0.0.0.1", None),
        ("2800:484::1", "CO"),
        ("2800:485::", None),
        ("::ffff:190.24.3.4", "CO"),
        ("::", None),
        ("not an address", None),
        ("", None),
        (None, None),
    ],
)
def test_ranges_answer_to_their_edges(
    tmp_path: Path, settings: Any, address: str | None, place: str | None
) -> None:
    settings.PLACES = str(csv_of(tmp_path, LINES))
    places.start()

    found = places.locate(address)

    assert (found.country if found else None) == place


def test_point_is_there_where_the_file_has_one(tmp_path: Path, settings: Any) -> None:
    settings.PLACES = str(csv_of(tmp_path, LINES))
    places.start()

    bogota, quito = places.locate("190.24.9.9"), places.locate("190.25.0.9")

    assert bogota is not None
    assert bogota.latitude == pytest.approx(4.61, abs=1e-5)
    assert bogota.longitude == pytest.approx(-74.08, abs=1e-5)
    assert quito == Place("EC")


def test_source_tells_its_name_and_age(tmp_path: Path, settings: Any) -> None:
    path = csv_of(tmp_path, LINES)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    settings.PLACES = str(path)
    places.start()

    source = places.source()

    assert source is not None
    assert (source.name, int(source.built_at.timestamp())) == ("places.csv", 1_700_000_000)


def test_file_may_go_once_it_was_read(tmp_path: Path, settings: Any) -> None:
    path = csv_of(tmp_path, LINES)
    settings.PLACES = str(path)
    places.start()
    path.unlink()

    assert places.country_of("190.24.1.1") == "CO"


def test_memory_per_range_is_bounded(tmp_path: Path) -> None:
    lines = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255},10.{n >> 16}.{n >> 8 & 255}.{n & 255},CO,1,1" for n in
             range(50_000)]  # fmt: skip
    path = csv_of(tmp_path, "\n".join(lines) + "\n")
    tracemalloc.start()
    try:
        ranges = places.opened(str(path))
        held, _most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert isinstance(ranges, places.Ranges)
    assert len(ranges) == 50_000
    assert held / 50_000 < 64


def test_too_long_a_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "LONGEST_TABLE", 2)

    with pytest.raises(WrongFile, match="line 4: there are more than 2"):
        places.opened(str(csv_of(tmp_path, LINES)))


class _Reader:
    """What the library's reader answers, for records that no real database may hold."""

    def __init__(self, record: Any) -> None:
        self.record = record

    def metadata(self) -> Any:
        return type("Metadata", (), {"ip_version": 6, "build_epoch": 1})

    def get(self, _address: object) -> Any:
        if isinstance(self.record, Exception):
            raise self.record
        return self.record


def _maxmind(record: Any) -> places.MaxMind:
    made = places.MaxMind.__new__(places.MaxMind)
    made._reader = _Reader(record)  # type: ignore[assignment]  # the part of it that is used
    return made


@pytest.mark.parametrize(
    ("record", "place"),
    [
        (None, None),
        ("CO", None),
        ({"country": "CO"}, None),
        ({"country": {"iso_code": 57}}, None),
        ({"country": {"iso_code": "co"}}, None),
        ({"country": {"iso_code": "CO"}}, Place("CO")),
        ({"country": {"iso_code": "CO"}, "location": {"latitude": 4.6}}, Place("CO")),
        ({"country": {"iso_code": "CO"}, "location": {"latitude": 400, "longitude": 1}}, Place("CO")),
        ({"country": {"iso_code": "CO"}, "location": {"latitude": True, "longitude": 1}}, Place("CO")),
        (
            {"country": {"iso_code": "CO"}, "location": {"latitude": 4.6, "longitude": -74}},
            Place("CO", 4.6, -74.0),
        ),
    ],
)
def test_database_says_only_what_is_well_formed(
    monkeypatch: pytest.MonkeyPatch, record: Any, place: Place | None
) -> None:
    monkeypatch.setattr(places, "_provider", _maxmind(record))

    assert places.locate("190.24.1.1") == place


def test_damage_found_later_is_not_taken_for_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_provider", _maxmind(maxminddb.InvalidDatabaseError("damaged")))

    with pytest.raises(maxminddb.InvalidDatabaseError):
        places.locate("190.24.1.1")
    assert places.country_of("190.24.1.1") == ""  # a session's country only decides when it is known
