"""Confirming again: which proofs open which action, and which do not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db.models import F
from django.http import HttpResponse
from django.test import RequestFactory
from django.utils import timezone
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from accounts import backup_codes, login, totp
from accounts.models import BackupCodeSet, TotpDevice, User
from mestore.lib import errors, guard
from monitoring.models import AuditEvent
from sessions_security import factor_proofs, own_factors, stepup, tasks
from sessions_security.models import StepUpProof, UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made
from tests.factories.passkeys import passkey_of

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

BY = made.HERE
ACTION = "factors.remove"  # asks for a second factor
EASY = "factors.enrol"  # a password will do where there is no factor


def session_of(user: User, amr: tuple[str, ...] = ("pwd", "otp")) -> UserSession:
    """A session that began an hour ago: nothing in it is fresh, and everything else is older."""
    session = made.session_of(user, amr=amr)
    shift(UserSession, session.pk, "created_at", 3_600)
    session.refresh_from_db()
    return session


def shift(model: Any, pk: Any, name: str, seconds: int) -> None:
    model.objects.filter(pk=pk).update(**{name: F(name) - timedelta(seconds=seconds)})


def device_of(user: User) -> TotpDevice:
    device: TotpDevice = people.TotpDeviceFactory.create(user=user)
    shift(TotpDevice, device.pk, "confirmed_at", 86_400)
    return device


def prove(session: UserSession, device: TotpDevice, **shown: int) -> factor_proofs.Proved:
    answer = {"code": people.code_of(device, **shown)}
    return stepup.prove(session, method="totp", answer=answer, by=BY)


def request_of(session: UserSession | None) -> Any:
    request: Any = RequestFactory().get("/")
    if session is not None:
        request.user_session, request.user = session, session.user
    return request


@pytest.fixture
def admin() -> User:
    user: User = people.AdminFactory.create()
    return user


@pytest.fixture
def device(admin: User) -> TotpDevice:
    return device_of(admin)


@pytest.fixture
def session(admin: User, device: TotpDevice) -> UserSession:
    return session_of(admin)


# Refused


def test_session_without_a_fresh_proof_is_told_what_to_do(session: UserSession) -> None:
    with pytest.raises(stepup.StepUpRequired) as refused:
        guard.require(ACTION, request_of(session))

    assert refused.value.status == 403
    assert refused.value.extra == {"action": ACTION, "methods": ["totp"], "max_age": 300}
    assert AuditEvent.objects.using("audit").filter(type="auth.step_up.required").count() == 1


def test_stranger_is_asked_to_sign_in() -> None:
    with pytest.raises(errors.Unauthorized):
        guard.require(ACTION, request_of(None))


def test_action_that_is_not_in_the_table_is_refused(session: UserSession, device: TotpDevice) -> None:
    prove(session, device)

    with pytest.raises(guard.NothingRegistered):
        guard.require("no.such.action", request_of(session))
    assert stepup.methods_for("no.such.action", session) == []


def test_proof_grows_old(session: UserSession, device: TotpDevice) -> None:
    prove(session, device)
    assert stepup.require_for(ACTION, session, by=BY) == device.persistent_id

    shift(StepUpProof, StepUpProof.objects.get().pk, "proved_at", 301)

    with pytest.raises(stepup.StepUpRequired):
        stepup.require_for(ACTION, session, by=BY)


def test_proof_of_another_session_of_the_same_person_opens_nothing(
    session: UserSession, device: TotpDevice
) -> None:
    prove(session, device)

    with pytest.raises(stepup.StepUpRequired):
        stepup.require_for(ACTION, session_of(session.user), by=BY)


def test_factor_that_is_to_go_does_not_confirm_its_own_removal(
    session: UserSession, device: TotpDevice
) -> None:
    prove(session, device)

    with pytest.raises(stepup.StepUpRequired):
        stepup.require_for(ACTION, session, replaced=device.persistent_id, by=BY)


def test_factor_added_in_the_session_proves_nothing_in_it(session: UserSession) -> None:
    new = people.TotpDeviceFactory.create(user=session.user)

    with pytest.raises(stepup.FactorTooNew):
        prove(session, new)
    with pytest.raises(stepup.StepUpRequired):
        stepup.require_for(ACTION, session, by=BY)


def test_method_that_the_action_does_not_take_is_not_enough(
    session: UserSession, device: TotpDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {**settings.STEP_UP, ACTION: {"methods": ["passkey"], "max_age_seconds": 300}}
    monkeypatch.setattr(settings, "STEP_UP", table)
    prove(session, device)

    with pytest.raises(stepup.StepUpRequired) as refused:
        stepup.require_for(ACTION, session, by=BY)
    assert refused.value.methods == []


def test_wrong_code_confirms_nothing(session: UserSession, device: TotpDevice) -> None:
    for code, error in (("12345", totp.MalformedCode), (people.code_of(device, steps=9), totp.WrongCode)):
        with pytest.raises(error):
            stepup.prove(session, method="totp", answer={"code": code}, by=BY)

    assert not StepUpProof.objects.exists()


def test_code_confirms_once(session: UserSession, device: TotpDevice) -> None:
    prove(session, device)

    with pytest.raises(totp.WrongCode):
        prove(session, device)


@pytest.mark.parametrize("method", ["", "sms", "email", "pwd", "TOTP"])
def test_other_methods_do_not_exist(session: UserSession, method: str) -> None:
    with pytest.raises(factor_proofs.UnknownMethod):
        stepup.prove(session, method=method, answer={"code": "123456"}, by=BY)


def test_removed_factor_takes_its_proof_along(session: UserSession, device: TotpDevice) -> None:
    prove(session, device)
    stepup.forget(device.persistent_id)

    with pytest.raises(stepup.StepUpRequired):
        stepup.require_for(ACTION, session, by=BY)


# The password


def test_password_is_not_enough_for_an_account_with_a_factor(session: UserSession) -> None:
    with pytest.raises(factor_proofs.PasswordIsNotEnough):
        stepup.prove(session, method="password", answer={"password": people.PASSWORD}, by=BY)


def test_password_confirms_where_there_is_nothing_better() -> None:
    session = session_of(people.BuyerFactory.create(), amr=("pwd",))
    with pytest.raises(stepup.StepUpRequired) as refused:
        stepup.require_for(EASY, session, by=BY)
    assert refused.value.methods == ["password"]

    stepup.prove(session, method="password", answer={"password": people.PASSWORD}, by=BY)

    assert stepup.require_for(EASY, session, by=BY) == "password"
    with pytest.raises(stepup.StepUpRequired) as also:
        stepup.require_for(ACTION, session, by=BY)
    assert also.value.methods == []
    device_of(session.user)
    with pytest.raises(stepup.StepUpRequired):
        stepup.require_for(EASY, session, by=BY)


@pytest.mark.parametrize("password", [None, "", 5, ["x"]])
def test_malformed_password_is_422(password: Any) -> None:
    session = session_of(people.BuyerFactory.create(), amr=("pwd",))

    with pytest.raises(errors.Unprocessable):
        stepup.prove(session, method="password", answer={"password": password}, by=BY)


def test_wrong_password_confirms_nothing() -> None:
    session = session_of(people.BuyerFactory.create(), amr=("pwd",))

    with pytest.raises(login.InvalidCredentials):
        stepup.prove(session, method="password", answer={"password": "wrong"}, by=BY)


def test_password_of_the_account_that_has_the_address_now_is_not_taken_for_mine() -> None:
    session = session_of(people.BuyerFactory.create(), amr=("pwd",))
    other = people.BuyerFactory.create()
    session.user.email = other.email

    with pytest.raises(login.InvalidCredentials):
        stepup.prove(session, method="password", answer={"password": people.PASSWORD}, by=BY)


def test_sign_in_with_a_password_is_fresh_for_a_while() -> None:
    session = made.session_of(people.BuyerFactory.create(), amr=("pwd",))

    assert stepup.require_for(EASY, session, by=BY) == "password"


# Confirmed


def test_latest_proof_counts_and_is_recorded(session: UserSession, device: TotpDevice) -> None:
    second = device_of(session.user)
    prove(session, device)
    shift(StepUpProof, StepUpProof.objects.get().pk, "proved_at", 301)
    prove(session, second)

    assert stepup.require(ACTION, request_of(session)) == second.persistent_id
    assert stepup.require_for(ACTION, session, replaced=device.persistent_id, by=BY) == second.persistent_id
    assert AuditEvent.objects.filter(type="auth.step_up.proved").count() == 2
    assert str(StepUpProof.objects.get(factor=second.persistent_id)).startswith("totp proved in")


def test_proving_again_renews_the_proof(
    session: UserSession, device: TotpDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove(session, device)
    shift(StepUpProof, StepUpProof.objects.get().pk, "proved_at", 301)
    now = totp.current_step()
    monkeypatch.setattr(totp, "current_step", lambda: now + 1)

    prove(session, device)

    assert StepUpProof.objects.count() == 1
    assert stepup.require_for(ACTION, session, by=BY)


def test_backup_code_confirms_and_is_replaced_but_makes_no_new_set(session: UserSession) -> None:
    codes = backup_codes.regenerate(session.user, by=BY)
    code_set = BackupCodeSet.objects.get()
    shift(BackupCodeSet, code_set.pk, "created_at", 86_400)

    done = stepup.prove(session, method="backup_code", answer={"code": codes[0]}, by=BY)

    assert done.replacement_code
    assert stepup.require_for(ACTION, session, by=BY) == code_set.persistent_id
    with pytest.raises(stepup.StepUpRequired) as refused:
        own_factors.make_backup_codes(session, by=BY)
    assert refused.value.methods == ["totp"]


def test_codes_made_in_the_session_confirm_nothing_in_it(session: UserSession) -> None:
    codes = backup_codes.regenerate(session.user, by=BY)

    with pytest.raises(stepup.FactorTooNew):
        stepup.prove(session, method="backup_code", answer={"code": codes[0]}, by=BY)

    assert backup_codes.find_right(session.user, codes[0])


# For views of others


class _Guarded(stepup.RequiresStepUp, APIView):
    authentication_classes = ()
    permission_classes = ()
    step_up = {"POST": ACTION}

    def get(self, request: Any) -> Response:
        return Response()

    post = get


class _GuardedAlways(_Guarded):
    step_up = ACTION  # type: ignore[assignment] # either form is right


class _Forgotten(_Guarded):
    step_up = ""  # type: ignore[assignment] # as above


def call(view: Any, method: str, session: UserSession) -> int:
    request = getattr(APIRequestFactory(), method)("/")
    request.user_session = session
    status: int = view.as_view()(request).status_code
    return status


def test_view_asks_for_the_methods_it_names(session: UserSession, device: TotpDevice) -> None:
    assert call(_Guarded, "get", session) == 200
    assert call(_Guarded, "post", session) == 403
    assert call(_GuardedAlways, "get", session) == 403

    prove(session, device)

    assert call(_Guarded, "post", session) == 200
    assert call(_GuardedAlways, "get", session) == 200


def test_view_that_names_no_action_is_closed(session: UserSession, device: TotpDevice) -> None:
    prove(session, device)

    assert call(_Forgotten, "get", session) == 403


def test_every_action_of_the_table_names_methods_that_exist() -> None:
    known = {*factor_proofs.methods(), "passkey"}

    for action, rule in settings.STEP_UP.items():
        assert set(rule) - {"device_bound"} == {"methods", "max_age_seconds"}, action
        assert rule["methods"], action
        assert set(rule["methods"]) <= known, action
        assert 0 < rule["max_age_seconds"] <= 900, action


# Housekeeping


def test_old_proofs_go_with_their_session(session: UserSession, device: TotpDevice) -> None:
    prove(session, device)
    UserSession.objects.filter(pk=session.pk).update(
        created_at=F("created_at") - timedelta(days=40),
        last_seen_at=F("last_seen_at") - timedelta(days=40),
        idle_expires_at=F("idle_expires_at") - timedelta(days=40),
        absolute_expires_at=F("absolute_expires_at") - timedelta(days=40),
    )

    assert tasks.purge(0) == 1  # the session, and its proofs with it

    assert not StepUpProof.objects.exists()
    assert not UserSession.objects.filter(pk=session.pk).exists()


def test_passkey_that_is_to_go_does_not_confirm_its_own_removal_either(
    admin: User, device: TotpDevice
) -> None:
    passkey, _authenticator = passkey_of(admin)
    shift(type(passkey), passkey.pk, "created_at", 86_400)
    session = session_of(admin)
    stepup.note(
        session, factor_proofs.Proof("passkey", "hwk", passkey.persistent_id, session.created_at, None)
    )

    def remove() -> str:
        return own_factors.remove_device(session, device_id=str(passkey.pk), by=BY)

    with pytest.raises(stepup.StepUpRequired):
        remove()
    prove(session, device)
    assert remove() == device.persistent_id


# The whole table


@pytest.mark.parametrize("action", sorted(settings.STEP_UP))
def test_each_action_takes_its_methods_in_its_time_and_nothing_else(action: str, admin: User) -> None:
    """Stale, of another method, newer than the session, and the one to be replaced: refused, all of them."""
    rule = settings.STEP_UP[action]
    others = {"passkey", "totp", "backup_code"} - set(rule["methods"])
    device_of(admin)  # with a factor, a password confirms nothing
    session = session_of(admin)
    factor = passkey_of(admin)[0].persistent_id if rule.get("device_bound") else "some.factor/1"

    def proved(method: str, *, age: int = 0, bound: int = -60, name: str = factor) -> None:
        StepUpProof.objects.filter(session=session).delete()
        StepUpProof.objects.create(
            session=session, method=method, factor=name, proved_at=timezone.now() - timedelta(seconds=age),
            bound_at=session.created_at + timedelta(seconds=bound),
        )  # fmt: skip

    def is_open(replaced: str = "") -> bool:
        try:
            stepup.require_for(action, session, replaced=replaced, by=BY)
        except stepup.StepUpRequired as error:
            return (error.action, error.max_age_seconds) != (action, rule["max_age_seconds"])
        return True

    assert not is_open()
    for method in [method for method in rule["methods"] if method != "password"]:
        proved(method, age=rule["max_age_seconds"] - 5)
        assert is_open(), method
        assert not is_open(replaced=factor), method
        proved(method, age=rule["max_age_seconds"] + 5)
        assert not is_open(), method
        proved(method, bound=1)
        assert not is_open(), method
    for method in {*others, "password", "sms"}:
        proved(method)
        assert not is_open(), method
    if rule.get("device_bound"):
        proved(rule["methods"][0], name="some.factor/1")
        assert not is_open()


def test_plain_view_asks_and_tells_where_to_come_back_to(session: UserSession, device: TotpDevice) -> None:
    calls: list[str] = []

    @stepup.required(ACTION, back="console-security")
    def view(request: Any) -> HttpResponse:
        calls.append(request.method)
        return HttpResponse()

    for method in ("get", "post"):
        request: Any = getattr(RequestFactory(), method)("/somewhere/?x=1")
        request.user_session, request.user = session, session.user
        with pytest.raises(stepup.StepUpRequired):
            view(request)
        assert getattr(request, "step_up_back", "") == ("/admin/security/" if method == "post" else "")
    assert not calls

    prove(session, device)
    request = RequestFactory().post("/somewhere/")
    request.user_session, request.user = session, session.user
    assert view(request).status_code == 200
