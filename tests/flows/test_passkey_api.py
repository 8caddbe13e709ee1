"""Passkeys, told over HTTP: adding one, the second step, confirming, signing in with nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Passkey, User
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from sessions_security import keys, stepup
from sessions_security.models import StepUpProof, UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made
from tests.factories.passkeys import passkey_of
from tests.harness import authenticator as device
from tests.harness.authenticator import Authenticator

DATABASES = ["default", "audit"]
pytestmark = pytest.mark.django_db(databases=DATABASES)
committed = pytest.mark.django_db(transaction=True, databases=[*DATABASES, "owner"])

AUTH = "/api/v1/auth/"
Race = Callable[[Sequence[Callable[[], Any]]], list[Any]]


def post(path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
    return Client().post(
        AUTH + path,
        json.dumps({} if body is None else body),
        content_type="application/json",
        headers=headers or {},
    )


def ok(response: Any, status: int = 200) -> dict[str, Any]:
    assert response.status_code == status, response.content
    body: dict[str, Any] = json.loads(response.content)
    return body


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(response.content)
    assert (response.status_code, body["error_code"]) == (status, code), body
    return body


def mfa_token(user: User, path: str = "admin-login") -> str:
    answer = post(path, {"email": user.email, "password": people.PASSWORD})
    token: str = problem(answer, 401, "MFA_REQUIRED")["mfa_token"]
    return token


def second_step(user: User, authenticator: Authenticator) -> dict[str, str]:
    """Sign in with password and passkey; return the header of the new session."""
    token = mfa_token(user)
    answer = authenticator.get(ok(post("passkeys/login/options", {"mfa_token": token})))
    body = ok(post("mfa/verify", {"mfa_token": token, "method": "passkey", "credential": answer}))
    return {"Authorization": f"Bearer {body['access_token']}"}


def latest(user: User) -> UserSession:
    return UserSession.objects.filter(user=user).latest("created_at")


# Adding


def test_strangers_cannot_begin_to_add_a_passkey() -> None:
    for path in ("passkeys/register/options", "passkeys/register/verify", "passkeys/step-up/options"):
        problem(post(path), 401, "UNAUTHORIZED")


def test_a_machine_has_no_passkeys() -> None:
    client, _key = made.machine()

    response = post("passkeys/register/options", headers=made.machine_bearer(client))

    assert response.status_code == 403


def test_an_account_with_a_factor_confirms_with_it_before_it_adds_a_passkey() -> None:
    user = people.AdminFactory.create()
    people.TotpDeviceFactory.create(user=user)

    body = problem(post("passkeys/register/options", headers=made.bearer(user)), 403, "STEP_UP_REQUIRED")

    assert body["methods"] == ["totp"]


def test_a_buyer_adds_a_passkey_and_gets_backup_codes_once() -> None:
    user = people.BuyerFactory.create()
    headers, authenticator = made.bearer(user), Authenticator()
    others, _tokens = made.tokens_of(user)

    asked = ok(post("passkeys/register/options", headers=headers))
    answer = authenticator.create(asked)
    body = ok(post("passkeys/register/verify", {"name": "phone", "credential": answer}, headers), 201)

    assert (body["name"], body["type"], body["is_device_bound"]) == ("phone", "passkey", True)
    assert len(body["backup_codes"]) == settings.BACKUP_CODES
    others.refresh_from_db()
    assert others.revoked_why == "factor_added"
    listed = ok(Client().get(AUTH + "mfa/devices", headers=headers))["devices"]
    assert [one["id"] for one in listed] == [body["id"]]
    problem(post("passkeys/register/verify", {"credential": answer}, headers), 403, "STEP_UP_REQUIRED")


def test_the_credential_may_be_the_body_itself() -> None:
    headers, authenticator = made.bearer(people.BuyerFactory.create()), Authenticator()

    answer = authenticator.create(ok(post("passkeys/register/options", headers=headers)))

    assert ok(post("passkeys/register/verify", answer, headers), 201)["name"] == "Passkey"


def test_an_answer_cannot_be_brought_to_another_session() -> None:
    user = people.BuyerFactory.create()
    asked = ok(post("passkeys/register/options", headers=made.bearer(user)))

    response = post(
        "passkeys/register/verify", {"credential": Authenticator().create(asked)}, made.bearer(user)
    )

    problem(response, 409, "PASSKEY_CHALLENGE_OVER")


@pytest.mark.parametrize(
    "body",
    [{}, {"credential": None}, {"credential": []}, {"credential": "x"}, {"credential": {"rawId": 1.5}}, []],
)
def test_what_is_no_credential_is_a_4xx(body: Any) -> None:
    headers = made.bearer(people.BuyerFactory.create())

    for path in ("passkeys/register/verify", "passkeys/login/verify"):
        assert post(path, body, headers).status_code in {400, 422}
    assert post("mfa/verify", {"mfa_token": "x", "method": "passkey", "credential": body}).status_code == 400


def test_a_body_that_is_too_long_is_refused() -> None:
    response = post("passkeys/login/verify", {"credential": {"rawId": "A" * 9_000}})

    problem(response, 413, "PAYLOAD_TOO_LARGE")


def test_the_longest_keys_fit() -> None:
    headers = made.bearer(people.BuyerFactory.create())
    authenticator = Authenticator(algorithm=device.RS256, rsa_bits=4_096, attestation="packed")

    answer = authenticator.create(ok(post("passkeys/register/options", headers=headers)))

    ok(post("passkeys/register/verify", {"credential": answer}, headers), 201)


# The second step


def test_the_second_step_with_a_passkey() -> None:
    user = people.AdminFactory.create()
    _passkey, authenticator = passkey_of(user)

    headers = second_step(user, authenticator)

    assert ok(Client().get(AUTH + "me", headers=headers))["email"] == user.email
    assert latest(user).amr == ["pwd", "hwk"]
    assert StepUpProof.objects.get(session=latest(user)).method == "passkey"


def test_the_methods_name_the_passkey_first() -> None:
    user = people.AdminFactory.create()
    people.TotpDeviceFactory.create(user=user)
    passkey_of(user)

    answer = post("admin-login", {"email": user.email, "password": people.PASSWORD})

    assert problem(answer, 401, "MFA_REQUIRED")["methods"] == ["passkey", "totp"]


def test_an_answer_for_one_sign_in_completes_no_other() -> None:
    user = people.AdminFactory.create()
    _passkey, authenticator = passkey_of(user)
    first, second = mfa_token(user), mfa_token(user)
    answer = authenticator.get(ok(post("passkeys/login/options", {"mfa_token": first})))

    crossed = post("mfa/verify", {"mfa_token": second, "method": "passkey", "credential": answer})
    late = post("mfa/verify", {"mfa_token": first, "method": "passkey", "credential": answer})

    problem(crossed, 401, "PASSKEY_CHALLENGE_OVER")
    problem(late, 401, "PASSKEY_CHALLENGE_OVER")


def test_an_answer_for_a_sign_in_without_a_password_completes_no_second_step() -> None:
    user = people.AdminFactory.create()
    _passkey, authenticator = passkey_of(user)
    token = mfa_token(user)
    answer = authenticator.get(ok(post("passkeys/login/options")))

    response = post("mfa/verify", {"mfa_token": token, "method": "passkey", "credential": answer})

    problem(response, 401, "PASSKEY_CHALLENGE_OVER")


def test_my_passkey_does_not_complete_your_sign_in() -> None:
    mine, yours = people.AdminFactory.create(), people.AdminFactory.create()
    _passkey, authenticator = passkey_of(mine)
    passkey_of(yours)
    token = mfa_token(yours)
    asked = ok(post("passkeys/login/options", {"mfa_token": token}))

    answer = authenticator.get(asked, key=authenticator.keys[0])
    response = post("mfa/verify", {"mfa_token": token, "method": "passkey", "credential": answer})

    problem(response, 401, "UNAUTHORIZED")


def test_options_for_a_sign_in_that_is_over_are_refused() -> None:
    problem(post("passkeys/login/options", {"mfa_token": "unknown"}), 401, "MFA_TOKEN_INVALID")


def test_options_for_a_second_step_without_a_passkey_are_refused() -> None:
    user = people.AdminFactory.create()
    people.TotpDeviceFactory.create(user=user)

    problem(post("passkeys/login/options", {"mfa_token": mfa_token(user)}), 409, "NO_PASSKEY")


# Signing in with nothing else


def test_a_passkey_alone_signs_in_once() -> None:
    user = people.BuyerFactory.create()
    _passkey, authenticator = passkey_of(
        user, Authenticator(flags=Authenticator.flags | device.BACKUP_ELIGIBLE)
    )
    answer = authenticator.get(ok(post("passkeys/login/options")))

    body = ok(post("passkeys/login/verify", {"credential": answer}))

    assert body["user"]["email"] == user.email
    assert body["refresh_token"]
    assert latest(user).amr == ["swk", "mfa"]
    user.refresh_from_db()
    assert user.last_login is not None
    assert AuditEvent.objects.filter(type="auth.sign_in.succeeded").exists()
    problem(post("passkeys/login/verify", {"credential": answer}), 401, "PASSKEY_CHALLENGE_OVER")


def test_without_verification_nobody_signs_in() -> None:
    _passkey, authenticator = passkey_of(people.BuyerFactory.create())
    authenticator.flags = device.USER_PRESENT

    answer = authenticator.get(ok(post("passkeys/login/options")))

    problem(post("passkeys/login/verify", {"credential": answer}), 401, "UNAUTHORIZED")


def test_the_host_header_changes_neither_domain_nor_origin() -> None:
    passkey_of(people.BuyerFactory.create())

    response = Client(headers={"Host": "localhost"}).post(
        AUTH + "passkeys/login/options", "{}", content_type="application/json"
    )

    assert ok(response)["rpId"] == settings.WEBAUTHN_RP_ID


@committed
def test_signing_in_with_a_passkey_stays_within_its_statements() -> None:
    user = people.BuyerFactory.create()
    _passkey, authenticator = passkey_of(user)
    keys.ring()  # made on first use
    first = authenticator.get(ok(post("passkeys/login/options")))
    ok(post("passkeys/login/verify", {"credential": first}))
    answer = authenticator.get(ok(post("passkeys/login/options")))

    with (
        CaptureQueriesContext(connections["default"]) as ours,
        CaptureQueriesContext(connections["audit"]) as audits,
    ):
        ok(post("passkeys/login/verify", {"credential": answer}))

    statements = [one["sql"] for one in [*ours, *audits] if one["sql"] not in {"BEGIN", "COMMIT"}]
    assert len(statements) <= 12, "\n".join(" ".join(one.split())[:150] for one in statements)


@committed
def test_of_twenty_answers_at_once_one_signs_in(race: Race) -> None:
    user = people.BuyerFactory.create()
    _passkey, authenticator = passkey_of(user)
    answer = authenticator.get(ok(post("passkeys/login/options")))

    outcomes = race([partial(post, "passkeys/login/verify", {"credential": answer})] * 20)

    assert sorted(response.status_code for response in outcomes) == [200] + [401] * 19
    assert UserSession.objects.filter(user=user).count() == 1
    assert Passkey.objects.get().suspended_at is None


@committed
def test_a_copy_that_is_used_ends_everything_of_the_account() -> None:
    user = people.AdminFactory.create()
    _passkey, authenticator = passkey_of(user)
    clone = authenticator.copied()
    headers = second_step(user, authenticator)
    assert Client().get(AUTH + "me", headers=headers).status_code == 200

    answer = clone.get(ok(post("passkeys/login/options")))
    problem(post("passkeys/login/verify", {"credential": answer}), 401, "UNAUTHORIZED")

    assert Client().get(AUTH + "me", headers=headers).status_code == 401
    assert Passkey.objects.get().suspended_why == "counter"
    assert AuditEvent.objects.filter(type="auth.passkey.suspended").exists()


@committed
@pytest.mark.parametrize(
    ("make", "path"), [(people.BuyerFactory, "login"), (people.AdminFactory, "admin-login")]
)
def test_a_suspended_key_does_not_leave_the_password_alone(make: Any, path: str) -> None:
    user = make.create()
    _passkey, authenticator = passkey_of(user)
    clone = authenticator.copied()
    ok(post("passkeys/login/verify", {"credential": authenticator.get(ok(post("passkeys/login/options")))}))
    answer = clone.get(ok(post("passkeys/login/options")))
    problem(post("passkeys/login/verify", {"credential": answer}), 401, "UNAUTHORIZED")

    entered = post(path, {"email": user.email, "password": people.PASSWORD})

    problem(entered, 401, "MFA_REQUIRED")
    problem(
        post("mfa/enrolment", {"mfa_token": entered.json()["mfa_token"], "name": "mine"}),
        401,
        "MFA_TOKEN_INVALID",
    )


# Confirming


def test_confirming_with_a_passkey() -> None:
    user = people.AdminFactory.create()
    _passkey, authenticator = passkey_of(user)
    headers = second_step(user, authenticator)
    StepUpProof.objects.all().delete()
    problem(post("passkeys/register/options", headers=headers), 403, "STEP_UP_REQUIRED")

    answer = authenticator.get(ok(post("passkeys/step-up/options", headers=headers)))
    response = post("step-up", {"method": "passkey", "credential": answer}, headers)

    assert response.status_code == 204
    ok(post("passkeys/register/options", headers=headers))
    problem(
        post("step-up", {"method": "passkey", "credential": answer}, headers), 401, "PASSKEY_CHALLENGE_OVER"
    )


def test_an_answer_for_one_session_confirms_no_other() -> None:
    user = people.AdminFactory.create()
    _passkey, authenticator = passkey_of(user)
    mine, other = second_step(user, authenticator), second_step(user, authenticator)

    answer = authenticator.get(ok(post("passkeys/step-up/options", headers=mine)))

    response = post("step-up", {"method": "passkey", "credential": answer}, other)
    problem(response, 401, "PASSKEY_CHALLENGE_OVER")


def test_a_passkey_cannot_confirm_its_own_removal() -> None:
    user = people.AdminFactory.create()
    passkey, authenticator = passkey_of(user)
    second, other = passkey_of(user)
    headers = second_step(user, other)
    remove = partial(Client().delete, headers=headers)

    own = remove(AUTH + f"mfa/devices/{second.pk}")
    problem(own, 403, "STEP_UP_REQUIRED")

    assert remove(AUTH + f"mfa/devices/{passkey.pk}").status_code == 204
    assert list(Passkey.objects.all()) == [second]
    assert authenticator.keys


def test_a_passkey_of_somebody_else_is_not_there() -> None:
    user = people.AdminFactory.create()
    _mine, authenticator = passkey_of(user)
    theirs, _other = passkey_of(people.AdminFactory.create())
    headers = second_step(user, authenticator)

    for unknown in (theirs.pk, "0", "x", "9" * 30):
        response = Client().delete(AUTH + f"mfa/devices/{unknown}", headers=headers)
        problem(response, 404, "NOT_FOUND")


@pytest.mark.parametrize("synchronised", [True, False])
def test_a_synchronised_key_does_not_open_what_asks_for_a_device_bound_one(synchronised: bool) -> None:
    user = people.SuperuserFactory.create()
    flags = Authenticator.flags | (device.BACKUP_ELIGIBLE if synchronised else 0)
    _passkey, authenticator = passkey_of(user, Authenticator(flags=flags))
    second_step(user, authenticator)
    by = Actor(kind="user", id=str(user.pk))

    if synchronised:
        with pytest.raises(stepup.StepUpRequired) as refused:
            stepup.require_for("keys.rotate", latest(user), by=by)
        assert refused.value.methods == []
    else:
        assert stepup.require_for("keys.rotate", latest(user), by=by)
    assert stepup.require_for("permissions.grant", latest(user), by=by)


# Superusers by passkey only


def test_where_superusers_need_a_passkey_a_code_does_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "SUPERUSER_REQUIRES_PASSKEY", True)
    user = people.SuperuserFactory.create()
    totp = people.TotpDeviceFactory.create(user=user)
    _passkey, authenticator = passkey_of(user)
    answer = post("admin-login", {"email": user.email, "password": people.PASSWORD})
    body = problem(answer, 401, "MFA_REQUIRED")

    assert body["methods"] == ["passkey"]
    code = {"mfa_token": body["mfa_token"], "method": "totp", "code": people.code_of(totp)}
    problem(post("mfa/verify", code), 403, "PASSKEY_REQUIRED")
    assert second_step(user, authenticator)
    admin = people.AdminFactory.create()
    theirs = people.TotpDeviceFactory.create(user=admin)
    ok(post("mfa/verify", {"mfa_token": mfa_token(admin), "method": "totp", "code": people.code_of(theirs)}))


# The first factor of the staff


def first(user: User) -> str:
    answer = post("admin-login", {"email": user.email, "password": people.PASSWORD})
    body = problem(answer, 403, "MFA_ENROLMENT_REQUIRED")
    assert "passkey" in body["methods"]
    token: str = body["mfa_token"]
    return token


def test_a_new_administrator_enters_with_a_passkey_as_the_first_factor() -> None:
    user, authenticator = people.AdminFactory.create(), Authenticator()
    token = first(user)

    made = authenticator.create(ok(post("mfa/enrolment/passkey/options", {"mfa_token": token})))
    body = ok(post("mfa/enrolment/passkey/verify", {"mfa_token": token, "credential": made}))

    assert body["access_token"]
    assert len(body["backup_codes"]) == settings.BACKUP_CODES
    assert latest(user).amr == ["pwd", "hwk"]
    problem(post("mfa/enrolment/passkey/options", {"mfa_token": token}), 401, "MFA_TOKEN_INVALID")
    assert second_step(user, authenticator)


def test_who_has_a_factor_adds_no_first_one() -> None:
    user = people.AdminFactory.create()
    token = first(user)
    asked = ok(post("mfa/enrolment/passkey/options", {"mfa_token": token}))
    passkey_of(user)

    made = Authenticator().create(asked)

    problem(post("mfa/enrolment/passkey/options", {"mfa_token": token}), 401, "MFA_TOKEN_INVALID")
    answer = post("mfa/enrolment/passkey/verify", {"mfa_token": token, "credential": made})
    problem(answer, 401, "MFA_TOKEN_INVALID")


def test_malformed_first_passkeys_cost_no_attempt() -> None:
    user, authenticator = people.AdminFactory.create(), Authenticator()
    token = first(user)

    for _attempt in range(settings.PENDING_SIGN_IN_ATTEMPTS + 1):
        answer = post("mfa/enrolment/passkey/verify", {"mfa_token": token, "credential": {}})
        problem(answer, 400, "BAD_REQUEST")
    made = authenticator.create(ok(post("mfa/enrolment/passkey/options", {"mfa_token": token})))

    ok(post("mfa/enrolment/passkey/verify", {"mfa_token": token, "credential": made}))


@committed
def test_of_two_first_passkeys_at_once_one_counts(race: Race) -> None:
    user = people.AdminFactory.create()
    token = first(user)
    made = [
        Authenticator().create(ok(post("mfa/enrolment/passkey/options", {"mfa_token": token})))
        for _number in range(2)
    ]

    outcomes = race(
        [
            partial(post, "mfa/enrolment/passkey/verify", {"mfa_token": token, "credential": one})
            for one in made
        ]
    )

    assert sorted(response.status_code for response in outcomes) == [200, 401]
    assert Passkey.objects.filter(user=user).count() == 1


def test_a_superuser_who_needs_a_passkey_adds_one_first_and_no_application(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "SUPERUSER_REQUIRES_PASSKEY", True)
    user, authenticator = people.SuperuserFactory.create(), Authenticator()
    token = first(user)

    problem(post("mfa/enrolment", {"mfa_token": token}), 403, "PASSKEY_REQUIRED")
    made = authenticator.create(ok(post("mfa/enrolment/passkey/options", {"mfa_token": token})))

    ok(post("mfa/enrolment/passkey/verify", {"mfa_token": token, "credential": made}))
