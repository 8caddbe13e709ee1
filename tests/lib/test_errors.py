"""What each error says to a client."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from django.utils import translation

from mestore.lib import errors

EXPECTED = {
    errors.BadRequest: (400, "BAD_REQUEST"),
    errors.Unauthorized: (401, "UNAUTHORIZED"),
    errors.Forbidden: (403, "FORBIDDEN"),
    errors.NotFound: (404, "NOT_FOUND"),
    errors.MethodNotAllowed: (405, "METHOD_NOT_ALLOWED"),
    errors.Conflict: (409, "CONFLICT"),
    errors.LengthRequired: (411, "LENGTH_REQUIRED"),
    errors.PayloadTooLarge: (413, "PAYLOAD_TOO_LARGE"),
    errors.UnsupportedMediaType: (415, "UNSUPPORTED_MEDIA_TYPE"),
    errors.Unprocessable: (422, "VALIDATION_ERROR"),
    errors.TooManyRequests: (429, "TOO_MANY_REQUESTS"),
    errors.InternalError: (500, "INTERNAL_SERVER_ERROR"),
    errors.SecurityServiceFailure: (503, "SECURITY_SERVICE_FAILURE"),
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_each_meaning_has_its_status_its_code_and_a_sentence(kind: type[errors.MeStoreError]) -> None:
    error = kind()

    assert (error.status, error.code) == EXPECTED[kind]
    assert HTTPStatus(error.status)
    assert str(error).endswith(".")
    assert error.details is None
    assert error.extra == {}


def test_a_given_sentence_replaces_the_default_in_one_error_only() -> None:
    assert str(errors.NotFound("This order does not exist.")) == "This order does not exist."
    assert str(errors.NotFound()) != "This order does not exist."


def test_the_sentence_is_in_the_language_of_its_reader_not_of_its_raiser() -> None:
    with translation.override("es"):
        error = errors.Forbidden()

    with translation.override("en"):
        assert str(error) == "You may not do this."


def test_unauthorized_names_the_scheme_unless_told_another() -> None:
    assert errors.Unauthorized().headers == {"WWW-Authenticate": "Bearer"}
    assert errors.Unauthorized(headers={"WWW-Authenticate": "Basic"}).headers == {"WWW-Authenticate": "Basic"}


@pytest.mark.parametrize(("given", "sent"), [(None, "1"), (7, "7"), (0, "1"), (-3, "1")])
def test_too_many_requests_says_when_to_come_back_and_never_at_once(given: int | None, sent: str) -> None:
    assert errors.TooManyRequests(retry_after=given).headers["Retry-After"] == sent


def test_a_security_service_that_is_away_asks_for_five_seconds() -> None:
    error = errors.SecurityServiceFailure(headers={"X-Other": "1"})

    assert error.headers == {"Retry-After": "5", "X-Other": "1"}
    assert error.retry_after == 5


def test_details_headers_and_extra_are_copies_of_what_was_given() -> None:
    fields = [errors.FieldError("body -> email", "Not an address.", "value_error")]
    headers, extra = {"A": "b"}, {"methods": ["totp"]}
    error = errors.Unprocessable(details=fields, headers=headers, extra=extra)
    fields.clear()
    headers.clear()
    extra.clear()

    assert error.details == (errors.FieldError("body -> email", "Not an address.", "value_error"),)
    assert error.headers == {"A": "b"}
    assert error.extra == {"methods": ["totp"]}
