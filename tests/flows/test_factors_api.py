"""Second factors over HTTP: signing in, adding, removing, new codes, the first day of an administrator."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import backup_codes, totp
from accounts.models import BackupCode, BackupCodeSet, TotpDevice, User
from sessions_security import keys
from sessions_security.models import PendingSignIn, SessionSecret, StepUpProof, UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made

DATABASES = ["default", "audit"]
pytestmark = pytest.mark.django_db(databases=DATABASES)
committed = pytest.mark.django_db(transaction=True, databases=[*DATABASES, "owner"])

AUTH = "/api/v1/auth/"


class Caller:
    """Somebody with a token or a cookie (or nothing) who speaks JSON."""

    def __init__(self, headers: dict[str, str] | None = None, client: Client | None = None) -> None:
        self.client, self.headers = client or Client(), headers or {}

    def send(self, method: str, path: str, body: Any = None) -> Any:
        call = getattr(self.client, method)
        return call(AUTH + path, json.dumps(body), content_type="application/json", headers=self.headers)

    post = property(lambda self: partial(self.send, "post"))
    get = property(lambda self: lambda path: self.client.get(AUTH + path, headers=self.headers))
    delete = property(lambda self: lambda path: self.client.delete(AUTH + path, headers=self.headers))


def code_of(response: Any) -> tuple[int, str]:
    return response.status_code, json.loads(response.content).get("error_code", "")


def sign_in(user: User, path: str = "login") -> str:
    answer = Caller().post(path, {"email": user.email, "password": people.PASSWORD})
    assert code_of(answer) == (401, "MFA_REQUIRED"), answer.content
    token: str = answer.json()["mfa_token"]
    return token


def with_factor(user: User, path: str = "login", **answer: Any) -> Caller:
    done = Caller().post("mfa/verify", {"mfa_token": sign_in(user, path), **answer})
    assert done.status_code == 200, done.content
    return Caller({"Authorization": f"Bearer {done.json()['access_token']}"})


def stale(seconds: int = 301) -> None:
    """Let all proofs and sign-ins be some time ago."""
    ago = timedelta(seconds=seconds)
    StepUpProof.objects.update(proved_at=F("proved_at") - ago)
    UserSession.objects.update(created_at=F("created_at") - ago)
    TotpDevice.objects.filter(confirmed=True).update(confirmed_at=F("confirmed_at") - 2 * ago)
    BackupCodeSet.objects.update(created_at=F("created_at") - 2 * ago)


@pytest.fixture
def buyer() -> User:
    user: User = people.BuyerFactory.create()
    return user


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Each call moves the server's clock one time step on, so that the next code is a new one."""
    now = [totp.current_step()]
    monkeypatch.setattr(totp, "current_step", lambda: now[0])

    def later() -> None:
        now[0] += 1

    return later


def enrol(caller: Caller) -> dict[str, Any]:
    answer = caller.post("mfa/totp/enroll", {"name": "phone"})
    assert answer.status_code == 201, answer.content
    made: dict[str, Any] = answer.json()
    return made


def shown(secret: str) -> str:
    return totp.code_at(secret, totp.current_step())


# Adding


def test_buyer_adds_a_first_factor_and_gets_ten_codes_once(buyer: User) -> None:
    caller, other = Caller(made.bearer(buyer)), Caller(made.bearer(buyer))
    new = enrol(caller)

    answer = caller.post("mfa/totp/confirm", {"device_id": new["device_id"], "code": shown(new["secret"])})

    codes = answer.json()["backup_codes"]
    assert len(set(codes)) == settings.BACKUP_CODES
    assert answer["Cache-Control"] == "no-store"
    assert new["otpauth_uri"].startswith("otpauth://totp/MeStore")
    assert new["qr_svg"].startswith("<svg")
    assert "script" not in new["qr_svg"]
    assert "style" not in new["qr_svg"]
    listed = caller.get("mfa/devices").json()
    assert [(one["type"], one["name"]) for one in listed["devices"]] == [("totp", "phone")]
    assert listed["backup_codes_left"] == 10
    assert "secret" not in json.dumps(listed)
    # A change of factors ends every other session, and the next sign-in asks for the new factor.
    assert other.get("me").status_code == 401
    assert sign_in(buyer)


