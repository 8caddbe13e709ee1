"""The rules by which the shipped list of guessable passwords is made; `build_password_list` writes it.

A password of fifteen characters is rarely a single word: what people make of it is a walk over the keyboard,
a series, one thing repeated, two usual things side by side, a usual thing with a usual ending, or a phrase.
Each rule below is one of these, applied to `data/password_roots.txt`; what attackers try first comes first.
To them come the entries of eight characters and more of the list of leaked passwords that Django ships.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, product

SHORTEST = 8
"""Shorter ones are refused for their length."""
LONG = 15
LONGEST_MADE = 32

ROWS = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")
SPANISH_ROWS = ("1234567890", "qwertyuiop", "asdfghjklñ", "zxcvbnm")
COLUMNS = ("1qaz", "2wsx", "3edc", "4rfv", "5tgb", "6yhn", "7ujm", "8ik", "9ol", "0p")
PAIRS = ("1q", "2w", "3e", "4r", "5t", "6y", "7u", "8i", "9o", "0p")
KEYPAD = ("147", "258", "369")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "1234567890"
YEARS = tuple(str(year) for year in range(1950, 2031))
ENDINGS = (
    "1", "12", "123", "1234", "12345", "123456", "1234567", "12345678", "123456789", "1234567890", "0", "00",
    "000", "01", "007", "10", "11", "13", "21", "22", "23", "69", "77", "88", "99", "111", "321", "54321",
    "123123", "!", "!!", "!!!", "1!", "123!", "1234!", "12345!", ".", "..", "...", "*", "@", "@123", "@1234",
    "#1", "_1", "_123", "-123", "2020", "2021", "2022", "2023", "2024", "2025", "2026", "2024!", "2025!",
    "2026!", "@2024", "@2025", "@2026", "abc", "abc123", "qwerty", "asdf", "xxx", "co", ".com", "123abc",
)  # fmt: skip
LEET = (
    str.maketrans("aeios", "43105"),
    str.maketrans("ao", "@0"),
)
MOST_USUAL = 60
"""So many words are combined with each other; all of them with endings."""


def folded(password: str) -> str:
    """Return the form in which passwords are compared with the list: compatible characters, no case."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", password).casefold())


def passwords(roots: Mapping[str, Sequence[str]], leaked: Iterable[str]) -> set[str]:
    """Return every entry of the list, in the form of `folded`."""
    made = chain(
        walks(), series(), repetitions(roots["words"]), with_endings(roots["words"]),
        pairs(roots["words"][:MOST_USUAL]), of_people(roots["names"], roots["affection"]),
        phrases(roots["phrases"]),
    )  # fmt: skip
    long = {folded(text) for text in made if LONG <= len(text) <= LONGEST_MADE}
    return long | {folded(text) for text in leaked if len(text) >= SHORTEST}


def walks() -> Iterator[str]:
    """Walks over the keyboard: rows, columns, zigzags, the keypad; there and back, from each start."""
    for parts in (ROWS, ROWS[1:], SPANISH_ROWS, COLUMNS, PAIRS, KEYPAD, [row[::-1] for row in ROWS]):
        for start in range(len(parts)):
            turned = [*parts[start:], *parts[:start]]
            there = "".join(turned) * 2
            back = "".join(part[::-1] for part in turned) * 2
            snake = "".join(part[::-1] if at % 2 else part for at, part in enumerate(turned)) * 2
            for line in (there, back, snake, there[::-1]):
                yield from (line[:size] for size in range(LONG, 25))
    for one, other in product(ROWS, ROWS):
        yield from (one + other, one + other[::-1], one[:6] + other[:6] + "123")


def series() -> Iterator[str]:
    """The alphabet and the digits, up and down, from their beginnings; and the two together."""
    for line in (LETTERS, LETTERS[::-1], DIGITS * 3, "0123456789" * 3, "9876543210" * 3, "0987654321" * 3):
        yield from (line[:size] for size in range(LONG, 31))
        yield from (line[at : at + size] for at in range(10) for size in range(LONG, 21))
    for size in range(3, 16):
        yield LETTERS[:size] + DIGITS
        yield DIGITS + LETTERS[:size]
        yield LETTERS[:size] + DIGITS[:size]
        yield DIGITS[:size] + LETTERS[:size]
        yield DIGITS[:size] + DIGITS[:size][::-1] + "0" * (LONG - 2 * size)


def repetitions(words: Sequence[str]) -> Iterator[str]:
    """One character, a year or a word, repeated until it is long enough, and once more."""
    for unit in chain(LETTERS, DIGITS, ".-_*!@#$%&+=?", YEARS, words, _two_and_three()):
        enough = -(-LONG // len(unit))
        yield from (unit * count for count in range(enough, enough + 6))
        yield (unit * LONG)[:LONG]


def _two_and_three() -> Iterator[str]:
    for size in (2, 3, 4):
        yield from (DIGITS[at : at + size] for at in range(10 - size))
        yield from (LETTERS[at : at + size] for at in range(27 - size))
    yield from (
        "10",
        "69",
        "007",
        "0123",
        "147",
        "258",
        "369",
        "159",
        "753",
        "321",
        "4321",
        "1212",
        "xyz",
        "qwe",
    )
    yield from ("asd", "zxc", "jaja", "haha", "lala", "lol", "hola")


def with_endings(words: Sequence[str]) -> Iterator[str]:
    """A word with a usual ending or beginning, as it is or with figures for letters."""
    for word in words:
        for form in (word, *(word.translate(table) for table in LEET)):
            yield form
            for ending in ENDINGS:
                yield form + ending
                if ending.isdigit() and form == word:
                    yield ending + form
            for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm"):
                yield form + row
        for year in YEARS:
            yield from (word + year, word + year + year, f"{word}@{year}", f"{word}{year}!")


def pairs(words: Sequence[str]) -> Iterator[str]:
    """Two usual words side by side, the second alone or with the shortest endings."""
    for one, other in product(words, words):
        yield from (one + other, f"{one}_{other}", f"{one} {other}", f"{one}{other}1", f"{one}{other}123")


def of_people(names: Sequence[str], affection: Sequence[str]) -> Iterator[str]:
    """Names with words of love, with each other and with dates."""
    for name, word in product(names, affection):
        yield from (name + word, word + name, f"{name}{word}1", f"{word}{name}1", f"{word} {name}")
    for one, other in product(names[:40], names[:40]):
        yield from (f"{one}y{other}", f"{one}{other}", f"{one} y {other}")
    for name in names:
        yield from (name + ending for ending in ENDINGS)
        yield from (name + name + ending for ending in ("", "1", "123"))
        yield from (name + year + year for year in YEARS)
        yield from (f"{name}{DIGITS}", f"{name}{DIGITS[:9]}")


def phrases(texts: Sequence[str]) -> Iterator[str]:
    """Well-known phrases, with any separator between their words, and with short endings."""
    for text in texts:
        for plain in {text, _without_accents(text)}:
            for separator in (" ", "", "-", "_", "."):
                joined = plain.replace(" ", separator)
                yield from (joined, joined + "1", joined + "123", joined + "!", joined + ".")


def _without_accents(text: str) -> str:
    parts = unicodedata.normalize("NFD", text)
    return "".join(part for part in parts if not unicodedata.combining(part))
