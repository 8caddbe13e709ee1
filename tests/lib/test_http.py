"""One error shape, a strict reader, an exact writer, paths with and without a slash."""

from __future__ import annotations

import enum
import io
import json
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import NoReverseMatch, Resolver404, URLResolver, include, path
from django.urls.resolvers import RegexPattern
from django.utils import translation
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from mestore.lib import errors, http

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=10)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**30), 10**30), TEXT),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=15,
)


class TestProblem:
    def answer(
        self, error: errors.MeStoreError, at: str = "/api/v1/orders/7?token=secret"
    ) -> tuple[Any, dict[str, Any]]:
        request = RequestFactory().get(at)
        request.request_id = "req_00c0ffee"  # type: ignore[attr-defined]  # set by the middleware
        response = http.problem(error, request=request)
        return response, json.loads(response.content)

    def test_it_has_the_members_of_the_rfc_and_those_that_old_clients_read(self) -> None:
        response, body = self.answer(errors.NotFound("This order does not exist."))

        moment = body.pop("timestamp")
        assert datetime.fromisoformat(moment).utcoffset() == timedelta(0)
        assert body == {
            "type": "/api/docs/errors#NOT_FOUND",
            "title": body["title"],
            "status": 404,
            "detail": "This order does not exist.",
            "instance": "/api/v1/orders/7",
            "error_code": "NOT_FOUND",
            "error_message": "This order does not exist.",
            "details": None,
            "message": body["message"],
            "request_id": "req_00c0ffee",
        }
        assert response.status_code == 404
        assert response["Content-Type"] == "application/problem+json"
        assert response["Cache-Control"] == "no-store"

    def test_texts_come_in_the_readers_language(self) -> None:
        with translation.override("en"):
            _response, body = self.answer(errors.NotFound())

        assert body["title"] == "Not found"
        assert body["detail"] == "There is nothing here."
        assert body["message"] == "HTTP error 404 at /api/v1/orders/7"

    def test_the_query_is_never_repeated(self) -> None:
        response, _body = self.answer(errors.BadRequest())

        assert b"secret" not in response.content

    def test_field_errors_are_listed(self) -> None:
        field = errors.FieldError("body -> email", gettext_lazy("Not found"), "value_error")
        with translation.override("en"):
            _response, body = self.answer(errors.Unprocessable(details=[field]))

        assert body["details"] == [
            {"field": "body -> email", "message": "Not found", "error_type": "value_error"}
        ]

    @pytest.mark.parametrize(
        ("named", "told"),
        [("reason", "body -> reason"), ("body", "body"), ("query -> size", "query -> size")],
    )
    def test_a_bare_field_is_one_of_the_body(self, named: str, told: str) -> None:
        _response, body = self.answer(errors.Unprocessable(details=[errors.FieldError(named, "x", "y")]))

        assert [detail["field"] for detail in body["details"]] == [told]

    def test_headers_and_members_of_the_error_are_passed_on_but_fixed_members_stay(self) -> None:
        extra = {"methods": ["totp"], "status": 200, "error_code": "OK"}
        response, body = self.answer(errors.Unauthorized(extra=extra, headers={"X-More": "1"}))

        assert body["methods"] == ["totp"]
        assert (body["status"], body["error_code"]) == (401, "UNAUTHORIZED")
        assert response["WWW-Authenticate"] == "Bearer"
        assert response["X-More"] == "1"

    def test_a_status_without_a_title_of_ours_has_the_standard_phrase(self) -> None:
        class Teapot(errors.MeStoreError):
            status = 418
            code = "TEAPOT"

        _response, body = self.answer(Teapot())

        assert body["title"] == "I'm a Teapot"

    def test_a_request_that_the_middleware_never_saw_has_an_id_that_says_so(self) -> None:
        response = http.problem(errors.BadRequest(), request=RequestFactory().get("/"))

        assert json.loads(response.content)["request_id"] == "req_00000000"

    @given(st.text(max_size=600))
    def test_any_path_gives_a_short_ascii_reference(self, text: str) -> None:
        request = RequestFactory().get("/")
        request.path = "/" + text
        body = json.loads(http.problem(errors.NotFound(), request=request).content)

        assert body["instance"].isascii()
        assert len(body["instance"]) <= 512
        assert not set(body["instance"]) & set('<>"\\ \r\n?#')

    def test_every_status_of_an_error_class_has_a_translated_title(self) -> None:
        found = [errors.MeStoreError]
        for kind in found:
            found += kind.__subclasses__()
        ours = {kind.status for kind in found if kind.__module__ == errors.__name__}

        assert ours <= set(http._TITLES)


