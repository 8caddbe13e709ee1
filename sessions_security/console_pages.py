"""What the console's own pages share: where to go next, and the cookies that carry a flow of a stranger."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

LONGEST_NEXT = 2_000


def next_of(request: HttpRequest) -> str:
    """Return where to go afterwards: a path of this site, else the console's first page."""
    wanted = request.POST.get("next", request.GET.get("next", ""))
    inside = (
        len(wanted) <= LONGEST_NEXT
        and wanted.startswith("/")
        and url_has_allowed_host_and_scheme(wanted, allowed_hosts=None)
        and not wanted.startswith(reverse("admin:login"))
        and not wanted.startswith(reverse("admin:logout"))
    )
    return wanted if inside else reverse("admin:index")


def keep(response: HttpResponseBase, cookie: str, token: str, *, seconds: int) -> None:
    """Leave `token` in the browser where no script reads it and no other site makes it be sent."""
    response.set_cookie(cookie, token, max_age=seconds, secure=True, httponly=True, samesite="Strict")


def drop(response: HttpResponseBase, cookie: str) -> None:
    response.delete_cookie(cookie, samesite="Strict")