def test_second_device_brings_no_new_codes(buyer: User, steps: Callable[[], None]) -> None:
    device = people.TotpDeviceFactory.create(user=buyer)
    backup_codes.regenerate(buyer, by=made.HERE)
    caller = with_factor(buyer, code=people.code_of(device))
    new = enrol(caller)

    answer = caller.post("mfa/totp/confirm", {"device_id": new["device_id"], "code": shown(new["secret"])})

    assert answer.json() == {"backup_codes": []}


def test_stale_session_must_confirm_before_adding(buyer: User) -> None:
    caller = Caller(made.bearer(buyer))
    stale()

    refused = caller.post("mfa/totp/enroll", {"name": "phone"})
    assert code_of(refused) == (403, "STEP_UP_REQUIRED")
    assert refused.json()["methods"] == ["password"]
    assert refused.json()["max_age"] == 300
    assert caller.post("step-up", {"method": "password", "password": "wrong"}).status_code == 401
    assert caller.post("step-up", {"method": "password", "password": people.PASSWORD}).status_code == 204
    assert enrol(caller)


def test_device_of_somebody_else_and_of_another_session_cannot_be_confirmed(buyer: User) -> None:
    caller, twin = Caller(made.bearer(buyer)), Caller(made.bearer(buyer))
    stranger = Caller(made.bearer(people.BuyerFactory.create()))
    new = enrol(caller)
    body = {"device_id": new["device_id"], "code": shown(new["secret"])}

    for other in (stranger, twin):
        assert code_of(other.post("mfa/totp/confirm", body)) == (409, "ENROLMENT_OVER")
    assert caller.post("mfa/totp/confirm", body).status_code == 200


@pytest.mark.parametrize("device_id", ["0", "-1", "x", "１", "9" * 19, "", "9" * 40, 5, None])
def test_ids_that_are_none_are_refused(buyer: User, device_id: Any) -> None:
    answer = Caller(made.bearer(buyer)).post("mfa/totp/confirm", {"device_id": device_id, "code": "123456"})

    assert answer.status_code in {409, 422}


@pytest.mark.parametrize(
    "body", [None, [], {"name": ""}, {"name": 5}, {"name": "x" * 65}, {"name": "a\nb"}, {"name": {"a": 1}}]
)
def test_malformed_enrolment_is_422(buyer: User, body: Any) -> None:
    assert Caller(made.bearer(buyer)).post("mfa/totp/enroll", body).status_code == 422


def test_machine_has_no_factors() -> None:
    client, _key = made.machine()
    caller = Caller(made.machine_bearer(client))

    assert caller.get("mfa/devices").status_code == 403
    assert caller.post("mfa/totp/enroll", {"name": "phone"}).status_code == 403
    assert caller.post("step-up", {"method": "totp", "code": "123456"}).status_code == 403


# Signing in


def test_methods_are_those_of_the_account(buyer: User) -> None:
    people.TotpDeviceFactory.create(user=buyer)
    body = {"email": buyer.email, "password": people.PASSWORD}
    assert Caller().post("login", body).json()["methods"] == ["totp"]

    backup_codes.regenerate(buyer, by=made.HERE)

    assert Caller().post("login", body).json()["methods"] == ["totp", "backup_code"]


def test_backup_code_signs_in_once_and_is_replaced(buyer: User) -> None:
    people.TotpDeviceFactory.create(user=buyer)
    code, *_rest = backup_codes.regenerate(buyer, by=made.HERE)
    body = {"method": "backup_code", "code": code.lower()}

    first = Caller().post("mfa/verify", {"mfa_token": sign_in(buyer), **body})
    again = Caller().post("mfa/verify", {"mfa_token": sign_in(buyer), **body})

    assert first.status_code == 200
    assert first.json()["replacement_code"] != code
    assert code_of(again) == (401, "UNAUTHORIZED")
    assert UserSession.objects.get().amr == ["pwd", "otp"]
    replaced = {"method": "backup_code", "code": first.json()["replacement_code"]}
    assert Caller().post("mfa/verify", {"mfa_token": sign_in(buyer), **replaced}).status_code == 200


