"""Sealing, blind indexes, message authentication, the pepper."""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import assume, given
from hypothesis import strategies as st

from mestore.lib import crypto, errors
from tests.lib.keys import AFTER_ROTATION, NEW, OLD, ONE_KEY, OTHER, ROTATED

PARTS = st.lists(st.one_of(st.text(), st.binary(), st.uuids(), st.integers()), max_size=4)


@pytest.fixture(autouse=True)
def ring(settings: Any) -> Any:
    settings.MESTORE_MASTER_KEYS = ONE_KEY
    settings.MESTORE_PEPPER_KEYS = ROTATED
    return settings


def sealed(plaintext: bytes = b"seed", purpose: str = "totp", bound_to: bytes = b"row 1") -> bytes:
    return crypto.seal(plaintext, purpose=purpose, bound_to=bound_to)


@given(position=st.integers(min_value=0), bit=st.integers(0, 7))
def test_a_sealed_value_with_one_bit_flipped_anywhere_does_not_open(position: int, bit: int) -> None:
    value = bytearray(sealed())
    value[position % len(value)] ^= 1 << bit

    with pytest.raises(crypto.Unreadable):
        crypto.unseal(bytes(value), purpose="totp", bound_to=b"row 1")


@given(length=st.integers(0, 200))
def test_a_truncated_sealed_value_does_not_open(length: int) -> None:
    value = sealed(b"x" * 100)
    assume(length < len(value))

    with pytest.raises(crypto.Unreadable):
        crypto.unseal(value[:length], purpose="totp", bound_to=b"row 1")


@given(st.binary(max_size=80))
def test_arbitrary_bytes_do_not_open(data: bytes) -> None:
    with pytest.raises(crypto.Unreadable):
        crypto.unseal(data, purpose="totp", bound_to=b"row 1")


@pytest.mark.parametrize(
    ("purpose", "bound_to"), [("email", b"row 1"), ("totp", b"row 2"), ("totp", b""), ("", b"row 1")]
)
def test_a_sealed_value_opens_for_no_other_purpose_and_in_no_other_row(purpose: str, bound_to: bytes) -> None:
    with pytest.raises(crypto.Unreadable):
        crypto.unseal(sealed(), purpose=purpose, bound_to=bound_to)


def test_purpose_and_row_cannot_be_shifted_into_each_other() -> None:
    value = sealed(purpose="ab", bound_to=b"c")

    with pytest.raises(crypto.Unreadable):
        crypto.unseal(value, purpose="a", bound_to=b"bc")


def test_a_value_does_not_open_when_its_key_left_the_ring_or_was_replaced(ring: Any) -> None:
    value = sealed()

    for keys in (AFTER_ROTATION, {"k1": OTHER}, {"k2": OLD}):
        ring.MESTORE_MASTER_KEYS = keys
        with pytest.raises(crypto.Unreadable):
            crypto.unseal(value, purpose="totp", bound_to=b"row 1")


def test_every_reason_for_not_opening_has_the_same_words(ring: Any) -> None:
    value = sealed()
    attempts = [
        b"",
        b"\x02" + value[1:],
        value[:-1],
        value[:3] + b"\xff" + value[4:],
        b"\x01\x02\xff\xff" + bytes(60),
    ]
    words = set()
    for attempt in attempts:
        with pytest.raises(crypto.Unreadable) as caught:
            crypto.unseal(attempt, purpose="totp", bound_to=b"row 1")
        words.add(str(caught.value))
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None

    assert len(words) == 1
    assert issubclass(crypto.Unreadable, errors.InternalError)


@given(plaintext=st.binary(max_size=300), purpose=st.text(max_size=20), bound_to=st.binary(max_size=60))
def test_what_was_sealed_opens_again(plaintext: bytes, purpose: str, bound_to: bytes) -> None:
    value = crypto.seal(plaintext, purpose=purpose, bound_to=bound_to)

    assert crypto.unseal(value, purpose=purpose, bound_to=bound_to) == plaintext
    assert crypto.unseal(memoryview(value), purpose=purpose, bound_to=bound_to) == plaintext


def test_sealing_twice_gives_different_bytes_and_hides_the_text() -> None:
    values = {sealed(b"a text that shall not be seen") for _ in range(200)}

    assert len(values) == 200
    assert not any(b"a text" in value for value in values)


def derived(use: str, purpose: str) -> bytes:
    labels = [(b"s", b"mestore"), (b"i", b"1"), (b"s", use.encode()), (b"s", purpose.encode())]
    info = b"".join(kind + len(data).to_bytes(4, "big") + data for kind, data in labels)
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(OLD)


def test_indexes_and_macs_of_earlier_releases_stay_valid() -> None:
    index = hmac.digest(derived("index", "phone"), b"300", "sha256")
    tag = hmac.digest(derived("mac", "audit"), b"event", "sha256")

    assert crypto.blind_index("300", purpose="phone") == index
    assert crypto.mac(b"event", purpose="audit") == tag


