from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.models import User
from accounts.roles import Role
from mestore.lib import crypto
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from sessions_security import clients, session_check, sessions, signin, tokens
from sessions_security.models import MachineClient, UserSession
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


# Changing a client


def alive(session: UserSession) -> bool:
    return session_check.by_token(session.pk, session.user_id, address="127.0.0.1") is not None


def signed_in(client: MachineClient, key: str) -> UserSession:
    return signin.with_client_key(client.client_id, key, by=made.HERE).session


def test_replaced_key_works_until_its_overlap_ends_and_sessions_stay() -> None:
    client, old = made.machine()
    session = signed_in(client, old)

    new = clients.rotate(client, by=made.HERE, overlap=timedelta(hours=1))

    assert alive(session)
    assert clients.authenticate(client.client_id, old, by=made.HERE) == client
    assert clients.authenticate(client.client_id, new, by=made.HERE) == client

    MachineClient.objects.filter(pk=client.pk).update(previous_key_until=timezone.now())
    with pytest.raises(clients.InvalidClient):
        clients.authenticate(client.client_id, old, by=made.HERE)


def test_third_key_never_works() -> None:
    client, first = made.machine()
    clients.rotate(client, by=made.HERE)
    clients.rotate(client, by=made.HERE)

    with pytest.raises(clients.InvalidClient):
        clients.authenticate(client.client_id, first, by=made.HERE)


def test_leaked_key_dies_at_once_with_what_it_opened() -> None:
    client, old = made.machine()
    session = signed_in(client, old)

    new = clients.rotate(client, by=made.HERE, overlap=timedelta())

    assert not alive(session)
    with pytest.raises(clients.InvalidClient):
        clients.authenticate(client.client_id, old, by=made.HERE)
    assert alive(signed_in(client, new))


@pytest.mark.parametrize("hours", [-1, 24 * 30 + 1])
def test_overlap_has_bounds(hours: int) -> None:
    client, _key = made.machine()

    with pytest.raises(clients.InvalidOverlap):
        clients.rotate(client, by=made.HERE, overlap=timedelta(hours=hours))


def test_sign_in_under_way_while_its_key_is_dropped_comes_to_nothing() -> None:
    client, key = made.machine()
    checked = clients.authenticate(client.client_id, key, by=made.HERE)

    clients.rotate(client, by=made.HERE, overlap=timedelta())

    with pytest.raises(sessions.AccountChanged):
        sessions.start(checked.user, kind="token", amr=("key",), by=made.HERE, client=checked)


def test_revoked_client_is_closed_for_good() -> None:
    client, key = made.machine()
    session = signed_in(client, key)

    clients.revoke(client, by=made.HERE, reason="the contract ended")

    assert not alive(session)
    with pytest.raises(clients.InvalidClient):
        clients.authenticate(client.client_id, key, by=made.HERE)
    for change in (
        lambda: clients.revoke(client, by=made.HERE, reason="once more"),
        lambda: clients.rotate(client, by=made.HERE),
        lambda: clients.change_networks(client, ["10.0.0.0/8"], by=made.HERE),
    ):
        with pytest.raises(clients.ClientClosed):
            change()


def test_networks_that_changed_hold_for_running_sessions() -> None:
    client, key = made.machine()
    session = signed_in(client, key)

    clients.change_networks(client, ["192.0.2.0/24"], by=made.HERE)

    assert not alive(session)


def test_change_of_method_ends_sessions_and_voids_the_key() -> None:
    client, key = made.machine()
    session = signed_in(client, key)
    with pytest.raises(clients.KeyNeeded):
        clients.change_method(client, method="private_key_jwt", requires_dpop=False, by=made.HERE)
    clients.add_key(client, made.Holder().jwk, kid="k1", by=made.HERE)

    assert not clients.change_method(client, method="private_key_jwt", requires_dpop=False, by=made.HERE)

    assert not alive(session)
    with pytest.raises(clients.WrongMethod):
        clients.rotate(client, by=made.HERE)
    with pytest.raises(clients.KeyNeeded):
        clients.remove_key(client, "k1", by=made.HERE)
    back = clients.change_method(client, method="key", requires_dpop=False, by=made.HERE)
    with pytest.raises(clients.InvalidClient):
        clients.authenticate(client.client_id, key, by=made.HERE)
    assert clients.authenticate(client.client_id, back, by=made.HERE) == client


