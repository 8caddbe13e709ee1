"""Machine accounts: programs that sign in with a key of their own, from networks named beforehand."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence

from django.db import transaction
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from accounts.roles import Role
from mestore.lib import crypto, errors
from mestore.lib.actor import Actor
from monitoring import audit, events
from sessions_security import session_check
from sessions_security.models import MachineClient

_NO_KEY = bytes(32)  # compared with when the client is unknown, so that both refusals do the same work


class InvalidClient(errors.Unauthorized):
    """Unknown client, wrong key or closed account: the same words for all of them."""

    code = "INVALID_CLIENT"
    message = _("The client's credentials are not valid.")

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": 'Basic realm="token"'})


class NetworkNotAllowed(errors.Forbidden):
    """The key is right, the address is outside the client's networks."""

    code = "CLIENT_NETWORK_NOT_ALLOWED"
    message = _("This client may not call from this address.")


class InvalidNetworks(errors.Unprocessable):
    """No network was given, or one is not a CIDR block."""

    message = _("Name at least one valid network (CIDR).")


def create(name: str, *, networks: Sequence[str], by: Actor) -> tuple[MachineClient, str]:
    """Create a machine account and return it with its key, which is shown this once and never again.

    Raises `InvalidNetworks`.
    """
    allowed = _canonical(networks)
    client_id = f"{name}-{secrets.token_hex(4)}"
    key = secrets.token_urlsafe(32)
    with transaction.atomic():
        user = User.objects.create_unaddressed(
            source="machine", external_reference=client_id, role=Role.SYSTEM, fields={"nombre": name}
        )
        client = MachineClient(
            client_id=client_id, key_hash=crypto.digest(key.encode()), user=user, networks=allowed
        )
        client.save(force_insert=True)
        audit.record(
            events.CLIENT_CREATED, by=by, target=("machine_client", str(client.pk)), subject=str(user.pk),
            data={"client_id": client_id, "networks": allowed},
        )  # fmt: skip
    return client, key


def authenticate(client_id: str, key: str, *, by: Actor) -> MachineClient:
    """Return the client whose key this is. Raises `InvalidClient`, `NetworkNotAllowed`; recorded."""
    with session_check.database_guard():
        client = MachineClient.objects.select_related("user").filter(client_id=client_id).first()
    matches = crypto.equal(
        crypto.digest(key.encode("utf-8", "surrogatepass")), bytes(client.key_hash) if client else _NO_KEY
    )
    if client is None or not matches or not _is_open(client):
        _refuse(client, "credentials", by)
        raise InvalidClient
    if not session_check.address_allowed(by.address, client.networks):
        _refuse(client, "network", by)
        raise NetworkNotAllowed
    return client


def _is_open(client: MachineClient) -> bool:
    user = client.user
    return client.is_active and user.is_active and user.deleted_at is None and user.user_type == Role.SYSTEM


def _canonical(networks: Sequence[str]) -> list[str]:
    try:
        parsed = [str(ipaddress.ip_network(network.strip())) for network in networks]
    except ValueError:
        parsed = []
    if not parsed:
        raise InvalidNetworks
    return parsed


def _refuse(client: MachineClient | None, why: str, by: Actor) -> None:
    # The id that was tried is not kept when it is unknown: people paste keys into the wrong field.
    target = ("machine_client", str(client.pk)) if client else None
    audit.record_refusal(events.CLIENT_REFUSED, by=by, target=target, data={"why": why})