def test_the_sealed_form_is_the_documented_one() -> None:
    """Written out with the library's primitives alone, so that other programs could read what is stored."""
    value = sealed(b"known", purpose="totp", bound_to=b"row 1")

    assert value[:4] == b"\x01\x02k1"
    key = derived("seal", "totp")
    associated = crypto.row_binding(b"\x01\x02k1", "totp", b"row 1")
    assert AESGCM(key).decrypt(value[4:16], value[16:], associated) == b"known"


def test_the_sealed_form_under_a_data_key_is_the_documented_one() -> None:
    value = crypto.seal_with(crypto.DataKey(OTHER), b"name", bound_to=b"event")

    assert value[:1] == b"\x01"
    associated = crypto.row_binding("data key", b"\x01", b"event")
    assert AESGCM(OTHER).decrypt(value[1:13], value[13:], associated) == b"name"


def test_a_key_and_its_cipher_do_what_the_key_alone_does() -> None:
    key = crypto.DataKey(OTHER)

    assert key == OTHER
    for seals, opens in ((key, OTHER), (OTHER, key)):
        value = crypto.seal_with(seals, b"name", bound_to=b"event")
        assert crypto.unseal_with(opens, value, bound_to=b"event") == b"name"
        with pytest.raises(crypto.Unreadable):
            crypto.unseal_with(opens, value, bound_to=b"else")


def test_rewrap_moves_a_value_to_the_current_key_and_only_then(ring: Any) -> None:
    value = sealed(b"seed")
    assert crypto.rewrap(value, purpose="totp", bound_to=b"row 1") is None

    ring.MESTORE_MASTER_KEYS = ROTATED
    moved = crypto.rewrap(value, purpose="totp", bound_to=b"row 1")

    assert moved is not None
    assert moved[2:4] == b"k2"
    ring.MESTORE_MASTER_KEYS = AFTER_ROTATION
    assert crypto.unseal(moved, purpose="totp", bound_to=b"row 1") == b"seed"
    assert crypto.rewrap(moved, purpose="totp", bound_to=b"row 1") is None


def test_rewrap_refuses_what_it_cannot_open(ring: Any) -> None:
    value = sealed(b"seed")

    for keys in (ONE_KEY, ROTATED):
        ring.MESTORE_MASTER_KEYS = keys
        with pytest.raises(crypto.Unreadable):
            crypto.rewrap(value, purpose="totp", bound_to=b"row 2")


@given(data=st.binary(max_size=100), bound_to=st.binary(max_size=20))
def test_a_data_key_opens_what_it_sealed(data: bytes, bound_to: bytes) -> None:
    value = crypto.seal_with(OTHER, data, bound_to=bound_to)

    assert crypto.unseal_with(OTHER, memoryview(value), bound_to=bound_to) == data


@given(position=st.integers(min_value=0), bit=st.integers(0, 7))
def test_an_altered_value_under_a_data_key_does_not_open(position: int, bit: int) -> None:
    value = bytearray(crypto.seal_with(OTHER, b"name", bound_to=b"event"))
    value[position % len(value)] ^= 1 << bit

    with pytest.raises(crypto.Unreadable):
        crypto.unseal_with(OTHER, bytes(value), bound_to=b"event")


def test_a_data_key_does_not_open_another_keys_or_another_places_value() -> None:
    value = crypto.seal_with(OTHER, b"name", bound_to=b"event")

    for key, place, data in [(OLD, b"event", value), (OTHER, b"else", value), (OTHER, b"event", value[:20])]:
        with pytest.raises(crypto.Unreadable):
            crypto.unseal_with(key, data, bound_to=place)


@pytest.mark.parametrize("length", range(29))
def test_a_truncated_value_under_a_data_key_does_not_open(length: int) -> None:
    value = crypto.seal_with(OTHER, b"", bound_to=b"event")

    with pytest.raises(crypto.Unreadable):
        crypto.unseal_with(OTHER, value[:length], bound_to=b"event")


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length: int, ring: Any) -> None:
    key = b"k" * length
    ring.MESTORE_MASTER_KEYS = {"k1": key}
    ring.MESTORE_PEPPER_KEYS = {"p1": key}

    with pytest.raises(ValueError, match="32 bytes"):
        crypto.seal_with(key, b"", bound_to=b"")
    with pytest.raises(ValueError, match="32 bytes"):
        crypto.DataKey(key)
    with pytest.raises(ValueError, match="32 bytes"):
        crypto.seal(b"", purpose="a", bound_to=b"")
    with pytest.raises(ValueError, match="32 bytes"):
        crypto.pepper("password")


def test_a_blind_index_is_stable_while_keys_are_added_and_found_while_they_are_dropped(ring: Any) -> None:
    before = crypto.blind_index("3001234567", purpose="phone")

    ring.MESTORE_MASTER_KEYS = ROTATED
    assert crypto.blind_index("3001234567", purpose="phone") == before
    oldest, newest = crypto.blind_indexes("3001234567", purpose="phone")
    assert oldest == before

    ring.MESTORE_MASTER_KEYS = AFTER_ROTATION
    assert crypto.blind_index("3001234567", purpose="phone") == newest
    assert newest != before


