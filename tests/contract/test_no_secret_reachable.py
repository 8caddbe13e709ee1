"""No console page gives a secret away: not by filter, order, search or export, directly or over a relation.

A hidden column that can be asked about is not hidden: `?secret__startswith=a` answers one character per
request. The walk below takes every registered model, every column of it and of what it points to, and asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.core.exceptions import ImproperlyConfigured
from django.db import models

from accounts.models import TotpDevice, User
from mestore.lib.console import ConsoleModelAdmin, Ordering, SearchField, is_secret
from tests.console import house
from tests.harness import cases

pytestmark = [
    pytest.mark.django_db(databases=["default", "audit"]),
    # Not for coverage: the same few lines thousands of times, which tests of single pages run as well.
    pytest.mark.no_cover,
]

REGISTERED: list[Any] = list(admin.site._registry)
NEVER_REGISTERED = {
    "accounts.BackupCode", "accounts.BackupCodeSet", "accounts.RecoveryCase",
    "sessions_security.StepUpProof", "accounts.TotpDevice", "accounts.LockoutCounter",
    "finance.IdempotencyKey", "monitoring.SubjectKey", "monitoring.AuditPending",
    "sessions_security.SessionSecret", "sessions_security.RefreshToken", "sessions_security.PendingSignIn",
    "sessions_security.SignInNotice", "sessions_security.UsedProof", "sessions_security.ClientKey",
    "sessions_security.SigningKey",
}  # fmt: skip
LOOKUPS = ("", "__exact", "__startswith", "__regex", "__gt", "__in", "__isnull", "__contains")
DEPTH = 3


def _url(model: Any) -> str:
    return f"/admin/{model._meta.app_label}/{model._meta.model_name}/"


def _declared_secret(model: type[models.Model]) -> tuple[str, ...]:
    page = admin.site._registry.get(model)
    return page.secret_fields if isinstance(page, ConsoleModelAdmin) else ()


def _paths(model: type[models.Model], depth: int = DEPTH, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Every column reachable from `model` in `depth` steps, and whether it is secret."""
    fields: list[Any] = list(model._meta.get_fields(include_hidden=True))
    for field in fields:
        if field.concrete and not field.many_to_many:
            yield f"{prefix}{field.name}", is_secret(field, _declared_secret(model))
        if field.is_relation and field.related_model and depth > 1:
            step = field.name if field.concrete else field.field.related_query_name()
            if not step.endswith("+"):
                yield from _paths(field.related_model, depth - 1, f"{prefix}{step}__")


def _secret_paths(model: type[models.Model]) -> list[str]:
    return sorted({path for path, secret in _paths(model) if secret})


def judge_each_model(check: Callable[[Any], None]) -> None:
    """All models in one console: filling it takes longer than asking."""
    cases.judge(REGISTERED, check, name=lambda model: model._meta.label)


@pytest.fixture
def eye(db: None) -> Any:
    """A superuser who may see everything the console can show."""
    house.fill(2)
    return house.visitor(superuser=True, permissions=(house.DANGEROUS,)).client


def test_walk_finds_the_secrets_it_is_about() -> None:
    reached = {path for model in REGISTERED for path in _secret_paths(model)}

    assert {
        "password",
        "user__password",
        "sessions__secret__key_hash",
        "key_hash",
        "user__machine_client__key_hash",
    } <= reached
    assert {"canon", "writer_mac", "pii_ct", "leaf_hash", "mac", "bound_key", "secret__key_hash"} <= reached
    assert "vendor__password" in reached


def test_models_that_hold_secrets_have_no_page() -> None:
    registered = {model._meta.label for model in REGISTERED}

    assert registered.isdisjoint(NEVER_REGISTERED)
    for label in NEVER_REGISTERED:
        assert apps.get_model(label)


def test_every_page_is_built_on_the_closed_base() -> None:
    assert REGISTERED
    for page in admin.site._registry.values():
        assert isinstance(page, ConsoleModelAdmin)


def test_no_secret_can_be_filtered_by(eye: Any) -> None:
    def check(model: Any) -> None:
        page: Any = admin.site.get_model_admin(model)
        paths = _secret_paths(model)
        bodies = set()
        for path, value in zip([*paths, *paths[:1]], cycle(("a", "zzzz")), strict=False):
            assert not any(page.lookup_allowed(f"{path}{lookup}", value, None) for lookup in LOOKUPS)
            answer = eye.get(_url(model), {f"{path}__startswith": value})
            assert answer.status_code == 400, path
            bodies.add(_body(answer))
        # Whatever was asked about, and whether or not there is such a value.
        assert len(bodies) == (1 if paths else 0)

    judge_each_model(check)


def test_no_undeclared_column_or_relation_can_be_filtered_by(eye: Any) -> None:
    def check(model: Any) -> None:
        page: Any = admin.site.get_model_admin(model)
        open_names = {*page.open_lookups, *(spec.parameter_name for spec in page.list_filter)}
        for path, _secret in _paths(model):
            for lookup in LOOKUPS:
                if f"{path}{lookup}" not in open_names:
                    assert not page.lookup_allowed(f"{path}{lookup}", "a", None), path
        assert eye.get(_url(model), {f"{model._meta.pk.name}__gt": "a"}).status_code == 400

    judge_each_model(check)


def test_no_secret_can_be_ordered_by(eye: Any) -> None:
    def check(model: Any) -> None:
        page: Any = admin.site.get_model_admin(model)
        own = {ordering.name for ordering in page.orderings}
        wanted = [*_secret_paths(model)[:12], *(str(number) for number in range(9)), "1.2", "-1.-2"]
        for name in wanted:
            for sign in ("", "-"):
                if f"{sign}{name}" not in own:
                    answer = eye.get(_url(model), {"o": f"{sign}{name}"})
                    assert (answer.status_code, answer["Location"]) == (302, f"{_url(model)}?e=1"), name

    judge_each_model(check)