def statements_of(user: User, **answer: str) -> list[str]:
    """What the second step of a sign-in asks the database, with warm keys as in a running service."""
    body = {"mfa_token": sign_in(user), **answer}
    with CaptureQueriesContext(connection) as own, CaptureQueriesContext(connections["audit"]) as lasting:
        assert Caller().post("mfa/verify", body).status_code == 200
    return [query["sql"] for query in [*own, *lasting] if query["sql"] not in {"BEGIN", "COMMIT"}]


@committed
def test_second_step_takes_few_statements() -> None:
    buyer = people.BuyerFactory.create()
    device = people.TotpDeviceFactory.create(user=buyer)
    code, *_rest = backup_codes.regenerate(buyer, by=made.HERE)
    keys.ring()

    with_totp = statements_of(buyer, code=people.code_of(device))
    with_backup_code = statements_of(buyer, method="backup_code", code=code)

    assert len(with_totp) <= 12, with_totp
    # The code and what takes its place, and that its owner is told of it.
    assert len(with_backup_code) <= 12, with_backup_code


@committed
def test_backup_code_sent_many_times_at_once_opens_one_session(race: Callable[..., list[Any]]) -> None:
    buyer = people.BuyerFactory.create()
    people.TotpDeviceFactory.create(user=buyer)
    code, *_rest = backup_codes.regenerate(buyer, by=made.HERE)
    tokens = [sign_in(buyer) for _attempt in range(6)]
    calls = [
        partial(Caller().post, "mfa/verify", {"mfa_token": token, "method": "backup_code", "code": code})
        for token in tokens
    ]

    statuses = sorted(answer.status_code for answer in race(calls))

    assert statuses[0] == 200
    assert 200 not in statuses[1:]
    assert set(statuses[1:]) <= {401, 429, 503}
    assert UserSession.objects.count() == 1
    assert BackupCode.objects.filter(used_at=None).count() == 10


@pytest.mark.parametrize("method", ["password", "sms", "email", "", "mailed_code"])
def test_other_methods_complete_no_sign_in(buyer: User, method: str) -> None:
    people.TotpDeviceFactory.create(user=buyer)
    body = {"mfa_token": sign_in(buyer), "method": method, "code": "123456", "password": people.PASSWORD}

    assert Caller().post("mfa/verify", body).status_code == 422
    assert PendingSignIn.objects.get().attempts == 0


def test_sign_in_with_a_factor_is_fresh_until_it_is_not(buyer: User) -> None:
    device = people.TotpDeviceFactory.create(user=buyer)
    caller = with_factor(buyer, code=people.code_of(device))
    assert caller.post("mfa/backup-codes").status_code == 201

    stale()

    refused = caller.post("mfa/backup-codes")
    assert code_of(refused) == (403, "STEP_UP_REQUIRED")
    assert refused.json()["methods"] == ["totp"]


def test_new_codes_are_shown_once_and_end_the_old_ones(buyer: User) -> None:
    device = people.TotpDeviceFactory.create(user=buyer)
    old = backup_codes.regenerate(buyer, by=made.HERE)
    caller = with_factor(buyer, code=people.code_of(device))

    answer = caller.post("mfa/backup-codes")

    assert answer["Cache-Control"] == "no-store"
    assert len(answer.json()["backup_codes"]) == 10
    assert backup_codes.find_right(buyer, old[0]) is None
    assert backup_codes.find_right(buyer, answer.json()["backup_codes"][0])


# Removing


