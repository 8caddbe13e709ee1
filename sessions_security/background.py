"""Requests that a page or a program makes by itself: they are no sign that anybody is there.

Such a request neither counts as use of its session nor prolongs it, so a page that looks after news does not
keep somebody signed in who went away (OWASP ASVS 5, 7.3.1). Claiming it shortens a session and never more.
"""

from __future__ import annotations

import re
from typing import Any, Final

from django.conf import settings

HEADER: Final = "HTTP_X_BACKGROUND"
"""A program says `X-Background: 1`."""
# A page of the console that loads itself again has the parameter `refresh`. Looked for in the text: what is
# asked after the answer is made must not raise over a query that nobody could read.
_REFRESH: Final = re.compile(r"(?:^|&)refresh=")


def is_background(request: Any) -> bool:
    """Say whether `request` was made without a person: by its header, its address, or its route."""
    base = getattr(request, "_request", request)
    if base.META.get(HEADER, "").strip() == "1":
        return True
    if base.path.startswith("/admin/") and _REFRESH.search(base.META.get("QUERY_STRING", "")):
        return True
    match = base.resolver_match
    return match is not None and match.view_name in settings.BACKGROUND_ROUTES
