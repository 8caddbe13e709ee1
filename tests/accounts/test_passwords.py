"""New passwords: length, lists, context words; and the lists themselves."""

from __future__ import annotations

import hashlib
import io
import random
import re
import string
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as live_settings
from django.core.management import CommandError, call_command

from accounts import breached, password_rules, passwords
from accounts.passwords import UnacceptablePassword


def reason(password: str, **options: Any) -> str:
    """The kind of reason for which a password is refused; "" when it is accepted."""
    try:
        passwords.check_new(password, **options)
    except UnacceptablePassword as refused:
        return (refused.details or ())[0].error_type
    return ""


# Wrong cases


@pytest.mark.parametrize(
    ("password", "with_factor", "error_type"),
    [
        ("", False, "too_short"),
        ("k7-verde-luna!"[:14], False, "too_short"),
        ("\U0001f600" * 14, False, "too_short"),
        ("k7-luna", True, "too_short"),
        ("a" * 129, False, "too_long"),
        ("a" * 129, True, "too_long"),
        ("x" * 1_000_000, False, "too_long"),
        ("a" * 20 + "\ud800", False, "not_text"),
    ],
)
def test_password_that_breaks_a_rule_is_refused_with_the_rule(
    password: str, with_factor: bool, error_type: str
) -> None:
    with pytest.raises(UnacceptablePassword) as refused:
        passwords.hash_new(password, with_factor=with_factor)

    assert refused.value.status == 422
    assert refused.value.details is not None
    assert [detail.error_type for detail in refused.value.details] == [error_type]
    if password:
        assert password not in str(refused.value.details)


@pytest.mark.parametrize(
    ("password", "with_factor"),
    [
        ("zvkqwlxnbrtymcd", False),
        ("               azul", False),
        ("\U0001f600" * 15, False),
        ("\U0001f600" * 128, False),
        ("\x00" * 15, False),
        ("k7-verde", True),
        ("no rules of composition here", False),
        ("x7" + "z" * 126, False),
        ("' OR 1=1; DROP TABLE users; --", False),
    ],
)
def test_length_and_not_being_guessable_are_the_only_rules(password: str, with_factor: bool) -> None:
    stored = passwords.hash_new(password, with_factor=with_factor)

    assert passwords.matches(password, stored)


def test_password_is_compared_exactly_as_given() -> None:
    password = "Luna verde 7 " + "y" * 70 + "Z" + "w" * 44
    stored = passwords.hash_new(password)

    assert len(password) == 128
    wrong = [password.swapcase(), password.strip() + " ", f" {password}", password[:-1], password[:72]]
    changed_far_back = password[:83] + "z" + password[84:]
    assert not any(passwords.matches(text, stored) for text in [*wrong, changed_far_back])


def test_accent_typed_as_two_code_points_is_the_same_letter() -> None:
    stored = passwords.hash_new("cami\N{LATIN SMALL LETTER O WITH ACUTE}n de la sierra")

    assert passwords.matches("camio\N{COMBINING ACUTE ACCENT}n de la sierra", stored)
    assert not passwords.matches("camion de la sierra", stored)


# Known passwords


@pytest.mark.parametrize(
    "password",
    [
        "passwordpassword",
        "PASSWORDpassword",
        "password12345678",
        "qwertyuiopasdfgh",
        "1qaz2wsx3edc4rfv",
        "123456789012345",
        "aaaaaaaaaaaaaaa",
        "abcdefghijklmnopqrstuvwxyz",
        "iloveyouforever",
        "contraseña123456",
        "te amo para siempre",
        "diosesamor12345",
        "manchesterunited",
        "correcthorsebatterystaple",
        "ｐａｓｓｗｏｒｄｐａｓｓｗｏｒｄ",
    ],
)
def test_known_password_is_refused_and_the_reason_says_so(password: str) -> None:
    assert reason(password) == "known"


