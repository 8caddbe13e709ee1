"""Lists of accounts that cost the same at a thousand and at a million: indexed orders, bounded counts.

A page is found by number up to ten thousand rows, beyond that by cursor. `total` is exact to ten thousand,
then the planner's estimate. Every order ends in the id and has an index of its own (see the migration).
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from django.db.models import Count, Exists, F, IntegerField, Model, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce, Collate, Upper
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User, VendorProfile
from accounts.roles import STAFF, Role
from accounts.users import identifier
from mestore.lib import errors, sql

COUNTED: Final = 10_000
SEARCHED: Final = 1_000
# No text that begins with another comes after that other with this letter behind it.
_LAST = "\U0010ffff"
RECENT = dt.timedelta(days=30)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""What stands for the last sign-in of those who never signed in."""
_SIZE_OF_TABLE = "SELECT reltuples FROM pg_class WHERE oid = 'accounts_user'::regclass"
# Up to here every figure is counted; beyond, the planner is asked.
_EXACT_ROWS = 50_000


class CursorInvalid(errors.Unprocessable):
    message = _("The cursor is not one that was given out.")


def _moment(text: str) -> dt.datetime:
    # A moment without a zone compares with none that has one: TypeError.
    return max(dt.datetime.fromisoformat(text), EPOCH)


def _text(text: str) -> str:
    if "\x00" in text:
        raise ValueError("NUL")
    return text


def _truth(text: str) -> bool:
    return {"True": True, "False": False}[text]


