from __future__ import annotations

from typing import Any

import pytest

from accounts.models import User
from accounts.roles import Role
from mestore.lib import crypto
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from sessions_security import clients, session_check, signin
from sessions_security.models import MachineClient
from tests.factories import sessions_security as made

pytestmark = pytest.mark.django_db(databases=["default", "audit"])


def at(address: str | None) -> Actor:
    return Actor(kind="anonymous", address=address, agent="curl")


@pytest.mark.parametrize("networks", [[], ["here"], ["10.0.0.1/8"], ["10.0.0.0/8", ""], ["0.0.0.0/33"]])
def test_client_needs_valid_networks(networks: list[str]) -> None:
    with pytest.raises(clients.InvalidNetworks):
        clients.create("storefront", networks=networks, by=made.HERE)

    assert not MachineClient.objects.exists()


def test_key_is_kept_as_a_hash_only() -> None:
    client, key = made.machine()

    assert len(key) == 43
    assert bytes(client.key_hash) == crypto.digest(key.encode())
    assert client.user.user_type == Role.SYSTEM
    assert not client.user.may_sign_in
    assert str(client) == client.client_id
    assert AuditEvent.objects.filter(type="client.created").count() == 1


@pytest.mark.parametrize("key", ["", "x", "wrong" * 20, "\ud800"])
def test_wrong_key_is_refused_and_recorded(key: str) -> None:
    client, _key = made.machine()

    with pytest.raises(clients.InvalidClient):
        clients.authenticate(client.client_id, key, by=made.HERE)

    assert (
        AuditEvent.objects.using("audit").filter(type="client.refused", target_id=str(client.pk)).count() == 1
    )


def test_unknown_client_reads_like_a_wrong_key() -> None:
    client, _key = made.machine()

    with pytest.raises(clients.InvalidClient) as unknown:
        clients.authenticate("nobody", "x", by=made.HERE)
    with pytest.raises(clients.InvalidClient) as wrong:
        clients.authenticate(client.client_id, "x", by=made.HERE)

    assert str(unknown.value) == str(wrong.value)
    assert unknown.value.headers == wrong.value.headers


def test_key_of_another_client_is_refused() -> None:
    (one, _key), (_two, key_of_two) = made.machine(), made.machine()

    with pytest.raises(clients.InvalidClient):
        clients.authenticate(one.client_id, key_of_two, by=made.HERE)


@pytest.mark.parametrize("address", ["203.0.113.1", "::1", "2001:db8::1", "10.1.2.3", None, "", "nonsense"])
def test_right_key_from_another_network_is_refused(address: str | None) -> None:
    client, key = made.machine("192.0.2.0/24", "2001:db8:1::/48")

    with pytest.raises(clients.NetworkNotAllowed):
        clients.authenticate(client.client_id, key, by=at(address))


@pytest.mark.parametrize("address", ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8:1::9"])
def test_right_key_from_the_right_network_is_accepted(address: str) -> None:
    client, key = made.machine("192.0.2.0/24", "2001:db8:1::/48")

    assert clients.authenticate(client.client_id, key, by=at(address)) == client


@pytest.mark.parametrize(
    ("model", "change"),
    [("client", {"is_active": False}), ("user", {"is_active": False}), ("user", {"user_type": "BUYER"})],
)
def test_closed_client_is_refused_though_the_key_is_right(model: str, change: dict[str, Any]) -> None:
    client, key = made.machine()
    rows: Any = MachineClient.objects.filter(pk=client.pk) if model == "client" else User.objects.all()
    rows.update(**change)

    with pytest.raises(clients.InvalidClient):
        clients.authenticate(client.client_id, key, by=made.HERE)


@pytest.mark.parametrize("change", [{"is_active": False}, {"networks": ["192.0.2.0/24"]}])
def test_running_session_dies_with_the_client_or_its_network(change: dict[str, Any]) -> None:
    client, key = made.machine()
    session = signin.with_client_key(client.client_id, key, by=made.HERE).session
    assert session_check.by_token(session.pk, session.user_id, address="127.0.0.1") == session

    MachineClient.objects.filter(pk=client.pk).update(**change)

    assert session_check.by_token(session.pk, session.user_id, address="127.0.0.1") is None


def test_machine_gets_an_access_token_and_nothing_to_refresh() -> None:
    client, key = made.machine()

    done = signin.with_client_key(client.client_id, key, by=made.HERE)

    assert done.tokens.refresh_token is None
    assert done.session.amr == ["key"]
    assert AuditEvent.objects.filter(type="auth.token.issued", actor_kind="machine").count() == 1
