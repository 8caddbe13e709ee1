"""Machine accounts in the console: changed by whoever may, with a fresh factor, keys shown once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sessions_security import clients
from sessions_security.models import MachineClient, StepUpProof
from tests.console import house
from tests.factories import sessions_security as made

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

NEW = "/admin/clients/new/"
LIST = "/admin/sessions_security/machineclient/"
MAY = ("settings.read.read_only", "settings.configure.system")


@pytest.fixture
def boss() -> house.Visitor:
    return house.visitor(superuser=True, permissions=MAY)


def page(client: MachineClient, word: str) -> str:
    return f"/admin/clients/{client.pk}/{word}/"


WORDS = ["rotate", "networks", "method", "add-key", "remove-key"]


@pytest.mark.parametrize("word", WORDS)
def test_who_may_only_look_changes_nothing(word: str) -> None:
    client, key = made.machine()
    visitor = house.visitor(permissions=("settings.read.read_only",))

    assert visitor.client.get(LIST).status_code == 200
    assert visitor.client.get(page(client, word)).status_code == 403
    assert visitor.client.post(page(client, word), {"hours": 0}).status_code == 403
    assert visitor.client.get(NEW).status_code == 403
    assert clients.authenticate(client.client_id, key, by=made.HERE) == client


@pytest.mark.parametrize("word", WORDS)
def test_factor_must_be_fresh(boss: house.Visitor, word: str) -> None:
    client, _key = made.machine()
    StepUpProof.objects.all().delete()

    answer = boss.client.post(page(client, word), {"hours": 0})

    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/confirm/")


def test_stranger_is_sent_to_the_entrance(client: Any) -> None:
    assert client.get(NEW)["Location"].startswith("/admin/login/")


def test_new_client_shows_its_key_once_and_no_cache_keeps_it(boss: house.Visitor) -> None:
    answer = boss.client.post(NEW, {"name": "relay", "networks": "127.0.0.0/8\n10.0.0.0/8"})

    assert answer.status_code == 200, answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
    client = MachineClient.objects.get()
    assert client.networks == ["127.0.0.0/8", "10.0.0.0/8"]
    key = answer.content.decode().split('<code id="client-key">')[1].split("<")[0]
    assert clients.authenticate(client.client_id, key, by=made.HERE) == client
    detail = boss.client.get(f"{LIST}{client.pk}/change/").content.decode()
    assert key not in detail
    assert bytes(client.key_hash).hex() not in detail


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a b"},
        {"networks": ""},
        {"networks": "here"},
        {"public_key": "x"},
        {"public_key": "[" * 1_500},
        {"public_key": json.dumps({"kty": "oct", "k": "AA"}), "kid": "k"},
        {"public_key": json.dumps(made.Holder().jwk)},
    ],
    ids="-".join,
)
def test_form_with_something_wrong_creates_nothing(boss: house.Visitor, wrong: dict[str, str]) -> None:
    answer = boss.client.post(NEW, {"name": "relay", "networks": "10.0.0.0/8"} | wrong)

    assert answer.status_code in {400, 422}
    assert not MachineClient.objects.exists()


def test_client_is_led_through_its_life(boss: house.Visitor) -> None:
    client, old = made.machine()
    rotated = boss.client.post(page(client, "rotate"), {"hours": "0"}).content.decode()
    new = rotated.split('<code id="client-key">')[1].split("<")[0]

    assert clients.authenticate(client.client_id, new, by=made.HERE) == client
    with pytest.raises(clients.InvalidClient):
        clients.authenticate(client.client_id, old, by=made.HERE)
    assert boss.client.post(page(client, "networks"), {"networks": "10.0.0.0/8"}).status_code == 302
    key = {"kid": "k1", "public_key": json.dumps(made.Holder().jwk)}
    assert boss.client.post(page(client, "add-key"), key).status_code == 302
    assert boss.client.post(page(client, "add-key"), key).status_code == 409
    method = {"method": "private_key_jwt", "requires_dpop": "on"}
    assert boss.client.post(page(client, "method"), method).status_code == 302
    assert boss.client.post(page(client, "remove-key"), {"kid": "k1"}).status_code == 409

    client.refresh_from_db()
    assert (client.networks, client.method, client.requires_dpop) == (["10.0.0.0/8"], "private_key_jwt", True)
    detail = boss.client.get(f"{LIST}{client.pk}/change/").content.decode()
    assert "k1" in detail


def test_revoking_asks_for_the_reason(boss: house.Visitor) -> None:
    client, _key = made.machine()
    form = {"action": "revoke", "pk": str(client.pk)}

    boss.client.post(LIST + "do/", form)
    client.refresh_from_db()
    assert client.is_active

    boss.client.post(LIST + "do/", form | {"reason": "the contract has ended"})
    assert not MachineClient.objects.filter(pk=client.pk, is_active=True).exists()
    assert page(client, "rotate") not in boss.client.get(f"{LIST}{client.pk}/change/").content.decode()


def test_page_of_a_client_that_is_none_is_not_found(boss: house.Visitor) -> None:
    assert boss.client.get("/admin/clients/00000000-0000-0000-0000-000000000000/rotate/").status_code == 404
