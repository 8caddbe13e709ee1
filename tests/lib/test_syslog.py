"""Messages as RFC 5424 writes them: no header can be broken out of, no text can end its frame."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mestore.lib import syslog

AT = dt.datetime(2026, 11, 21, 23, 0, 0, 1, tzinfo=dt.UTC)
HEADER = re.compile(rb"<\d{1,3}>1 2026-11-21T23:00:00\.000001Z [!-~]{1,255} [!-~]{1,48} - [!-~]{1,32} - ")


def message(text: str = "{}", host: str = "mestore.example", kind: str = "auth.signed_out") -> bytes:
    return syslog.message(text, severity=6, at=AT, host=host, application="mestore", kind=kind)


def test_one_message() -> None:
    assert message() == (b"<110>1 2026-11-21T23:00:00.000001Z mestore.example mestore - auth.signed_out - {}")


def test_another_time_zone_is_the_same_moment() -> None:
    there = AT.astimezone(dt.timezone(dt.timedelta(hours=-5)))
    made = syslog.message("{}", severity=6, at=there, host="h", application="a", kind="k")
    assert b" 23:00" not in made
    assert b"2026-11-21T23:00:00.000001Z" in made


@given(st.text(), st.text(), st.text())
def test_no_value_breaks_out_of_the_header(text: str, host: str, kind: str) -> None:
    clean = text.encode("utf-8", "replace").decode()
    made = message(clean, host, kind)

    header = HEADER.match(made)
    assert header is not None
    assert made[header.end() :] == clean.encode()


@pytest.mark.parametrize("content", [b"", b"x", b"1 2\n3 ", b"\x00" * 10])
def test_a_frame_says_how_long_it_is(content: bytes) -> None:
    length, _blank, rest = syslog.frame(content).partition(b" ")
    assert (int(length), rest) == (len(content), content)