class TestParseJson:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b" ",
            b"{",
            b"[1,]",
            b"{'a': 1}",
            b"01",
            b"+1",
            b".5",
            b"1.",
            b"1_000",
            b'"\t"',
            b"[1] x",
            b"\xef\xbb\xbf{}",
            "{}".encode("utf-16"),
            b'"\xff"',
            b'"\xed\xa0\x80"',
            b'{"a": 1, "a": 1}',
            b'[{"x": {"a": 1, "\\u0061": 2}}]',
            b"NaN",
            b'{"a": Infinity}',
            b"[-Infinity]",
            b'"\\u0000"',
            b'{"a\\u0000": 1}',
            b'["\\ud800"]',
            b'{"a": ["\\udfff x"]}',
            b"[" * 33 + b"]" * 33,
            b"[" * 100_000,
            b'{"a":' * 50_000,
            b'{"a":' * 33 + b"1" + b"}" * 33,
            b"1" * 65,
            b"-" + b"1" * 5_000,
            b"[0." + b"1" * 70 + b"]",
            b"1e" + b"9" * 100,
        ],
    )
    def test_what_is_not_strict_json_is_refused_with_a_sentence(self, body: bytes) -> None:
        with pytest.raises(errors.BadRequest) as caught:
            http.parse_json(body)

        assert caught.value.status == 400
        assert str(caught.value)
        assert caught.value.__cause__ is None

    def test_a_syntax_error_says_where(self) -> None:
        with translation.override("en"), pytest.raises(errors.BadRequest, match="line 2, column 8"):
            http.parse_json(b'{\n  "a": x}')

    @pytest.mark.parametrize(
        "literal", ["0.1", "1.50", "-0.0", "1e400", "1E-3", "123456789012345678.99", "0e0"]
    )
    def test_a_fraction_or_an_exponent_stays_the_text_that_was_sent(self, literal: str) -> None:
        value = http.parse_json(b'{"amount": [%s]}' % literal.encode())["amount"][0]

        assert type(value) is http.JsonNumber
        assert value == literal

    def test_a_text_is_not_taken_for_a_number(self) -> None:
        assert type(http.parse_json(b'"1.50"')) is str

    @pytest.mark.parametrize(
        ("body", "value"), [(b"-12", -12), (b"9" * 64, 10**64 - 1), (b"0", 0), (b"-0", 0)]
    )
    def test_whole_numbers_are_exact_integers(self, body: bytes, value: int) -> None:
        parsed = http.parse_json(body)

        assert type(parsed) is int
        assert parsed == value

    def test_escapes_of_storable_characters_are_read(self) -> None:
        assert http.parse_json(b'"\\u00e9\\ud83d\\ude00\\n"') == "é😀\n"

    def test_nesting_up_to_the_bound_and_many_brackets_side_by_side_are_read(self) -> None:
        assert http.parse_json(b"[" * 32 + b"]" * 32)
        assert http.parse_json(b"[" * 31 + b"1" + b"]" * 31)
        assert http.parse_json(b"[" + b"[]," * 500 + b"{}]")[500] == {}
        assert http.parse_json(b'"' + b"[" * 1_000 + b'"') == "[" * 1_000

    @given(VALUES)
    def test_what_the_standard_library_writes_is_read_back(self, value: Any) -> None:
        assert http.parse_json(json.dumps(value).encode()) == value
        assert http.parse_json(json.dumps(value, ensure_ascii=False, indent=1).encode()) == value

    @given(
        st.one_of(st.binary(max_size=60), st.text('[]{}",:\\ue0123456789.-+aN', max_size=60).map(str.encode))
    )
    def test_any_bytes_are_either_read_or_refused(self, body: bytes) -> None:
        try:
            value = http.parse_json(body)
        except errors.BadRequest:
            return

        assert http.dumps(value)

    def test_the_parser_for_views_is_as_strict(self) -> None:
        parser = http.StrictJSONParser()

        assert parser.media_type == "application/json"
        assert parser.parse(io.BytesIO(b'{"a": 1.0}')) == {"a": "1.0"}
        with pytest.raises(errors.BadRequest):
            parser.parse(io.BytesIO(b'{"a": 1, "a": 2}'))