def test_blind_indexes_of_different_values_and_purposes_differ_and_need_the_key(ring: Any) -> None:
    index = crypto.blind_index("a", purpose="phone")

    others = {crypto.blind_index("b", purpose="phone"), crypto.blind_index("a", purpose="email")}
    ring.MESTORE_MASTER_KEYS = {"k1": OTHER}
    others.add(crypto.blind_index("a", purpose="phone"))
    assert len(others) == 3
    assert index not in others
    assert index != crypto.mac(b"a", purpose="phone")
    assert len(index) == 32


def test_a_mac_is_refused_for_other_data_another_purpose_and_another_key(ring: Any) -> None:
    tag = crypto.mac(b"event", purpose="audit")

    assert not crypto.verify_mac(b"event2", tag, purpose="audit")
    assert not crypto.verify_mac(b"event", tag, purpose="receipt")
    assert not crypto.verify_mac(b"event", tag[:-1], purpose="audit")
    assert not crypto.verify_mac(b"event", b"", purpose="audit")
    ring.MESTORE_MASTER_KEYS = AFTER_ROTATION
    assert not crypto.verify_mac(b"event", tag, purpose="audit")


def test_a_mac_verifies_with_every_key_still_in_the_ring(ring: Any) -> None:
    old = crypto.mac(b"event", purpose="audit")
    ring.MESTORE_MASTER_KEYS = ROTATED
    new = crypto.mac(b"event", purpose="audit")

    assert old != new
    assert crypto.verify_mac(b"event", old, purpose="audit")
    assert crypto.verify_mac(b"event", memoryview(new), purpose="audit")


def test_a_prepared_key_is_never_used_up(race: Callable[[Sequence[Callable[[], Any]]], list[Any]]) -> None:
    """Threads go on from the same prepared key at the same moment: each has a MAC of its own text alone."""
    texts = [b"event %d" % number for number in range(200)]

    answers = race([lambda: [crypto.mac(text, purpose="audit") for text in texts]] * 8)

    expected = [hmac.digest(derived("mac", "audit"), text, "sha256") for text in texts]
    assert answers == [expected] * 8


def test_the_pepper_uses_the_current_key_unless_told_and_refuses_unknown_keys() -> None:
    assert crypto.pepper("pässword") == ("k2", hmac.digest(NEW, "pässword".encode(), "sha256"))
    assert crypto.pepper("pässword", "k1") == ("k1", hmac.digest(OLD, "pässword".encode(), "sha256"))
    with pytest.raises(crypto.Unreadable):
        crypto.pepper("pässword", "k3")


def test_a_password_with_a_lone_surrogate_is_only_another_password() -> None:
    assert crypto.pepper("\ud800") != crypto.pepper("\ud801")


@given(a=st.text(), b=st.text())
def test_equal_compares_like_the_ordinary_operator(a: str, b: str) -> None:
    assert crypto.equal(a, b) == (a == b)
    assert crypto.equal(a, a.encode("utf-8", "surrogatepass"))
    assert not crypto.equal(a, a + "x")


def test_digest_is_sha_256() -> None:
    assert crypto.digest(b"abc") == hashlib.sha256(b"abc").digest()


@given(one=PARTS, other=PARTS)
def test_different_parts_never_bind_alike(one: list[Any], other: list[Any]) -> None:
    alike = [(type(part), part) for part in one] == [(type(part), part) for part in other]

    assert (crypto.row_binding(*one) == crypto.row_binding(*other)) == alike


@given(PARTS, st.integers(0, 600))
def test_a_binding_is_type_length_and_bytes_of_each_part(parts: list[Any], length: int) -> None:
    written: dict[type, Callable[[Any], tuple[bytes, bytes]]] = {
        str: lambda part: (b"s", part.encode("utf-8", "surrogatepass")),
        bytes: lambda part: (b"b", part),
        uuid.UUID: lambda part: (b"u", part.bytes),
        int: lambda part: (b"i", str(part).encode()),
    }
    parts = [*parts, "é" * length, b"x" * length, 10**length]

    expected = b""
    for part in parts:
        kind, data = written[type(part)](part)
        expected += kind + len(data).to_bytes(4, "big") + data
    assert crypto.row_binding(*parts) == expected


@given(text=st.text(min_size=1), cut=st.integers(0, 20))
def test_moving_the_border_between_two_parts_changes_the_binding(text: str, cut: int) -> None:
    at = cut % len(text)

    assert crypto.row_binding(text, "") != crypto.row_binding(text[:at], text[at:])


def test_a_number_its_text_its_bytes_and_a_uuid_bind_differently() -> None:
    key = uuid.UUID(int=1)

    bindings = {crypto.row_binding(part) for part in (1, "1", b"1", key, str(key), key.bytes)}
    assert len(bindings) == 6


@pytest.mark.parametrize("part", [True, False, 1.0, None, memoryview(b"x")])
def test_other_types_cannot_be_bound(part: Any) -> None:
    with pytest.raises(TypeError):
        crypto.row_binding(part)
