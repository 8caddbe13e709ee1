from __future__ import annotations

import pytest

from accounts import phones


@pytest.mark.parametrize(
    "text",
    ["", "3", "300123456", "30012345678", "2001234567", "+5730012345", "58300123456", "３００１２３４５６７",
     "+573001234567x", "٣٠٠١٢٣٤٥٦٧", "3001234567\x00"],
)  # fmt: skip
def test_what_is_no_colombian_mobile_is_refused_and_the_field_named(text: str) -> None:
    with pytest.raises(phones.InvalidPhone) as caught:
        phones.colombian_mobile(text, field="phone")

    assert caught.value.details
    assert caught.value.details[0].field == "body -> phone"


@pytest.mark.parametrize(
    "text", ["3001234567", "573001234567", "+573001234567", " +57 300 123-4567 ", "(300) 123.45.67"]
)
def test_spellings_of_one_mobile_number_are_one(text: str) -> None:
    assert phones.colombian_mobile(text, field="phone") == "+573001234567"
    assert phones.international(text, field="phone") == "+573001234567"


def test_numbers_of_other_countries_need_their_country() -> None:
    assert phones.international("+34 600 123 456", field="phone") == "+34600123456"

    for text in ("600123456", "+0123456789", "+1", "+" + "1" * 16):
        with pytest.raises(phones.InvalidPhone):
            phones.international(text, field="phone")