@dataclass(frozen=True, slots=True)
class Order:
    """One way to order a list. `key` is never NULL, so a row is never skipped between two pages; `read`
    takes it from a cursor and raises ValueError, TypeError or KeyError for what it never was."""

    key: Any
    read: Callable[[str], Any]
    falls: bool = False

    def sorted(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return `rows` in this order."""
        ordered: QuerySet[Any] = rows.annotate(order_key=self.key)
        if self.falls:
            return ordered.order_by(F("order_key").desc(), F("pk").desc())
        return ordered.order_by("order_key", "pk")


_CREATED = F("created_at")
# In the order of bytes, which is the one order in which an index finds beginnings, too.
_EMAIL = Collate(Coalesce("email_key", Value("")), "C")
_LAST_LOGIN = Coalesce("last_login", Value(EPOCH))
ORDERS: Final[Mapping[str, Order]] = {
    "created_at_desc": Order(_CREATED, _moment, falls=True),
    "created_at_asc": Order(_CREATED, _moment),
    "email_asc": Order(_EMAIL, _text),
    "email_desc": Order(_EMAIL, _text, falls=True),
    "last_login_desc": Order(_LAST_LOGIN, _moment, falls=True),
    "last_login_asc": Order(_LAST_LOGIN, _moment),
    "user_type": Order(F("user_type"), _text),
    "is_active": Order(F("is_active"), _truth, falls=True),
}
_SIGNED_IN_AT: Final = "signed_in_at"
_NEWEST_SHOP = Order(F("user_id"), UUID, falls=True)
STATUSES: Final[Mapping[str, Q]] = {
    "all": Q(),
    "active": Q(is_active=True),
    "inactive": Q(is_active=False),
    "verified": Q(account_verified=True),
    "unverified": Q(account_verified=False),
    "email_verified": Q(email_verified=True),
    "phone_verified": Q(phone_verified=True),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which accounts, in which order, and which page of them."""

    search: str = ""
    email: str = ""
    status: str = "all"
    narrowed: Mapping[str, Any] = field(default_factory=dict)
    deleted: bool = False
    order: str = "created_at_desc"
    skip: int = 0
    size: int = 20
    cursor: str | None = None

    @property
    def offset(self) -> int:
        """How many rows come before the page; a cursor says that itself."""
        return 0 if self.cursor else self.skip

    @property
    def page(self) -> int:
        """The number of the page, from 1."""
        return self.offset // self.size + 1


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list. `next_cursor` is None on the last one."""

    rows: Sequence[Any]
    total: int
    total_is_estimate: bool
    has_previous: bool
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Statistics:
    """How many accounts there are of which kind; deleted ones do not count."""

    figures: Mapping[str, int]
    is_estimate: bool


_FIGURES: Final[Mapping[str, Q]] = {
    "total_users": Q(),
    "total_vendors": Q(user_type=Role.VENDOR),
    "total_buyers": Q(user_type=Role.BUYER),
    "total_admins": Q(user_type=Role.ADMIN),
    "total_superusers": Q(user_type=Role.SUPERUSER),
    "verified_users": Q(account_verified=True),
    "active_users": Q(is_active=True),
    "inactive_users": Q(is_active=False),
}


def page_of_users(wanted: Wanted) -> Page:
    """Return one page of accounts with their shops. Raises CursorInvalid."""
    rows = User.objects.filter(deleted_at__isnull=not wanted.deleted).filter(STATUSES[wanted.status])
    rows = _narrowed(rows, wanted.narrowed)
    if wanted.email:
        rows = rows.filter(email_key=identifier(wanted.email))
    rows, found = _found(rows, wanted.search)
    detailed = User.objects.select_related("vendor_profile").defer("password")
    return page_of(rows, detailed, ORDERS[wanted.order], wanted, known=found)


def _narrowed(rows: QuerySet[User], narrowed: Mapping[str, Any]) -> QuerySet[User]:
    """Return the rows that the filters leave; one statement more where times of the last sign-in are among
    them.

    The planner takes a range of those times for commoner than it is, and would walk the whole table in the
    order of the list for the few rows of it. So few are taken from their index first; more than SEARCHED
    are left to the walk, which soon meets them.
    """
    times = {name: value for name, value in narrowed.items() if name.startswith(_SIGNED_IN_AT)}
    rows = rows.filter(**{name: value for name, value in narrowed.items() if name not in times})
    if not times:
        return rows
    in_range = User.objects.alias(signed_in_at=_LAST_LOGIN).filter(**times).order_by(_SIGNED_IN_AT, "pk")
    few = list(in_range.values_list("pk", flat=True)[: SEARCHED + 1])
    if len(few) <= SEARCHED:
        return rows.filter(pk__in=few)
    return rows.alias(signed_in_at=_LAST_LOGIN).filter(**times)


def signed_in(rows: QuerySet[User], *, before: dt.datetime) -> QuerySet[User]:
    """Return those of `rows` whose last sign-in was before a moment, never that of nobody."""
    return rows.alias(signed_in_at=_LAST_LOGIN).filter(signed_in_at__gt=EPOCH, signed_in_at__lt=before)


def never_signed_in(rows: QuerySet[User]) -> QuerySet[User]:
    """Return those of `rows` that never signed in."""
    return rows.alias(signed_in_at=_LAST_LOGIN).filter(signed_in_at=EPOCH)


def capped_counts(lists: Sequence[QuerySet[User]]) -> list[int]:
    """Return how many rows each of `lists` has, COUNTED + 1 for more than that. One statement."""
    counts = [_CappedCount(rows.order_by().values("pk")[: COUNTED + 1]) for rows in lists]
    names = {f"count_{number}": count for number, count in enumerate(counts)}
    # One row of any account carries them; without accounts there is nothing to count.
    found = list(User.objects.order_by().annotate(**names).values_list(*names)[:1])
    return list(found[0]) if found else [0] * len(lists)


def page_of_staff(wanted: Wanted) -> Page:
    """Return one page of administrators and superusers. Raises CursorInvalid."""
    narrowed = {"user_type__in": sorted(STAFF), **wanted.narrowed}
    return page_of_users(
        Wanted(
            search=wanted.search, email=wanted.email, status=wanted.status, narrowed=narrowed,
            order=wanted.order, skip=wanted.skip, size=wanted.size, cursor=wanted.cursor,
        )
    )  # fmt: skip


def page_of_vendors(wanted: Wanted, *, status: str | None) -> Page:
    """Return one page of shops with their accounts, newest first. Raises CursorInvalid."""
    shops = (
        VendorProfile.objects.all() if status is None else VendorProfile.objects.filter(vendor_status=status)
    )
    detailed = VendorProfile.objects.select_related("user").defer("user__password")
    if wanted.search:
        people = User.objects.filter(Exists(shops.filter(pk=OuterRef("pk"))), deleted_at__isnull=True)
        found, count = _found(people, wanted.search)
        chosen = VendorProfile.objects.filter(pk__in=found.values("pk"))
        return page_of(chosen, detailed, _NEWEST_SHOP, wanted, known=count)
    # Few are deleted: looking those up is cheaper than looking every living one up.
    gone = User.objects.filter(pk=OuterRef("pk"), deleted_at__isnull=False)
    return page_of(shops.filter(~Exists(gone)), detailed, _NEWEST_SHOP, wanted)


def page_of(
    rows: QuerySet[Any], detailed: QuerySet[Any], order: Order, wanted: Wanted, *, known: int | None = None
) -> Page:
    """Return one page of `rows` with what `detailed` reads along, in one statement; in two or three when it
    is empty or there are too many to count. `known`: how many a search found.
    """
    capped = rows.order_by().values("pk")[: COUNTED + 1]
    count = _CappedCount(capped) if known is None else Value(known)
    chosen = order.sorted(rows)
    if wanted.cursor:
        chosen = chosen.filter(_after(wanted.cursor, order))
    # Which rows are on the page is found first: what is left out is not joined with anything.
    ids = chosen.values("pk")[wanted.offset : wanted.offset + wanted.size + 1]
    found = order.sorted(detailed.filter(pk__in=ids)).annotate(found=count)
    read = list(found)
    shown = read[: wanted.size]
    total = int(read[0].found) if read else capped.count() if known is None else known
    is_estimate = total > COUNTED
    return Page(
        rows=shown,
        total=max(_estimates([rows])[0], total) if is_estimate else total,
        total_is_estimate=is_estimate or (known or 0) >= SEARCHED,
        has_previous=bool(wanted.cursor) or (wanted.offset > 0 and total > 0),
        next_cursor=_cursor(shown[-1]) if len(read) > wanted.size else None,
    )


def statistics(*, now: dt.datetime | None = None) -> Statistics:
    """Count accounts by kind: exactly in a table of ordinary size, by the planner's knowledge in a huge one.

    Two statements, whatever the size.
    """
    recent = Q(created_at__gt=(now or timezone.now()) - RECENT)
    figures = {
        **_FIGURES,
        "pending_vendors": Q(vendor_profile__vendor_status=VendorProfile.Status.PENDING_APPROVAL),
        "recent_registrations": recent,
    }
    living = User.objects.filter(deleted_at__isnull=True)
    row = sql.fetch_one(_SIZE_OF_TABLE)
    if row is not None and row[0] > _EXACT_ROWS:
        estimated = _estimates([living.filter(condition) for condition in figures.values()])
        return Statistics(dict(zip(figures, estimated, strict=True)), is_estimate=True)
    counted = living.aggregate(
        **{name: Count("pk", filter=condition or None) for name, condition in figures.items()}
    )
    return Statistics(counted, is_estimate=False)


class _CappedCount(Subquery):
    """Counts at most as many rows as the inner queryset's slice: constant cost whatever the table's size."""

    template = "(SELECT count(*) FROM (%(subquery)s) AS capped)"
    output_field = IntegerField()


def _found(rows: QuerySet[User], text: str) -> tuple[QuerySet[User], int | None]:
    """Return the rows whose address or name begins with `text`, or whose id it is; and how many they are.

    One statement finds them in the indexes, SEARCHED of each kind at most, in the order of the alphabet: what
    a search costs does not depend on how many people have a common name. Who is not found types one letter
    more.
    """
    if not text:
        return rows, None
    parts = [_beginning(rows, _EMAIL, Value(identifier(text)), Value(identifier(text) + _LAST))]
    for column in ("nombre", "apellido"):
        key = Collate(Upper(column), "C")
        parts.append(_beginning(rows, key, Upper(Value(text)), Upper(Value(text + _LAST))))
    with suppress(ValueError):
        parts.append(rows.filter(pk=UUID(text)).values_list("pk", flat=True))
    ids = set(parts[0].union(*parts[1:], all=True))
    return User.objects.filter(pk__in=ids), len(ids)


def _beginning(rows: QuerySet[User], key: Any, first: Any, last: Any) -> QuerySet[Any]:
    """The ids of the first SEARCHED rows whose key lies between the two, in its order."""
    keyed: QuerySet[Any] = rows.annotate(found_by=key).filter(found_by__gte=first, found_by__lt=last)
    return keyed.order_by("found_by", "pk").values_list("pk", flat=True)[:SEARCHED]


def _estimates(querysets: Sequence[QuerySet[Any]]) -> list[int]:
    """Ask the planner, which knows without counting, about all of them in one statement."""
    marked = [
        rows.order_by().annotate(mark=Value(number, IntegerField())).values("mark")
        for number, rows in enumerate(querysets)
    ]
    asked = marked[0].union(*marked[1:], all=True) if len(marked) > 1 else marked[0]
    plan = json.loads(asked.explain(format="json", verbose=True))[0]["Plan"]
    found: dict[int, int] = {}
    _collect(plan, found)
    return [found.get(number, 0) for number in range(len(querysets))]


def _collect(node: Mapping[str, Any], found: dict[int, int]) -> None:
    """Read the number of rows of each part, which is known by the constant that it puts out."""
    output = node.get("Output") or []
    if len(output) == 1 and output[0].isdigit():
        found.setdefault(int(output[0]), int(node["Plan Rows"]))
        return
    for inner in node.get("Plans", ()):
        _collect(inner, found)


def _cursor(row: Model) -> str:
    key: Any = row.order_key  # type: ignore[attr-defined]  # annotated by the order
    text = json.dumps([key.isoformat() if isinstance(key, dt.datetime) else str(key), str(row.pk)])
    return base64.urlsafe_b64encode(text.encode()).decode("ascii").rstrip("=")


def _after(cursor: str, order: Order) -> Q:
    """Read a cursor: the key and the id of the last row that was shown."""
    try:
        text = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode()
        key_text, id_text = json.loads(text)
        key, row_id = order.read(str(key_text)), UUID(str(id_text))
    except (ValueError, TypeError, KeyError, binascii.Error):
        raise CursorInvalid(
            details=[errors.FieldError("query -> cursor", CursorInvalid.message, "cursor_invalid")]
        ) from None
    word = "lt" if order.falls else "gt"
    # The first condition is redundant, and lets PostgreSQL begin its index scan at the cursor.
    return Q(**{f"order_key__{word}e": key}) & (
        Q(**{f"order_key__{word}": key}) | Q(order_key=key, **{f"pk__{word}": row_id})
    )