class TestDumps:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (Decimal("150.75"), "150.75"),
            (Decimal("1.10"), "1.10"),
            (Decimal("1E+3"), "1000"),
            (Decimal("0.0000001"), "0.0000001"),
            (Decimal("12345678901234567890.123456789"), "12345678901234567890.123456789"),
            (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
            (datetime(2026, 1, 31, 12, 0, tzinfo=UTC), '"2026-01-31T12:00:00Z"'),
            (
                datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=timezone(timedelta(hours=-5))),
                '"2026-01-31T17:00:00.000005Z"',
            ),
            (date(2026, 1, 31), '"2026-01-31"'),
            (enum.Enum("State", {"OPEN": "open"}).OPEN, '"open"'),  # type: ignore[attr-defined]  # functional form
            ("é €", '"é €"'),
            ((1, [2]), "[1,[2]]"),
            ({"a": None, "b": True}, '{"a":null,"b":true}'),
            ("\ud800", '"\\ud800"'),
        ],
    )
    def test_each_type_has_one_form(self, value: Any, text: str) -> None:
        assert http.dumps(value) == text.encode()

    @given(st.integers(-(10**20), 10**20), st.integers(0, 4))
    def test_digits_at_hand_are_written_like_the_amount(self, whole: int, decimals: int) -> None:
        digits = f"{whole}.{'7' * decimals}" if decimals else str(whole)

        assert http.dumps({"a": http.exact(digits)}) == http.dumps({"a": Decimal(digits)})

    def test_a_text_for_later_is_written_in_the_active_language(self) -> None:
        with translation.override("en"):
            assert http.dumps({"title": gettext_lazy("Not found")}) == b'{"title":"Not found"}'

    @pytest.mark.parametrize(
        "value",
        [
            float("nan"),
            float("inf"),
            Decimal("NaN"),
            Decimal("-Infinity"),
            datetime(2026, 1, 1),  # noqa: DTZ001 - that it is naive is the point
            {1, 2},
            b"bytes",
            object(),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_what_has_no_json_form_is_refused(self, value: Any) -> None:
        for place in (value, {"a": [value]}):
            with pytest.raises((TypeError, ValueError)):
                http.dumps(place)

    @given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20))
    def test_an_amount_is_a_number_literal_that_reads_back_exactly(self, amount: Decimal) -> None:
        written = http.dumps({"amount": amount}).decode()

        assert json.loads(written, parse_float=Decimal, parse_int=Decimal)["amount"] == amount
        assert "e" not in written.lower()

    @given(VALUES)
    def test_what_is_written_is_read_back(self, value: Any) -> None:
        assert http.parse_json(http.dumps(value)) == value

    def test_the_renderer_writes_the_same_bytes_and_nothing_for_no_content(self) -> None:
        renderer = http.ExactJSONRenderer()

        assert renderer.media_type == "application/json"
        assert renderer.render({"amount": Decimal("0.10")}) == b'{"amount":0.10}'
        assert renderer.render(None) == b""


def view(_request: Any, **_kwargs: Any) -> HttpResponse:
    return HttpResponse("here")


class TestPathBoth:
    resolver = URLResolver(
        RegexPattern(r"^/"),
        [
            path(
                "api/",
                include(
                    [
                        http.path_both("login", view, name="login", kwargs={"fixed": 1}),
                        http.path_both("orders/", view, name="orders"),
                        http.path_both("orders/<int:id>", view, name="order"),
                        http.path_both("users/<uuid:id>/", view, name="user"),
                        http.path_both("names/<str:name>", view, name="named"),
                    ]
                ),
            ),
            path("alias", include([http.path_both("", view, name="alias")])),
        ],
    )

    @pytest.mark.parametrize(
        "name", ["login", "orders", "orders/5", f"users/{uuid.UUID(int=1)}", "names/ana"]
    )
    def test_both_forms_reach_the_view_with_the_same_arguments(self, name: str) -> None:
        without, with_slash = self.resolver.resolve(f"/api/{name}"), self.resolver.resolve(f"/api/{name}/")

        assert without.func is with_slash.func is view
        assert without.kwargs == with_slash.kwargs
        assert without.url_name == with_slash.url_name

    def test_an_empty_route_behind_a_prefix_without_slash_has_both_forms(self) -> None:
        assert self.resolver.resolve("/alias").url_name == "alias"
        assert self.resolver.resolve("/alias/").url_name == "alias"

    def test_converters_and_fixed_arguments_reach_the_view(self) -> None:
        assert self.resolver.resolve("/api/orders/5/").kwargs == {"id": 5}
        assert self.resolver.resolve("/api/login/").kwargs == {"fixed": 1}

    @pytest.mark.parametrize(
        "path_",
        [
            "/api/login//",
            "/api/orders//",
            "/api/orders/x",
            "/api/logins",
            "/api/names/a/b",
            "/api//login",
            "/alias//",
        ],
    )
    def test_nothing_else_matches(self, path_: str) -> None:
        with pytest.raises(Resolver404):
            self.resolver.resolve(path_)

    def test_a_name_reverses_to_the_form_that_was_written(self) -> None:
        assert self.resolver.reverse("orders") == "api/orders/"
        assert self.resolver.reverse("order", id=5) == "api/orders/5"
        assert self.resolver.reverse("login", fixed=1) == "api/login"
        with pytest.raises(NoReverseMatch):
            self.resolver.reverse("order", id="x")