def test_every_sampled_entry_of_the_list_is_refused() -> None:
    long = sorted(entry for entry in breached.common() if len(entry) >= 15)

    for entry in random.Random(7).sample(long, 100):
        assert reason(entry) == "known", entry


def test_short_known_password_is_refused_beside_a_factor_too() -> None:
    assert reason("football", with_factor=True) == "known"
    assert reason("12345678", with_factor=True) == "known"


def test_list_has_three_thousand_entries_of_fifteen_characters() -> None:
    assert sum(len(entry) >= 15 for entry in breached.common()) >= 3_000


def test_list_is_what_its_sources_give() -> None:
    call_command("build_password_list", check=True, stdout=io.StringIO())


def test_list_is_written_by_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = breached.LIST.read_text(encoding="utf-8")
    monkeypatch.setattr(breached, "LIST", tmp_path / "list")
    with pytest.raises(CommandError):
        call_command("build_password_list", check=True)

    call_command("build_password_list", stdout=io.StringIO())

    assert breached.LIST.read_text(encoding="utf-8") == shipped


def test_missing_source_is_named_and_nothing_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breached, "LIST", tmp_path / "list")
    monkeypatch.setattr(breached, "ROOTS", tmp_path / "away")

    with pytest.raises(CommandError, match="away"):
        call_command("build_password_list")

    assert not breached.LIST.exists()


@pytest.mark.parametrize("content", [None, "", "# heading\nfew\nwords\n", b"\xff\xfe"])
def test_list_that_is_away_or_cut_accepts_nothing(
    content: str | bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breached, "LIST", tmp_path / "list")
    if content is not None:
        breached.LIST.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(breached.PasswordListAway) as refused:
        passwords.check_new("a password that is fine")

    assert refused.value.status == 503
    with pytest.raises(breached.PasswordListAway):
        breached.check()


def test_no_entry_of_the_rules_is_random_filler() -> None:
    roots = {"words": ["dragon"], "names": ["maria"], "affection": ["teamo"], "phrases": ["dios es amor ya"]}

    made = password_rules.passwords(roots, ["short", "long enough"])

    assert {"dragondragondragon", "mariateamo" + "1" * 0} & made == {"dragondragondragon"}
    assert "long enough" in made
    assert "short" not in made
    assert all(len(entry) >= 15 for entry in made - {"long enough"})


# Leaks that an operator loads


def dump(*entries: tuple[str, int]) -> bytes:
    hashed = sorted(
        (hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().upper(), count)
        for text, count in entries
    )
    return b"".join(f"{digest}:{count}\r\n".encode() for digest, count in hashed)


@pytest.fixture
def leaks(tmp_path: Path, settings: Any) -> Path:
    target = tmp_path / "leaked"
    settings.BREACHED_PASSWORDS = str(target)
    return target


def load(tmp_path: Path, content: bytes, **options: Any) -> str:
    source = tmp_path / "dump.txt"
    source.write_bytes(content)
    out = io.StringIO()
    call_command("load_breached_passwords", str(source), stdout=out, stderr=io.StringIO(), **options)
    return out.getvalue()


def test_leaked_password_is_refused_and_others_are_not(leaks: Path, tmp_path: Path) -> None:
    many = [(f"some leaked password {number}", 3) for number in range(1_000)]

    said = load(tmp_path, dump(*many, ("a rare leaked password", 1)), minimum_count=2)

    assert "1000" in said
    assert all(reason(text) == "known" for text, _count in many)
    assert reason("a rare leaked password") == ""
    assert reason("some leaked password 1000") == ""


