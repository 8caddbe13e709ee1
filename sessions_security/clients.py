"""Machine accounts: programs that sign in by themselves, from networks named beforehand.

A client signs in with a 256-bit key of ours (`authenticate`) or with assertions signed by a key of its own
(`client_assertions`); which of the two is its `method`, and only that one is accepted. What it may do are the
permissions granted to its account, and nothing else: there are no scopes beside them.

Closing a client, changing how it signs in and withdrawing a public key end its sessions at once; a new key
leaves them and lets the former key work until an overlap ends, so that a program can be given the new one.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from accounts.roles import Role
from mestore.lib import crypto, errors
from mestore.lib.actor import Actor
from monitoring import audit, events
from sessions_security import jws, session_check, sessions
from sessions_security.models import ClientKey, MachineClient

OVERLAP: Final = timedelta(hours=24)
"""How long a replaced key goes on working, unless told otherwise."""
LONGEST_OVERLAP: Final = timedelta(days=30)
MAX_NAME_LENGTH: Final = 48
MAX_NETWORKS: Final = 50
MAX_KEYS: Final = 8
"""Public keys that one client may have registered at a time."""
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


class InvalidName(errors.Unprocessable):
    """The name of a new client is empty, too long, or has characters that no client id has."""

    message = _("A name has 1 to 48 letters, digits, hyphens and underscores.")


class InvalidNetworks(errors.Unprocessable):
    """No network was given, too many, or one is not a CIDR block."""

    message = _("Name at least one valid network (CIDR).")


class InvalidOverlap(errors.Unprocessable):
    """The overlap of two keys is negative or longer than `LONGEST_OVERLAP`."""

    message = _("Two keys may overlap for at most 30 days.")


class InvalidPublicKey(errors.Unprocessable):
    """Not a public key that may sign assertions, or it carries a private part."""

    message = _("This is not a public key (JWK) of Ed25519 or P-256, without private members.")


class InvalidKeyId(errors.Unprocessable):
    """A key id is empty, too long, or has characters beside letters, digits and a few signs."""

    message = _("A key id has 1 to 64 letters, digits, hyphens, underscores and dots.")


class KeyIdTaken(errors.Conflict):
    """The client had a key with this id before; ids are never used again."""

    message = _("This client has or had a key with this id. Choose another.")


class TooManyKeys(errors.Conflict):
    """The client has as many public keys as one may have."""

    message = _("This client has as many public keys as it may have. Withdraw one first.")


class NoSuchKey(errors.NotFound):
    """The client has no such public key in force."""

    message = _("This client has no such key in force.")


class ClientClosed(errors.Conflict):
    """The client was closed for good."""

    message = _("This client is closed. Create a new one.")


class WrongMethod(errors.Conflict):
    """What was asked for belongs to the other way of signing in."""

    message = _("This client signs in another way.")


class KeyNeeded(errors.Conflict):
    """A client that signs assertions must keep at least one public key."""

    message = _("Register a public key first: without one this client could not sign in.")


@dataclass(frozen=True, slots=True)
class NewClient:
    """A client that was just created, and its key, which is shown this once ("" when it signs assertions)."""

    client: MachineClient
    key: str


def create(name: str, *, networks: Sequence[str], by: Actor) -> tuple[MachineClient, str]:
    """Create a machine account and return it with its key, which is shown this once and never again.

    Raises `InvalidName`, `InvalidNetworks`.
    """
    made = create_with(name, networks=networks, by=by)
    return made.client, made.key


def create_with(
    name: str,
    *,
    networks: Sequence[str],
    by: Actor,
    public_jwk: Mapping[str, Any] | None = None,
    kid: str = "",
    requires_dpop: bool = False,
) -> NewClient:
    """Create a machine account: with a key of ours, or with `public_jwk` one that signs assertions.

    Raises `InvalidName`, `InvalidNetworks`, `InvalidPublicKey`, `InvalidKeyId`.
    """
    if not _is_plain(name, MAX_NAME_LENGTH):
        raise InvalidName
    allowed = _canonical(networks)
    client_id = f"{name}-{secrets.token_hex(4)}"
    key = secrets.token_urlsafe(32)
    method = MachineClient.Method.KEY if public_jwk is None else MachineClient.Method.ASSERTION
    with transaction.atomic():
        user = User.objects.create_unaddressed(
            source="machine", external_reference=client_id, role=Role.SYSTEM, fields={"nombre": name}
        )
        client = MachineClient(
            client_id=client_id,
            key_hash=crypto.digest(key.encode()),
            user=user,
            networks=allowed,
            method=method,
            requires_dpop=requires_dpop,
        )
        client.save(force_insert=True)
        _record(
            events.CLIENT_CREATED,
            client,
            by,
            {"client_id": client_id, "networks": allowed, "method": method, "requires_dpop": requires_dpop},
        )
        if public_jwk is not None:
            add_key(client, public_jwk, kid=kid, by=by)
    # The key of a client that signs assertions is known to nobody: its hash only fills the column.
    return NewClient(client, key if public_jwk is None else "")


def authenticate(client_id: str, key: str, *, by: Actor) -> MachineClient:
    """Return the client whose key this is, or was until its overlap ends.

    Raises `InvalidClient` (also for a client that signs assertions: it has no key), `NetworkNotAllowed`; both
    recorded.
    """
    with session_check.database_guard():
        client = MachineClient.objects.select_related("user").filter(client_id=client_id).first()
    given = crypto.digest(key.encode("utf-8", "surrogatepass"))
    current, former = _hashes(client)
    # Both are compared, whatever the first says: the time does not tell which of them matched.
    matches = crypto.equal(given, current) | crypto.equal(given, former)
    if client is None or not matches or client.method != MachineClient.Method.KEY:
        refuse(client, "credentials", by)
        raise InvalidClient
    demand_open(client, by=by)
    return client


def demand_open(client: MachineClient, *, by: Actor) -> None:
    """Return when `client`, which has proved itself, may sign in from here; recorded otherwise.

    Raises `InvalidClient` for a closed one, `NetworkNotAllowed`.
    """
    if not _is_open(client):
        refuse(client, "closed", by)
        raise InvalidClient
    if not session_check.address_allowed(by.address, client.networks):
        refuse(client, "network", by)
        raise NetworkNotAllowed


def rotate(client: MachineClient, *, by: Actor, overlap: timedelta = OVERLAP) -> str:
    """Give `client` a new key and return it, shown this once; the former one works until `overlap` ends.

    With an overlap of nothing the former key is dead at once and the client's sessions end: for a key that
    leaked. A third key never works: what was still in its overlap ends now. Raises `InvalidOverlap`,
    `ClientClosed`, `WrongMethod`.
    """
    if not timedelta() <= overlap <= LONGEST_OVERLAP:
        raise InvalidOverlap
    key, now = secrets.token_urlsafe(32), timezone.now()
    with transaction.atomic():
        locked = _locked(client)
        if locked.method != MachineClient.Method.KEY:
            raise WrongMethod
        locked.previous_key_hash = locked.key_hash if overlap else None
        locked.previous_key_until = now + overlap if overlap else None
        locked.key_hash, locked.rotated_at = crypto.digest(key.encode()), now
        locked.save(update_fields=["key_hash", "previous_key_hash", "previous_key_until", "rotated_at"])
        _record(events.CLIENT_KEY_ROTATED, locked, by, {"former_until": locked.previous_key_until})
        if not overlap:
            _end_sessions(locked, by=by, why="client_key_replaced")
    return key


def revoke(client: MachineClient, *, by: Actor, reason: str) -> None:
    """Close `client` for good and end its sessions. Raises `ClientClosed` when it is closed already."""
    with transaction.atomic():
        closed = MachineClient.objects.filter(pk=client.pk, is_active=True).update(
            is_active=False, previous_key_hash=None, previous_key_until=None
        )
        if not closed:
            raise ClientClosed
        _record(events.CLIENT_REVOKED, client, by, {}, reason=reason)
        _end_sessions(client, by=by, why="client_revoked")


def change_networks(client: MachineClient, networks: Sequence[str], *, by: Actor) -> None:
    """Replace the networks that `client` may call from, for its running sessions as well.

    Raises `InvalidNetworks`, `ClientClosed`.
    """
    allowed = _canonical(networks)
    with transaction.atomic():
        locked = _locked(client)
        before, locked.networks = locked.networks, allowed
        locked.save(update_fields=["networks"])
        _record(events.CLIENT_NETWORKS_CHANGED, locked, by, {"before": before, "after": allowed})


def change_method(client: MachineClient, *, method: str, requires_dpop: bool, by: Actor) -> str:
    """Change how `client` signs in and whether its tokens are bound; end its sessions.

    Returns a new key, shown this once, where the client changes to keys, else "". Raises `ClientClosed`, and
    `KeyNeeded` for a client that is to sign assertions and has no public key.
    """
    wanted = MachineClient.Method(method)
    key = ""
    with transaction.atomic():
        locked = _locked(client)
        if wanted == MachineClient.Method.ASSERTION and not live_keys(locked):
            raise KeyNeeded
        if wanted != locked.method:
            key = secrets.token_urlsafe(32)
            locked.key_hash = crypto.digest(key.encode())
            locked.previous_key_hash = locked.previous_key_until = None
        locked.method, locked.requires_dpop = wanted, requires_dpop
        locked.save(
            update_fields=[
                "method", "requires_dpop", "key_hash", "previous_key_hash", "previous_key_until",
            ]
        )  # fmt: skip
        _record(
            events.CLIENT_METHOD_CHANGED, locked, by, {"method": str(wanted), "requires_dpop": requires_dpop}
        )
        _end_sessions(locked, by=by, why="client_method_changed")
    return key if wanted == MachineClient.Method.KEY else ""


def add_key(client: MachineClient, public_jwk: object, *, kid: str, by: Actor) -> ClientKey:
    """Register a public key with which `client` may sign assertions.

    Raises `InvalidPublicKey`, `InvalidKeyId`, `KeyIdTaken`, `TooManyKeys`, `ClientClosed`.
    """
    if not _is_plain(kid, 64, "-_."):
        raise InvalidKeyId
    try:
        key, algorithm = jws.public_key(public_jwk)
    except jws.BadKey:
        raise InvalidPublicKey from None
    with transaction.atomic():
        if len(live_keys(_locked(client))) >= MAX_KEYS:
            raise TooManyKeys
        row = ClientKey(
            client=client,
            kid=kid,
            algorithm=algorithm,
            public_jwk=jws.canonical_jwk(key),
            created_at=timezone.now(),
        )
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError:
            raise KeyIdTaken from None
        data = {"kid": kid, "algorithm": algorithm, "thumbprint": jws.base64url(jws.thumbprint(key))}
        _record(events.CLIENT_PUBLIC_KEY_ADDED, client, by, data)
    return row


def remove_key(client: MachineClient, kid: str, *, by: Actor) -> None:
    """Withdraw a public key and end the client's sessions; with another key it signs in again at once.

    Raises `NoSuchKey`, `ClientClosed`, and `KeyNeeded` for the last one of a client that signs assertions.
    """
    with transaction.atomic():
        locked = _locked(client)
        left = [key.kid for key in live_keys(locked) if key.kid != kid]
        if locked.method == MachineClient.Method.ASSERTION and not left:
            raise KeyNeeded
        mine = ClientKey.objects.filter(client=locked, kid=kid, revoked_at=None)
        if not mine.update(revoked_at=timezone.now()):
            raise NoSuchKey
        _record(events.CLIENT_PUBLIC_KEY_REMOVED, locked, by, {"kid": kid})
        _end_sessions(locked, by=by, why="client_key_removed")


def live_keys(client: MachineClient) -> list[ClientKey]:
    """Return the public keys of `client` in force, the oldest first."""
    return list(ClientKey.objects.filter(client=client, revoked_at=None).order_by("created_at", "kid"))


def refuse(client: MachineClient | None, why: str, by: Actor) -> None:
    """Record that a sign-in of `client` was refused, whatever becomes of the request."""
    # The id that was tried is not kept when it is unknown: people paste keys into the wrong field.
    target = ("machine_client", str(client.pk)) if client else None
    audit.record_refusal(events.CLIENT_REFUSED, by=by, target=target, data={"why": why})


def _hashes(client: MachineClient | None) -> tuple[bytes, bytes]:
    """Return the hashes of the key in force and of the former one; of no key at all where there is none."""
    if client is None:
        return _NO_KEY, _NO_KEY
    until = client.previous_key_until
    overlaps = client.previous_key_hash is not None and until is not None and until > timezone.now()
    return bytes(client.key_hash), bytes(client.previous_key_hash or _NO_KEY) if overlaps else _NO_KEY


def _locked(client: MachineClient) -> MachineClient:
    """Return the client as it is now, held against other changes. Raises `ClientClosed`."""
    found = MachineClient.objects.select_for_update(of=("self",)).select_related("user").get(pk=client.pk)
    if not found.is_active:
        raise ClientClosed
    return found


def _is_open(client: MachineClient) -> bool:
    user = client.user
    return client.is_active and user.is_active and user.deleted_at is None and user.user_type == Role.SYSTEM


def _canonical(networks: Sequence[str]) -> list[str]:
    try:
        parsed = [str(ipaddress.ip_network(network.strip())) for network in networks]
    except ValueError:
        parsed = []
    if not 0 < len(parsed) <= MAX_NETWORKS:
        raise InvalidNetworks
    return parsed


def _end_sessions(client: MachineClient, *, by: Actor, why: str) -> None:
    """End what runs, and what is being started at this moment by credentials that were good until now."""
    User.objects.filter(pk=client.user_id).update(auth_epoch=F("auth_epoch") + 1)
    sessions.end_all(client.user, by=by, why=why)


def _is_plain(text: str, longest: int, signs: str = "-_") -> bool:
    plain = text.translate(str.maketrans("", "", signs))
    return 0 < len(text) <= longest and plain.isascii() and plain.isalnum()


def _record(
    event: str, client: MachineClient, by: Actor, data: Mapping[str, Any], *, reason: str = ""
) -> None:
    audit.record(
        event, by=by, target=("machine_client", str(client.pk)), subject=str(client.user_id), data=data,
        personal={"reason": reason} if reason else None,
    )  # fmt: skip