def test_device_is_removed_with_the_proof_of_another(buyer: User, steps: Callable[[], None]) -> None:
    device = people.TotpDeviceFactory.create(user=buyer)
    other = people.TotpDeviceFactory.create(user=buyer)
    caller = with_factor(buyer, code=people.code_of(device))

    own = caller.delete(f"mfa/devices/{device.pk}")
    assert code_of(own) == (403, "STEP_UP_REQUIRED")
    removed = caller.delete(f"mfa/devices/{other.pk}")
    again = caller.delete(f"mfa/devices/{other.pk}")

    assert removed.status_code == 204
    assert again.status_code == 404
    assert caller.get("me").status_code == 200


def test_lost_phone_is_removed_with_a_backup_code(buyer: User) -> None:
    lost = people.TotpDeviceFactory.create(user=buyer)
    code, *_rest = backup_codes.regenerate(buyer, by=made.HERE)
    caller = with_factor(buyer, method="backup_code", code=code)

    assert caller.delete(f"mfa/devices/{lost.pk}").status_code == 204
    assert caller.get("mfa/devices").json() == {
        "devices": [],
        "backup_codes_left": 0,
        "backup_codes_low": False,
    }


def test_administrator_keeps_the_last_factor() -> None:
    admin = people.AdminFactory.create()
    device = people.TotpDeviceFactory.create(user=admin)
    code, *_rest = backup_codes.regenerate(admin, by=made.HERE)
    caller = with_factor(admin, "admin-login", method="backup_code", code=code)

    assert code_of(caller.delete(f"mfa/devices/{device.pk}")) == (409, "LAST_FACTOR")
    assert TotpDevice.objects.filter(pk=device.pk).exists()


def test_device_of_somebody_else_is_not_there(buyer: User) -> None:
    device = people.TotpDeviceFactory.create(user=buyer)
    theirs = people.TotpDeviceFactory.create(user=people.BuyerFactory.create())
    caller = with_factor(buyer, code=people.code_of(device))

    assert caller.delete(f"mfa/devices/{theirs.pk}").status_code == 404
    # More digits than Python reads as a number.
    assert caller.delete(f"mfa/devices/{'9' * 4_301}").status_code == 404
    assert TotpDevice.objects.filter(pk=theirs.pk).exists()


# Confirming


def test_backup_code_confirms_and_its_replacement_is_answered(buyer: User) -> None:
    device = people.TotpDeviceFactory.create(user=buyer)
    code, *_rest = backup_codes.regenerate(buyer, by=made.HERE)
    caller = with_factor(buyer, code=people.code_of(device))
    stale()

    answer = caller.post("step-up", {"method": "backup_code", "code": code})

    assert answer.status_code == 200
    assert set(answer.json()) == {"replacement_code"}
    assert answer["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "body", [{}, {"method": "totp"}, {"method": 5, "code": "1"}, {"method": "totp", "code": 123456}, [], None]
)
def test_malformed_confirmation_is_422(buyer: User, body: Any) -> None:
    people.TotpDeviceFactory.create(user=buyer)

    assert Caller(made.bearer(buyer)).post("step-up", body).status_code == 422


def test_confirming_gives_a_browser_a_new_cookie() -> None:
    admin = people.AdminFactory.create()
    device = people.TotpDeviceFactory.create(user=admin)
    browser = Client()
    browser.post("/admin/login/", {"step": "password", "email": admin.email, "password": people.PASSWORD})
    code, *_rest = backup_codes.regenerate(admin, by=made.HERE)
    shown_page = browser.post("/admin/login/", {"step": "code", "method": "backup_code", "code": code})
    before = bytes(SessionSecret.objects.get().key_hash)
    replacement = shown_page.context["code"]

    answer = Caller(client=browser).post("step-up", {"method": "totp", "code": people.code_of(device)})

    assert replacement in shown_page.content.decode()
    assert answer.status_code == 204
    assert bytes(SessionSecret.objects.get().key_hash) != before
    assert browser.get("/admin/").status_code == 200


# The first day