def test_no_declaration_names_a_secret_or_related_column() -> None:
    def check(model: Any) -> None:
        page: Any = admin.site.get_model_admin(model)
        columns = {field.name for field in model._meta.concrete_fields} | {
            field.attname for field in model._meta.concrete_fields
        }
        for name in [searched.name for searched in page.search_in] + [
            lookup.partition("__")[0] for lookup in page.open_lookups
        ]:
            assert name in columns
            assert not is_secret(_field(model, name), page.secret_fields)
        for ordering in page.orderings:
            for column in ordering.columns:
                assert not is_secret(_field(model, column.lstrip("-")), page.secret_fields)

    judge_each_model(check)


def test_search_says_nothing_about_a_secret(eye: Any) -> None:
    def check(model: Any) -> None:
        row = model._default_manager.order_by("-pk").first()
        page: Any = admin.site.get_model_admin(model)
        for field in model._meta.concrete_fields:
            value = getattr(row, field.attname)
            if is_secret(field, page.secret_fields) and value:  # an empty search is the plain list
                text = bytes(value).hex() if isinstance(value, bytes | memoryview) else str(value)
                for term in (text, text[:12]):
                    answer = eye.get(_url(model), {"q": term})
                    assert answer.status_code == 200
                    assert '<table class="rows">' not in answer.content.decode(), field.name

    judge_each_model(check)


def test_secret_values_are_on_no_page_and_in_no_export(eye: Any) -> None:
    def check(model: Any) -> None:
        row = model._default_manager.order_by("-pk").first()
        page: Any = admin.site.get_model_admin(model)
        pages = (
            eye.get(_url(model)).content.decode() + eye.get(f"{_url(model)}{row.pk}/change/").content.decode()
        )
        shown = {
            "leaf_hash",
            "canon",
            "file_digest",
            "rule_hash",
        }  # evidence, printed on purpose for those who may see the trail; never asked about
        for field in model._meta.concrete_fields:
            value = getattr(row, field.attname)
            if is_secret(field, page.secret_fields) and value and field.name not in shown:
                text = bytes(value).hex() if isinstance(value, bytes | memoryview) else str(value)
                assert text not in pages, field.name

        for export in ("format", "export", "_export", "csv", "fields", "columns"):
            assert eye.get(_url(model), {export: "csv"}).status_code == 400
        assert eye.get(f"{_url(model)}export/").status_code == 404

    judge_each_model(check)


def test_popup_parameters_of_the_stock_admin_open_nothing(eye: Any) -> None:
    def check(model: Any) -> None:
        row = model._default_manager.order_by("-pk").first()
        secret = next(iter(_secret_paths(model)), "password")

        assert eye.get(_url(model), {"_to_field": secret}).status_code == 400
        with_field = eye.get(f"{_url(model)}{row.pk}/change/", {"_to_field": secret})
        assert with_field.status_code == 200  # not read at all
        assert eye.get(_url(model), {"_facets": "1", "all": ""}).status_code == 200

    judge_each_model(check)


def test_detail_is_found_by_its_primary_key_only(eye: Any) -> None:
    user = house.person()[0]

    assert eye.get(f"/admin/accounts/user/{user.email_key}/change/").status_code == 404


@pytest.mark.parametrize(
    "declared",
    [
        {"list_display": ("password",)}, {"sections": (("a", ("password",)),)},
        {"list_display": ("vendor_profile__city",)},
        {"open_lookups": ("password",)}, {"open_lookups": ("password__exact",)},
        {"open_lookups": ("ciudad__startswith",)}, {"open_lookups": ("grants__reason",)},
        {"open_lookups": ("unknown",)}, {"orderings": (Ordering("a", "a", ("password",)),)},
        {"orderings": (Ordering("a", "a", ("-last_login", "-pk")),)},
        {"orderings": (Ordering("a", "a", ("vendor_profile__city",)),)}, {"orderings": ()}, {"sections": ()},
        {"search_in": (SearchField("password"),)}, {"search_in": (SearchField("totpdevice__secret"),)},
        {"secret_fields": ("ciudad",)},
    ],
    ids=str,
)  # fmt: skip
def test_declaration_that_opens_a_closed_column_stops_the_start(declared: dict[str, Any]) -> None:
    sound: dict[str, Any] = {
        "list_display": ("ciudad",),
        "sections": (("a", ("ciudad",)),),
        "orderings": (Ordering("a", "a", ("-pk",)),),
    }
    assert type("Sound", (ConsoleModelAdmin,), sound)(User, admin.site)

    page = type("Unsound", (ConsoleModelAdmin,), sound | declared)
    with pytest.raises(ImproperlyConfigured):
        page(User, admin.site)


def test_site_refuses_our_models_on_another_base_and_leaves_out_those_of_others() -> None:
    class Loose(admin.ModelAdmin):  # type: ignore[type-arg]
        pass

    Loose.__module__ = "accounts.admin"
    with pytest.raises(ImproperlyConfigured):
        admin.site.register(TotpDevice, Loose)

    Loose.__module__ = "somebody.else"
    admin.site.register(TotpDevice, Loose)
    assert not admin.site.is_registered(TotpDevice)


def _field(model: Any, name: str) -> Any:
    return model._meta.pk if name == "pk" else model._meta.get_field(name)


def _body(answer: Any) -> str:
    """The page without what changes with every request."""
    return answer.content.decode().partition('<p class="second">')[0]  # type: ignore[no-any-return]