@pytest.mark.parametrize(
    "jwk",
    [
        None,
        "x",
        {},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "OKP", "crv": "X25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "d": "AA"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
    ],
    ids=str,
)
def test_what_is_no_public_key_is_not_registered(jwk: object) -> None:
    client, _key = made.machine()

    with pytest.raises(clients.InvalidPublicKey):
        clients.add_key(client, jwk, kid="k1", by=made.HERE)


@pytest.mark.parametrize("kid", ["", "x" * 65, "a b", "é", "a/b", "\x00"])
def test_key_id_is_plain(kid: str) -> None:
    client, _key = made.machine()

    with pytest.raises(clients.InvalidKeyId):
        clients.add_key(client, made.Holder().jwk, kid=kid, by=made.HERE)


def test_key_id_is_never_used_again_and_there_are_few() -> None:
    client, _key = made.machine()
    for number in range(clients.MAX_KEYS):
        clients.add_key(client, made.Holder().jwk, kid=f"k{number}", by=made.HERE)
    with pytest.raises(clients.TooManyKeys):
        clients.add_key(client, made.Holder().jwk, kid="more", by=made.HERE)
    clients.remove_key(client, "k0", by=made.HERE)

    with pytest.raises(clients.KeyIdTaken):
        clients.add_key(client, made.Holder().jwk, kid="k0", by=made.HERE)
    with pytest.raises(clients.NoSuchKey):
        clients.remove_key(client, "k0", by=made.HERE)


@pytest.mark.parametrize("name", ["", "x" * 49, "a b", "é", "a:b", "a\x00"])
def test_name_is_plain(name: str) -> None:
    with pytest.raises(clients.InvalidName):
        clients.create(name, networks=["10.0.0.0/8"], by=made.HERE)


# The command


def command(*words: str) -> tuple[int, dict[str, Any]]:
    out, code = io.StringIO(), 0
    try:
        call_command("clients", *words, "--json", stdout=out)
    except CommandError as error:
        code = error.returncode
    return code, json.loads(out.getvalue() or "{}")


def test_command_leads_a_client_through_its_life(tmp_path: Path) -> None:
    public = tmp_path / "key.jwk"
    public.write_text(json.dumps(made.Holder().jwk))

    _code, created = command("create", "relay", "--network", "127.0.0.0/8")
    name, key = created["client_id"], created["key"]
    _code, rotated = command("rotate", name, "--overlap-hours", "1")

    assert clients.authenticate(name, key, by=made.HERE).client_id == name
    assert clients.authenticate(name, rotated["key"], by=made.HERE).client_id == name
    assert command("networks", name, "--network", "10.0.0.0/8")[0] == 0
    assert command("add-key", name, "--public-key", str(public), "--kid", "k1")[1]["algorithm"] == "EdDSA"
    assert command("method", name, "--method", "private_key_jwt", "--dpop")[1]["key"] is None
    assert command("remove-key", name, "--kid", "k1")[0] == 1
    assert command("revoke", name, "--reason", "the contract ended")[0] == 0
    code, listed = command("list")
    assert code == 0
    (one,) = listed["clients"]
    assert (one["is_active"], one["networks"], one["public_keys"]) == (False, ["10.0.0.0/8"], ["k1"])
    assert key not in json.dumps(listed)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("rotate", "nobody"), 1),
        (("create", "a b", "--network", "10.0.0.0/8"), 1),
        (("create", "relay", "--network", "here"), 1),
        (("create", "relay", "--network", "10.0.0.0/8", "--public-key", "/nowhere", "--kid", "k"), 2),
    ],
)
def test_command_says_no_with_a_status(words: tuple[str, ...], status: int) -> None:
    assert command(*words)[0] == status
    assert not MachineClient.objects.exists()


def test_command_prints_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    client, _key = made.machine()

    call_command("clients", "list")

    assert client.client_id in capsys.readouterr().out


def test_token_of_a_machine_has_an_audience_of_its_own() -> None:
    client, key = made.machine()
    done = signin.with_client_key(client.client_id, key, by=made.HERE)

    claims = tokens.verify_access(done.tokens.access_token)

    assert claims.audience == settings.MACHINE_TOKEN_AUDIENCE != settings.TOKEN_AUDIENCE
    assert tokens.session_of(claims, address="127.0.0.1") == done.session
    with pytest.raises(tokens.InvalidToken):
        tokens.session_of(replace(claims, audience=settings.TOKEN_AUDIENCE), address="127.0.0.1")
