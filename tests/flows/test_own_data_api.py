"""One's own data over HTTP: agreeing and taking back, asking for a copy or to be forgotten, fetching it."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import zipfile
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from django.test import Client

from accounts import archives, data_requests
from accounts.models import Consent, DataRequest, User
from mestore.lib import actor, own_data
from mestore.lib.own_data import Section
from sessions_security.models import StepUpProof
from tests.factories.accounts import PASSWORD, BuyerFactory, TotpDeviceFactory, VendorFactory
from tests.factories.administration import REASON, Caller, acting, superuser
from tests.factories.finance import OrderFactory
from tests.factories.sessions_security import machine, machine_bearer
from tests.flows.test_registration_api import VENDEDOR, VENDOR, post, register

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
CONSENTS, REQUESTS, TEXTS = "me/consents", "me/data-requests", "consent-texts"


def document(caller: Caller, name: str) -> dict[str, Any]:
    rows = {row["document"]: row for row in caller.get(CONSENTS).json()["documents"]}
    found: dict[str, Any] = rows[name]
    return found


def agree(caller: Caller, name: str, **changes: Any) -> Any:
    shown = document(caller, name)
    body = {"document": name, "given": True, "version": shown["version"], "sha256": shown["sha256"]}
    return caller.post(CONSENTS, body | changes)


def finished(caller: Caller) -> str:
    """The id of a request whose archive is ready."""
    request_id: str = caller.post(REQUESTS, {"kind": "export"}).json()["id"]
    row = DataRequest.objects.get(pk=request_id)
    data_requests.approve(row, reason=REASON, by=acting(superuser()))
    assert archives.build(row.pk, by=actor.system("worker"))
    return request_id


# --- Texts and consents -----------------------------------------------------------------------------------


def test_strangers_read_what_they_will_agree_to() -> None:
    answer = Client().get(f"/api/v1/{TEXTS}", headers={"accept-language": "en"})

    rows = {row["document"]: row for row in answer.json()["results"]}
    assert set(rows) == {"habeas_data", "data_processing", "vendor_terms"}
    assert rows["habeas_data"]["title"] == "Authorisation to process personal data"
    assert (rows["habeas_data"]["required"], rows["data_processing"]["required"]) == (True, False)
    assert rows["vendor_terms"]["roles"] == ["VENDOR"]
    spanish = Client().get(f"/api/v1/{TEXTS}").json()["results"]
    assert {row["language"] for row in spanish} == {"es"}


def test_registering_without_a_word_works_and_asks_later() -> None:
    answer = register()

    assert answer.status_code == 201
    token = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    shown = Client().get(f"/api/v1/{CONSENTS}", headers=token).json()
    assert {row["document"]: row["state"] for row in shown["documents"]} == {
        "habeas_data": "pending", "data_processing": "pending",
    }  # fmt: skip
    assert shown["decisions"] == []


@pytest.mark.parametrize(
    ("path", "body", "more"),
    [
        ("auth/register", {"email": "ana@example.com", "password": "four blue lamps on the river"}, set()),
        ("vendors/register", VENDOR, {"vendor_terms"}),
        ("vendedores/registro", VENDEDOR, set()),
    ],
)
def test_every_registration_records_what_it_says(path: str, body: dict[str, Any], more: set[str]) -> None:
    said = {"habeas_data_accepted": True, "data_processing_consent": False}

    assert post(path, body | said).status_code == 201

    user = User.objects.get()
    rows = Consent.objects.filter(person_id=user.pk)
    assert dict(rows.values_list("document", "given")) == {
        "habeas_data": True, "data_processing": False, **dict.fromkeys(more, True),
    }  # fmt: skip


@pytest.mark.parametrize(
    "said",
    [
        {"habeas_data_accepted": False}, {"habeas_data_accepted": "true"}, {"habeas_data_accepted": 1},
        {"habeas_data_accepted": None}, {"data_processing_consent": "yes"}, {"data_processing_consent": 0},
        {"data_processing_consent": None}, {"data_processing_consent": []},
    ],
)  # fmt: skip
def test_what_only_looks_like_consent_opens_no_account(said: dict[str, Any]) -> None:
    answer = register(**said)

    assert answer.status_code == 422
    assert answer.json()["error_code"] == "VALIDATION_ERROR"
    assert not User.objects.exists()


def test_agreeing_and_taking_back() -> None:
    caller = Caller(BuyerFactory.create())

    given = agree(caller, "data_processing")
    assert (given.status_code, given.json()["given"], given.json()["channel"]) == (200, True, "api")
    assert given["Cache-Control"] == "no-store"
    assert document(caller, "data_processing")["state"] == "given"
    back = caller.post(CONSENTS, {"document": "data_processing", "given": False})

    assert back.status_code == 200
    assert document(caller, "data_processing")["state"] == "refused"
    assert [row["given"] for row in caller.get(CONSENTS).json()["decisions"]] == [False, True]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"sha256": "0" * 64}, 409), ({"version": "1999-01"}, 409), ({"document": "vendor_terms"}, 404),
        ({"document": "nothing"}, 404), ({"document": "x" * 33}, 422), ({"given": "true"}, 422),
        ({"given": 1}, 422), ({"given": None}, 422), ({"sha256": ["x"]}, 422), ({"version": None}, 422),
    ],
)  # fmt: skip
def test_what_is_not_a_decision_about_the_shown_text_is_refused(changes: dict[str, Any], status: int) -> None:
    caller = Caller(BuyerFactory.create())

    answer = agree(caller, "habeas_data", **changes)

    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert not Consent.objects.exists()


def test_strangers_and_machines_agree_to_nothing_and_ask_for_nothing() -> None:
    robot = machine_bearer(machine()[0])
    paths = [CONSENTS, REQUESTS, f"{REQUESTS}/{uuid4()}/cancel", f"{REQUESTS}/{uuid4()}/archive"]

    for path in paths:
        send = Client().get if path.endswith(("consents", "data-requests", "archive")) else Client().post
        assert send(f"/api/v1/{path}").status_code == 401
        assert send(f"/api/v1/{path}", headers=robot).status_code == 403


# --- Requests ---------------------------------------------------------------------------------------------


def test_a_copy_from_the_question_to_the_file() -> None:
    user = BuyerFactory.create(nombre="Camila")
    caller = Caller(user)

    asked = caller.post(REQUESTS, {"kind": "export", "reason": "I want to know"})
    assert (asked.status_code, asked.json()["state"]) == (201, "waiting")
    assert caller.post(REQUESTS, {"kind": "export"}).json()["error_code"] == "DATA_REQUEST_OPEN"
    archive = f"{REQUESTS}/{asked.json()['id']}/archive"
    early = caller.get(archive)
    assert (early.status_code, early.json()["error_code"]) == (409, "ARCHIVE_NOT_READY")
    row = DataRequest.objects.get()
    data_requests.approve(row, reason=REASON, by=acting(superuser()))
    archives.build(row.pk, by=actor.system("worker"))

    shown = caller.get(REQUESTS).json()["results"]
    assert [(one["state"], one["downloads"]) for one in shown] == [("ready", 0)]
    answer = caller.get(archive)
    content = b"".join(answer.streaming_content)

    assert (answer.status_code, answer["Content-Type"]) == (200, "application/zip")
    assert answer["Content-Length"] == str(len(content)) == str(shown[0]["archive_bytes"])
    assert answer["Cache-Control"] == "no-store"
    assert answer["Content-Disposition"].startswith('attachment; filename="mestore-my-data-')
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        assert json.loads(opened.read("account.json"))[0]["nombre"] == "Camila"


def test_an_archive_of_many_parts_arrives_whole_through_a_real_socket(live_api: str) -> None:
    caller = Caller(BuyerFactory.create())
    own_data.register(
        Section("of_the_test", "rows of a test", lambda _person: iter([{"noise": os.urandom(900_000).hex()}]))
    )
    try:
        request_id = finished(caller)
    finally:
        own_data.forget("of_the_test")
    made = DataRequest.objects.get(pk=request_id)
    assert made.archive_parts is not None
    assert made.archive_parts > 3

    connection = http.client.HTTPConnection(urlsplit(live_api).netloc, timeout=60)
    try:
        connection.request("GET", f"/api/v1/{REQUESTS}/{request_id}/archive", headers=caller.headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()

    assert answer.status == 200
    assert hashlib.sha256(content).hexdigest() == made.archive_sha256
    assert answer.headers["Content-Length"] == str(len(content))


def test_nobody_else_sees_takes_back_or_fetches_a_request() -> None:
    owner, stranger, staff = (
        Caller(BuyerFactory.create()),
        Caller(VendorFactory.create()),
        Caller(superuser()),
    )
    request_id = finished(owner)
    waiting = owner.post(REQUESTS, {"kind": "erasure"}).json()["id"]

    for other in (stranger, staff):
        assert other.get(REQUESTS).json()["results"] == []
        assert other.get(f"{REQUESTS}/{request_id}/archive").status_code == 404
        assert other.post(f"{REQUESTS}/{waiting}/cancel").status_code == 404
    assert owner.get(f"{REQUESTS}/{uuid4()}/archive").status_code == 404
    assert owner.post(f"{REQUESTS}/{waiting}/cancel").json()["state"] == "cancelled"
    assert owner.post(f"{REQUESTS}/{waiting}/cancel").status_code == 409


def test_asking_and_fetching_need_a_fresh_factor() -> None:
    user = BuyerFactory.create()
    TotpDeviceFactory.create(user=user)  # where there is a factor, a password is not enough
    caller = Caller(user)
    request_id = finished(caller)
    StepUpProof.objects.all().delete()

    for answer in (
        caller.post(REQUESTS, {"kind": "erasure"}), caller.get(f"{REQUESTS}/{request_id}/archive"),
    ):  # fmt: skip
        assert (answer.status_code, answer.json()["error_code"]) == (403, "STEP_UP_REQUIRED")

    assert DataRequest.objects.count() == 1
    assert DataRequest.objects.get().downloads == 0


def test_a_password_is_enough_for_who_has_nothing_better() -> None:
    user = BuyerFactory.create()
    signed = post("auth/login", {"email": user.email, "password": PASSWORD}).json()
    StepUpProof.objects.all().delete()
    header = {"Authorization": f"Bearer {signed['access_token']}"}
    client = Client(headers=header)

    proved = client.post(
        "/api/v1/auth/step-up", {"method": "password", "password": PASSWORD}, content_type="application/json"
    )
    asked = client.post(f"/api/v1/{REQUESTS}", {"kind": "export"}, content_type="application/json")

    assert proved.status_code == 204
    assert asked.status_code == 201


@pytest.mark.parametrize(
    "body", [{}, {"kind": "everything"}, {"kind": None}, {"kind": "export", "reason": "x" * 501}, [], "x"]
)  # fmt: skip
def test_what_is_no_request_is_422(body: Any) -> None:
    answer = Caller(BuyerFactory.create()).post(REQUESTS, body)

    assert answer.status_code == 422, answer.content
    assert not DataRequest.objects.exists()


def test_what_the_law_keeps_is_told_in_the_answer() -> None:
    user = BuyerFactory.create()
    caller = Caller(user)
    caller.post(REQUESTS, {"kind": "erasure"})
    row = DataRequest.objects.get()
    OrderFactory.create(buyer=user)
    data_requests.reject(row, reason="Invoices are kept.", by=acting(superuser()))

    shown = caller.get(REQUESTS).json()["results"][0]

    assert (shown["state"], shown["answer"], shown["kept"]) == ("rejected", "Invoices are kept.", ["order"])
    assert "decided_by_label" not in shown
