"""The API reference as a page: made from the OpenAPI schema on the server, so that no script is needed."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from drf_spectacular.generators import SchemaGenerator

from mestore.lib import errors

METHODS = ("get", "post", "put", "patch", "delete")


@cache
def _operations() -> list[dict[str, Any]]:
    """Return the operations of the schema, in path order. The schema cannot change while the process runs."""
    generator: Any = SchemaGenerator  # the library has no types
    schema: dict[str, Any] = generator().get_schema(request=None, public=True)
    components = schema.get("components", {})
    return [
        _operation(path, method, item[method], components)
        for path, item in sorted(schema["paths"].items())
        for method in METHODS
        if method in item
    ]


def _operation(
    path: str, method: str, operation: dict[str, Any], components: dict[str, Any]
) -> dict[str, Any]:
    content: dict[str, Any] = operation.get("requestBody", {}).get("content", {})
    body: dict[str, Any] = next(iter(content.values()), {})
    schema: dict[str, Any] = body.get("schema", {})
    return {
        "method": method.upper(),
        "path": path,
        "anchor": f"{method}{path}".strip("/").replace("/", "-").replace("{", "").replace("}", ""),
        "summary": operation.get("summary", ""),
        "description": operation.get("description", ""),
        "open": {} in operation.get("security", []),
        "parameters": operation.get("parameters", []),
        "fields": _fields(schema, components),
        "answers": sorted(operation.get("responses", {})),
    }


def _fields(schema: dict[str, Any], components: dict[str, Any]) -> list[dict[str, Any]]:
    reference = schema.get("$ref", "")
    if reference:
        schema = components.get("schemas", {}).get(reference.rsplit("/", 1)[-1], {})
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "type": field.get("type", "object"),
            "required": name in required,
            "about": field.get("description", ""),
        }
        for name, field in schema.get("properties", {}).items()
    ]


def reference(request: HttpRequest) -> HttpResponse:
    """Show every operation with its parameters and answers."""
    return render(request, "console/api_docs.html", {"operations": _operations()})


def error_codes(request: HttpRequest) -> HttpResponse:
    """Show every error code with its status and sentence, straight from the classes that raise them."""
    return render(request, "console/api_errors.html", {"codes": sorted(_codes().items())})


def _codes() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    waiting: list[type[errors.MeStoreError]] = [errors.MeStoreError]
    while waiting:
        kind = waiting.pop()
        waiting.extend(kind.__subclasses__())
        if kind is not errors.MeStoreError:
            found.setdefault(kind.code, {"status": kind.status, "message": kind.message})
    return found