@pytest.fixture
def newcomer() -> User:
    user: User = people.AdminFactory.create()
    return user


def first_token(user: User) -> str:
    answer = Caller().post("admin-login", {"email": user.email, "password": people.PASSWORD})
    assert code_of(answer) == (403, "MFA_ENROLMENT_REQUIRED")
    token: str = answer.json()["mfa_token"]
    return token


def test_new_administrator_adds_the_first_factor_and_is_in(newcomer: User) -> None:
    token = first_token(newcomer)
    new = Caller().post("mfa/enrolment", {"mfa_token": token, "name": "phone"}).json()

    body = {"mfa_token": token, "code": shown(new["secret"])}
    answer = Caller().post("mfa/enrolment/confirm", body)
    again = Caller().post("mfa/enrolment/confirm", body)

    assert answer.status_code == 200
    assert len(answer.json()["backup_codes"]) == 10
    caller = Caller({"Authorization": f"Bearer {answer.json()['access_token']}"})
    assert caller.get("me").status_code == 200
    assert UserSession.objects.get().amr == ["pwd", "otp"]
    assert code_of(again) == (401, "MFA_TOKEN_INVALID")
    assert caller.post("mfa/backup-codes").status_code == 201  # what was proved a moment ago is fresh


def test_enrolment_token_signs_nobody_in_by_itself(newcomer: User) -> None:
    token = first_token(newcomer)

    answer = Caller().post("mfa/verify", {"mfa_token": token, "code": "123456"})

    assert answer.status_code == 401
    assert not UserSession.objects.exists()


def test_sign_in_that_waits_for_a_factor_adds_none() -> None:
    admin = people.AdminFactory.create()
    people.TotpDeviceFactory.create(user=admin)
    token = sign_in(admin, "admin-login")

    begun = Caller().post("mfa/enrolment", {"mfa_token": token, "name": "mine"})
    confirmed = Caller().post("mfa/enrolment/confirm", {"mfa_token": token, "code": "123456"})

    assert code_of(begun) == (401, "MFA_TOKEN_INVALID")
    assert code_of(confirmed) == (401, "MFA_TOKEN_INVALID")
    assert TotpDevice.objects.count() == 1


@pytest.mark.parametrize("token", ["", "x", "\udcff", "a" * 128, 5, None])
def test_made_up_tokens_begin_nothing(token: Any) -> None:
    for path, extra in (("mfa/enrolment", {"name": "x"}), ("mfa/enrolment/confirm", {"code": "123456"})):
        assert Caller().post(path, {"mfa_token": token, **extra}).status_code in {400, 401, 422}


def test_factor_added_meanwhile_ends_the_enrolment(newcomer: User) -> None:
    token = first_token(newcomer)
    new = Caller().post("mfa/enrolment", {"mfa_token": token, "name": "phone"}).json()
    people.TotpDeviceFactory.create(user=newcomer)

    answer = Caller().post("mfa/enrolment/confirm", {"mfa_token": token, "code": shown(new["secret"])})

    assert code_of(answer) == (401, "MFA_TOKEN_INVALID")
    assert TotpDevice.objects.filter(confirmed=True).count() == 1


def test_confirming_without_beginning_is_over(newcomer: User) -> None:
    token = first_token(newcomer)

    answer = Caller().post("mfa/enrolment/confirm", {"mfa_token": token, "code": "123456"})

    assert code_of(answer) == (409, "ENROLMENT_OVER")


@committed
def test_two_first_factors_at_once_are_one(race: Callable[..., list[Any]]) -> None:
    newcomer = people.AdminFactory.create()
    token = first_token(newcomer)
    new = Caller().post("mfa/enrolment", {"mfa_token": token, "name": "phone"}).json()
    body = {"mfa_token": token, "code": shown(new["secret"])}

    answers = race([partial(Caller().post, "mfa/enrolment/confirm", body)] * 4)

    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 200
    assert 200 not in statuses[1:]
    assert UserSession.objects.count() == 1
    assert TotpDevice.objects.count() == 1