def test_loaded_file_that_is_away_cut_or_something_else_accepts_nothing(leaks: Path, tmp_path: Path) -> None:
    load(tmp_path, dump(("one leaked password", 1), ("two leaked passwords", 1)))
    whole = leaks.read_bytes()

    for content in (whole[:-1], whole + b"x", b"", b"something else entirely", b"MSHIBP01" + bytes(8)):
        leaks.write_bytes(content)
        with pytest.raises(breached.PasswordListAway):
            passwords.check_new("a password that is fine")
    leaks.unlink()
    with pytest.raises(breached.PasswordListAway):
        breached.check()
    leaks.write_bytes(whole)
    breached.check()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a hash\n",
        b"0" * 39 + b":1\n",
        b"0" * 10_000,
        b"F" * 40 + b":1\n" + b"0" * 40 + b":1\n",
    ],
)
def test_what_is_no_dump_leaves_the_older_file_alone(content: bytes, leaks: Path, tmp_path: Path) -> None:
    load(tmp_path, dump(("one leaked password", 1)))

    with pytest.raises(CommandError):
        load(tmp_path, content)

    assert reason("one leaked password") == "known"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dump.txt", "leaked"]


def test_loading_says_what_is_missing(tmp_path: Path, settings: Any) -> None:
    settings.BREACHED_PASSWORDS = ""
    with pytest.raises(CommandError, match="output"):
        call_command("load_breached_passwords", "dump.txt")
    with pytest.raises(CommandError):
        call_command("load_breached_passwords", str(tmp_path / "away"), output=str(tmp_path / "leaked"))


def test_dump_may_come_from_standard_input_and_be_limited(
    leaks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = io.BytesIO(dump(*((f"leaked password {number}", 1) for number in range(10))))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(lines))

    call_command("load_breached_passwords", "-", limit=4, stdout=io.StringIO())

    assert leaks.stat().st_size == 16 + 4 * 8


def test_memory_does_not_grow_with_the_dump(leaks: Path, tmp_path: Path) -> None:
    lines = b"".join(b"%040X:1\n" % (number << 100) for number in range(100_000))

    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    source = tmp_path / "dump.txt"
    source.write_bytes(lines)
    tracemalloc.reset_peak()
    call_command("load_breached_passwords", str(source), stdout=io.StringIO())
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()

    assert peak < 1_000_000


# Words of the account


WORDS = passwords.context("ana.restrepo77@tiendaluna.co", "Ana María", "Restrepo Gómez", "Luna Lunera")


@pytest.mark.parametrize(
    "password",
    [
        "mestore-mestore-2026",
        "MeStore Marketplace!",
        "ana.restrepo77@tiendaluna.co",
        "anarestrepo77 2026!!",
        "Ana María Restrepo Gómez",
        "restrepo.gomez.1990",
        "LunaLunera 01-01-1990",
        "tiendaluna-tiendaluna",
        "ANA123RESTREPO456",
    ],
)
def test_password_made_of_words_of_the_account_is_refused_with_the_reason(password: str) -> None:
    assert reason(password, context=WORDS) == "guessable"


@pytest.mark.parametrize(
    "password",
    ["ana restrepo tiene un gato", "mestore is where i work", "20261125 19900101", "---- !!! ----.,"],
)
def test_word_within_a_longer_password_does_no_harm(password: str) -> None:
    assert reason(password, context=WORDS) == ""


def test_service_words_count_without_knowing_anybody() -> None:
    assert reason("mestore mestore 1") == "guessable"


def test_documented_words_are_the_enforced_ones() -> None:
    text = Path(live_settings.BASE_DIR, "docs", "security-policy.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("| of this service |"))

    assert tuple(re.findall(r"`([^`]+)`", line)) == passwords.SERVICE_WORDS
    for word in passwords.SERVICE_WORDS:
        assert reason(f"{word} {word} {word} 1") in {"guessable", "known"}, word


def test_segmentation_of_a_hostile_password_is_quick() -> None:
    words = frozenset("a" * size for size in range(3, 100))

    assert not passwords.is_guessable("a" * 127 + "b", words)
    assert passwords.is_guessable("a" * 128, words)


def test_every_character_counts_toward_the_length() -> None:
    for character in string.printable:
        assert reason(character * 14) == "too_short"
