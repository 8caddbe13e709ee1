from __future__ import annotations

import pytest

from accounts import passwords
from accounts.passwords import UnacceptablePassword


@pytest.mark.parametrize(
    ("password", "with_factor", "error_type"),
    [
        ("", False, "too_short"),
        ("a" * 14, False, "too_short"),
        ("\U0001f600" * 14, False, "too_short"),
        ("a" * 7, True, "too_short"),
        ("a" * 129, False, "too_long"),
        ("a" * 129, True, "too_long"),
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
        ("a" * 15, False),
        (" " * 15, False),
        ("\U0001f600" * 128, False),
        ("\x00" * 15, False),
        ("a" * 8, True),
        ("no rules of composition here", False),
    ],
)
def test_length_is_the_only_rule(password: str, with_factor: bool) -> None:
    stored = passwords.hash_new(password, with_factor=with_factor)

    assert passwords.matches(password, stored)
