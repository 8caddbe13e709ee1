"""Vendors of a marketplace: accounts that own orders and books here, and into which nobody can sign in.

A seller's account id is computed from source and seller, so that the same seller is the same vendor in every
file, on every machine, in every repeated run.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from django.contrib.auth.hashers import make_password
from django.db import transaction

from accounts.models import User, VendorProfile
from accounts.roles import Role
from mestore.lib import sql
from mestore.lib.actor import Actor
from monitoring import audit, events

from .staging import BATCH_LOCK, Staging

BATCH_VENDORS = 1_000

_NAMESPACE = uuid.UUID("6f1f0a3e-6d5b-5b0f-9d53-2f6b1f5f7c11")

_NEW = """
    CREATE TEMP TABLE import_new_seller AS
    SELECT row_number() OVER (ORDER BY s.line) AS seq, s.seller_id, s.postal_code, s.city, s.state
    FROM import_seller s
    WHERE NOT EXISTS (SELECT FROM accounts_user u
                      WHERE u.source = %s AND u.external_reference = s.seller_id)"""
_PART = """
    SELECT seller_id, postal_code, city, state FROM import_new_seller
    WHERE seq > %s AND seq <= %s ORDER BY seq"""


def vendor_id(source: str, seller: str) -> uuid.UUID:
    """The account id of a marketplace's seller."""
    return uuid.uuid5(_NAMESPACE, f"{source}\n{seller}")


def find_new(staging: Staging, *, source: str) -> int:
    """Put the sellers that have no account yet in a table of their own; how many they are."""
    staging.connection.execute(_NEW, [source])
    return int(staging.one("SELECT count(*) FROM import_new_seller")[0])


def create(
    staging: Staging, count: int, *, source: str, advance: Callable[[int], None], by: Actor,
    and_last: Callable[[], None],
) -> None:  # fmt: skip
    """Create the accounts that `find_new` found, a batch per transaction, the last one with `and_last`."""
    for start in range(0, count, BATCH_VENDORS):
        sellers = staging.all(_PART, [start, start + BATCH_VENDORS])
        with transaction.atomic():
            _write(sellers, source=source, by=by)
            if start + BATCH_VENDORS >= count:
                and_last()
        advance(len(sellers))


def _write(sellers: Sequence[tuple[Any, ...]], *, source: str, by: Actor) -> None:
    sql.fetch_one("SELECT pg_advisory_xact_lock(%s)", [BATCH_LOCK])
    users = [_user(source, seller, city) for seller, _, city, _ in sellers]
    User.objects.bulk_create(users)
    VendorProfile.objects.bulk_create(
        VendorProfile(
            user=user,
            vendor_status=VendorProfile.Status.APPROVED,
            business_name=f"{source} {seller}",
            city=city,
            state=state,
            postal_code=postal_code,
        )
        for user, (seller, postal_code, city, state) in zip(users, sellers, strict=True)
    )
    audit.record_many(
        [
            audit.Entry(
                events.VENDOR_IMPORTED,
                by=by,
                target=("vendor", str(user.pk)),
                data={"source": source, "reference": user.external_reference},
            )
            for user in users
        ]
    )


def _user(source: str, seller: str, city: str) -> User:
    # No address and no password: nobody can sign in, and no mail is sent, until an administrator gives the
    # owner credentials.
    return User(
        id=vendor_id(source, seller),
        password=make_password(None),
        user_type=Role.VENDOR,
        security_clearance_level=1,
        ciudad=city,
        source=source,
        external_reference=seller,
    )
