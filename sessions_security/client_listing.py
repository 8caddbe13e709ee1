"""What may be shown of machine accounts: who they are, what they may do, never what they sign in with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Prefetch, Q, QuerySet
from django.utils import timezone

from accounts.models import Grant
from sessions_security.models import ClientKey, MachineClient


@dataclass(frozen=True, slots=True)
class Listed:
    """A client, its public keys in force, and the permissions granted to it: those are its scopes."""

    client: MachineClient
    kids: tuple[str, ...]
    permissions: tuple[str, ...]


def everything() -> list[Listed]:
    """Return all clients, the newest first. Three statements."""
    return [_listed(client) for client in _told(MachineClient.objects.order_by("-pk"))]


def one(client: MachineClient) -> Listed:
    """Return what may be shown of `client`. Three statements."""
    return _listed(_told(MachineClient.objects.filter(pk=client.pk)).get())


def plain(listed: Listed) -> dict[str, Any]:
    """Return `listed` for programs: texts, truths and lists only."""
    client = listed.client
    overlap, seen = client.previous_key_until, client.user.last_login
    return {
        "client_id": client.client_id,
        "is_active": client.is_active and client.user.is_active,
        "method": client.method,
        "requires_dpop": client.requires_dpop,
        "networks": list(client.networks),
        "public_keys": list(listed.kids),
        "permissions": list(listed.permissions),
        "created_at": client.created_at.isoformat(),
        "last_sign_in": seen.isoformat() if seen else None,
        "former_key_works_until": overlap.isoformat() if overlap and overlap > timezone.now() else None,
    }


def _told(rows: QuerySet[MachineClient]) -> QuerySet[MachineClient]:
    now = timezone.now()
    in_force = Grant.objects.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)
    return rows.select_related("user").prefetch_related(
        Prefetch("keys", ClientKey.objects.filter(revoked_at=None).order_by("created_at", "kid")),
        Prefetch("user__grants", in_force.select_related("permission").order_by("permission__name")),
    )


def _listed(client: MachineClient) -> Listed:
    return Listed(
        client,
        tuple(key.kid for key in client.keys.all()),
        tuple(grant.permission.name for grant in client.user.grants.all()),
    )
