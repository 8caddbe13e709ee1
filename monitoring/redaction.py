"""Taking secrets out of what is about to be logged.

Two nets: names (a key that says it holds a secret loses its value) and shapes (a value that looks like a
secret is cut out of whatever text it hides in: a message, a header, a query string, SQL, an exception).
The nets may catch too much; that is the cheaper mistake.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any

REDACTED = "[redacted]"
MAX_TEXT = 8_192  # characters of one value; longer ones are cut
MAX_DEPTH = 8
MAX_ITEMS = 200

# Words that mean a secret wherever they stand in a name: newpassword, clientSecret, X-Api-Key.
_LONG_WORDS = (
    "password", "passwd", "passphrase", "secret", "token", "pepper", "authorization", "cookie", "credential",
    "api[_-]?key", "access[_-]?key", "private[_-]?key", "master[_-]?key", "signing[_-]?key",
    "session[_-]?key", "session[_-]?id", "backup[_-]?code", "recovery[_-]?code", "card[_-]?number",
    "assertion", "signature", "contrase(?:n|ñ)a",
)  # fmt: skip
# Words that do so only as a whole part of it: otp_code, but not hotpot; pan, but not span.
_SHORT_WORDS = ("pwd", "csrf", "otp", "totp", "mfa", "cvv", "cvc", "pan", "seed", "clave")
_WORDS = rf"(?:{'|'.join(_LONG_WORDS)}|(?<![a-z])(?:{'|'.join(_SHORT_WORDS)})s?(?![a-z]))"
_SECRET_NAME = re.compile(_WORDS, re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SAFE_NAMES = frozenset({"token_type", "session_id"})  # the id of a session is public; its key is not
# SQL parameters: nobody can tell which of them is a secret.
_WHOLE_NAMES = frozenset({"params", "sql_params", "code", "pin", "body", "query_string", "args"})

_NAMED_VALUE = re.compile(
    rf"""(?ix)
    (?P<name> [\w.-]{{0,40}} {_WORDS} [\w.-]{{0,40}} )
    (?P<mark> ["']? \s* (?:=>|[:=]|%3[ad]) \s* )
    (?: (?P<quote>["']) (?: \\. | (?!(?P=quote)) . )* (?P=quote)?
      | (?:(?:bearer|basic|token)\s+)? [^\s"'&;,)}}\]]+ )
    """
)
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL),
        REDACTED,
    ),
    (re.compile(r"(?i)otpauth(?:-migration)?(?:://|%3a%2f%2f)[^\s\"']+"), REDACTED),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,30}://)[^\s/@\"']+@"), rf"\1{REDACTED}@"),
    (re.compile(r"\beyJ[\w-]{4,}\.[\w-]+(?:\.[\w-]*){1,3}"), REDACTED),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{4,}"), rf"\1 {REDACTED}"),
    # PostgreSQL's details repeat the values of a row.
    (re.compile(r"(?s)(Key \([^)]*\))=\(.*?\)( already| is not|$)"), rf"\1=({REDACTED})\2"),
    (re.compile(r"(?s)(Failing row contains) \(.*\)"), rf"\1 ({REDACTED})"),
    (re.compile(r"(?<![\w.+-])[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"), "[e-mail]"),
)
_DIGITS = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")
_LITERAL = re.compile(r"'(?:[^']|'')*'?")
# A text without any of these, and without a secret's name and a colon, matches no shape: most texts.
_TELLTALE = re.compile(r"[=@]|eyJ|(?i:bearer|basic|otpauth|%3[ad])|\d(?:[ -]?\d){12}|Failing row|-----BEGIN")
_OURS = frozenset({"at", "level", "logger"})  # written by the way out itself


def text(value: str) -> str:
    """Return `value` without what looks like a secret in it."""
    if len(value) > MAX_TEXT:
        value = f"{value[:MAX_TEXT]}…"
    if not _TELLTALE.search(value) and not (":" in value and _SECRET_NAME.search(value)):
        return value
    for pattern, replacement in _SHAPES:
        value = pattern.sub(replacement, value)
    value = _NAMED_VALUE.sub(rf"\g<name>\g<mark>{REDACTED}", value)
    return _DIGITS.sub(_hide_card, value)


def statement(sql: str) -> str:
    """Return SQL without its literals: parameters may have been written into the text."""
    return text(_LITERAL.sub("?", sql))


@lru_cache(maxsize=2_048)
def is_secret_name(name: str) -> bool:
    """Return whether a value called `name` must not be shown whatever it looks like."""
    if name in _SAFE_NAMES:
        return False
    if name in _WHOLE_NAMES:
        return True
    # camelCase becomes parts first, so that the word's edges can be seen.
    return _SECRET_NAME.search(_CAMEL.sub("_", name)) is not None


def redact(value: Any, depth: int = 0) -> Any:
    """Return `value` in types that JSON can carry, with every secret in it replaced."""
    if value is None or isinstance(value, bool | int | float):
        return _number(value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {
            text(str(name)): REDACTED
            if is_secret_name(str(name)) and item not in (None, "")
            else redact(item, depth + 1)
            for name, item in list(value.items())[:MAX_ITEMS]
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth + 1) for item in list(value)[:MAX_ITEMS]]
    return text(str(value))


def processor(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The last step before a log line is written (structlog's processor signature)."""
    for name, value in event.items():
        if name in _OURS:
            continue
        if is_secret_name(name) and value not in (None, ""):
            event[name] = REDACTED
        else:
            event[name] = redact(value)
    return event


def _number(value: Any) -> Any:
    # A bare card number does not become harmless by being an integer.
    if isinstance(value, int) and not isinstance(value, bool) and 10**12 <= value < 10**19:
        written = text(str(value))
        return value if written == str(value) else written
    return value


def _hide_card(match: re.Match[str]) -> str:
    digits = [int(character) for character in match.group() if character.isdecimal()]
    odd, even = digits[-1::-2], digits[-2::-2]
    checksum = sum(odd) + sum(sum(divmod(2 * digit, 10)) for digit in even)
    return "[card number]" if checksum % 10 == 0 else match.group()
