"""Whose address a request has."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from django.test import RequestFactory, override_settings
from hypothesis import given
from hypothesis import strategies as st

from mestore.lib.request import UNKNOWN, client_address, network_of


def request(remote: str = "10.0.0.9", forwarded: str | None = None) -> Any:
    made = RequestFactory().get("/", REMOTE_ADDR=remote)
    if forwarded is not None:
        made.META["HTTP_X_FORWARDED_FOR"] = forwarded
    return made


def test_without_trusted_proxies_the_header_is_not_believed(settings: Any) -> None:
    settings.TRUSTED_PROXY_COUNT = 0

    assert client_address(request("203.0.113.5", "1.1.1.1")) == "203.0.113.5"


def test_the_header_is_not_believed_when_the_setting_is_missing(settings: Any) -> None:
    del settings.TRUSTED_PROXY_COUNT

    assert client_address(request("203.0.113.5", "1.1.1.1")) == "203.0.113.5"


@pytest.mark.parametrize(
    ("proxies", "expected"),
    [(1, "198.51.100.3"), (2, "198.51.100.2"), (3, "198.51.100.1"), (4, "198.51.100.1")],
)
def test_addresses_are_counted_from_the_right(proxies: int, expected: str, settings: Any) -> None:
    settings.TRUSTED_PROXY_COUNT = proxies

    assert client_address(request(forwarded="198.51.100.1, 198.51.100.2, 198.51.100.3")) == expected


def test_what_a_client_puts_in_front_changes_nothing(settings: Any) -> None:
    settings.TRUSTED_PROXY_COUNT = 1

    assert client_address(request(forwarded="127.0.0.1, ::1, 10.1.1.1,203.0.113.7")) == "203.0.113.7"


NO_ADDRESSES = ["", " ", "unknown", "_hidden", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.4\x00", "１.2.3.4"]
NO_ADDRESSES += [
    "1.2.3.4:x",
    "1.2.3.4:123456",
    "[1.2.3.4]",
    "[::1",
    "::1]",
    "[::1]x",
    "[::1]:",
    "[::1]:٣",
    "[]",
]
NO_ADDRESSES += ["fe80::1%eth0", "a" * 100]


@pytest.mark.parametrize("entry", NO_ADDRESSES)
def test_a_malformed_entry_gives_way_to_the_next_nearer_address(entry: str, settings: Any) -> None:
    settings.TRUSTED_PROXY_COUNT = 2

    assert client_address(request("10.0.0.9", f"6.6.6.6,{entry},198.51.100.3")) == "198.51.100.3"
    assert client_address(request("10.0.0.9", f"6.6.6.6,{entry},{entry}")) == "10.0.0.9"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("203.0.113.7:51234", "203.0.113.7"),
        ("\t203.0.113.7 ", "203.0.113.7"),
        ("2001:DB8::0001", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
        ("203.0.113.7:65535", "203.0.113.7"),
    ],
)
def test_ports_brackets_and_mapped_addresses_are_understood(entry: str, expected: str, settings: Any) -> None:
    settings.TRUSTED_PROXY_COUNT = 1

    assert client_address(request(forwarded=f"9.9.9.9,{entry}")) == expected
    settings.TRUSTED_PROXY_COUNT = 0
    assert client_address(request(entry)) == expected


def test_a_request_without_an_address_gets_the_unspecified_one(settings: Any) -> None:
    settings.TRUSTED_PROXY_COUNT = 0

    assert client_address(request("")) == UNKNOWN
    bare = request()
    del bare.META["REMOTE_ADDR"]
    assert client_address(bare) == UNKNOWN


@given(remote=st.text(max_size=30), forwarded=st.text(max_size=80), proxies=st.integers(0, 3))
def test_whatever_is_sent_the_answer_is_an_address(remote: str, forwarded: str, proxies: int) -> None:
    with override_settings(TRUSTED_PROXY_COUNT=proxies):
        answer = client_address(request(remote, forwarded))

    assert str(ipaddress.ip_address(answer)) == answer


@given(
    chain=st.lists(st.ip_addresses(), min_size=1, max_size=6),
    proxies=st.integers(1, 3),
    noise=st.text(max_size=20),
)
def test_the_trusted_part_of_the_header_decides_alone(chain: list[Any], proxies: int, noise: str) -> None:
    trusted = ",".join(str(address) for address in chain[-proxies:])
    with override_settings(TRUSTED_PROXY_COUNT=min(proxies, len(chain))):
        plain = client_address(request(forwarded=trusted))
        noisy = client_address(request(forwarded=f"{noise},{trusted}"))

    assert plain == noisy


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("nonsense", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_the_network_of_an_address(address: str, network: str) -> None:
    assert network_of(address) == network


@given(one=st.ip_addresses(v=6), host=st.integers(0, 2**64 - 1))
def test_all_addresses_of_one_subscriber_share_a_network_and_neighbours_do_not(one: Any, host: int) -> None:
    if one.ipv4_mapped is not None:
        return
    same = ipaddress.IPv6Address((int(one) >> 64 << 64) | host)
    neighbour = ipaddress.IPv6Address(int(one) ^ (1 << 64))

    if same.ipv4_mapped is None:
        assert network_of(str(one)) == network_of(str(same))
    assert network_of(str(one)) != network_of(str(neighbour))
