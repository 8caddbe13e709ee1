"""WSGI entry point: `granian --interface wsgi mestore.wsgi:application`.

The server hands every request an `environ` that begins as a copy of the process environment. Left as it
is, every secret of the process would be in `request.META`, and a process variable named `HTTP_X` would
look like a request header. Only what a request may carry is let through.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable
from typing import Any, Final

import django
from django.conf import settings
from django.core.cache import close_caches
from django.core.signals import request_finished, request_started
from django.db import reset_queries
from django.urls import get_resolver

from mestore.handler import Handler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mestore.settings")

_CGI_NAMES = frozenset(
    {
        "REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "CONTENT_TYPE", "CONTENT_LENGTH",
        "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "REMOTE_ADDR", "REMOTE_PORT",
    }
)  # fmt: skip
_OPAQUE: Final = "application/octet-stream"
_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_LONGEST_CONTENT_TYPE: Final = 1_000
# Names, not values: a variable of the process never becomes a header, whatever the request says.
_PROCESS_NAMES = frozenset(name for name in os.environ if name.startswith("HTTP_"))

django.setup(set_prefix=False)
_django = Handler()
# Around each request Django walks over all connections and caches of the thread to forget logged statements,
# of which there are some in debug mode alone, and to close caches: ours keeps its connections (django-redis).
if not settings.DEBUG:
    request_started.disconnect(reset_queries)
request_finished.disconnect(close_caches)
# What the first request would load (addresses, views, serializers) is loaded before there is one, and what
# lives as long as the process is taken out of the garbage collector's rounds.
_ = get_resolver().reverse_dict
gc.collect()
gc.freeze()


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer one request, seeing only the request's own variables."""
    # By slices: with a call for each name of the process's environment this was a twentieth of a request.
    request = {
        name: value
        for name, value in environ.items()
        if name in _CGI_NAMES
        or (prefix := name[:5]) == "wsgi."
        or (prefix == "HTTP_" and name not in _PROCESS_NAMES)
    }
    if ";" in (content_type := request.get("CONTENT_TYPE", "")):
        request["CONTENT_TYPE"] = readable_content_type(content_type)
    return _django(request, start_response)


def readable_content_type(value: str) -> str:
    """Return a content type the framework may follow; one that asks for another charset becomes opaque.

    Django decodes the query and forms in whatever codec the client names, before any middleware: `rot13` or
    `undefined` there is an error that nobody catches, `unicode_escape` smuggles in what the parsers refuse.
    """
    for parameter in value.split(";")[1:]:
        name, _equals, given = parameter.partition("=")
        name = name.strip().lower()
        # RFC 2231 writes `name*=charset'language'value`: the same choice by another door.
        if name.endswith("*") or (name == "charset" and given.strip(" \t\"'").lower() not in _CHARSETS):
            return _OPAQUE
    return value if len(value) <= _LONGEST_CONTENT_TYPE else _OPAQUE
