"""My security, the first factor, confirming again, the way back in: as a browser without scripts has them."""

from __future__ import annotations

import datetime as dt
import html
import re
import urllib.parse
from typing import Any

import pytest
from django.core import mail
from django.db.models import F
from django.test import Client
from django.utils import timezone, translation

from accounts import backup_codes, devices, factor_resets, totp
from accounts.models import BackupCode, FactorReset, TotpDevice, User
from mestore.lib import actor
from monitoring import delivery
from monitoring.outbox import OutboxMessage
from sessions_security.models import StepUpProof, UserSession
from tests.console import house
from tests.factories.accounts import PASSWORD, AdminFactory, BuyerFactory, TotpDeviceFactory, code_of

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

LOGIN, FIRST, HOME = "/admin/login/", "/admin/first-factor/", "/admin/security/"
RECOVERY, CONFIRM = "/admin/recovery/", "/admin/confirm/"


def english(**headers: Any) -> Client:
    return Client(headers={"accept-language": "en"}, **headers)


def text(answer: Any) -> str:
    return html.unescape(answer.content.decode())


def secret_in(answer: Any) -> str:
    found = re.search(r'id="totp-secret">([A-Z2-7 ]+)<', text(answer))
    assert found, text(answer)
    return found[1].replace(" ", "")


def codes_in(answer: Any) -> list[str]:
    return re.findall(r"<li><code>([^<]+)</code></li>", text(answer))


def now_code(secret: str, steps: int = 0) -> str:
    return totp.code_at(secret, totp.current_step() + steps)


def newcomer() -> tuple[User, Client]:
    """An administrator without a factor, past the password."""
    user, client = AdminFactory.create(), english()
    answer = client.post(LOGIN, {"email": user.email, "password": PASSWORD, "next": "/admin/accounts/user/"})
    assert answer.status_code == 302
    assert answer["Location"].startswith(FIRST)
    return user, client


def enrolled() -> tuple[User, Client, str, list[str]]:
    user, client = newcomer()
    secret = secret_in(client.post(FIRST, {"step": "name", "name": "My phone"}))
    answer = client.post(FIRST, {"step": "code", "code": now_code(secret)})
    assert answer.status_code == 200, text(answer)
    return user, client, secret, codes_in(answer)


def stale(user: User) -> None:
    """As if everything that was proved had been proved an hour ago."""
    StepUpProof.objects.filter(session__user=user).update(proved_at=timezone.now() - dt.timedelta(hours=1))


def posted() -> list[Any]:
    before = len(mail.outbox)
    for message in OutboxMessage.objects.order_by("created_at", "pk"):
        delivery.send(message.pk)
    return mail.outbox[before:]


# --- The first factor ---------------------------------------------------------------------------------------


def test_new_administrator_enrols_and_is_in_with_ten_codes_shown_once() -> None:
    user, client, _secret, codes = enrolled()

    assert len(codes) == 10
    assert client.get("/admin/").status_code == 200
    assert UserSession.objects.get(user=user).amr == ["pwd", "otp"]
    assert not any(code in text(client.get(HOME)) for code in codes)
    assert "10 codes left" in text(client.get(HOME))


def test_download_holds_the_codes_without_asking_the_server_again() -> None:
    _user, client = newcomer()
    secret = secret_in(client.post(FIRST, {"step": "name", "name": "My phone"}))

    answer = client.post(FIRST, {"step": "code", "code": now_code(secret)})

    link = re.search(r'href="data:text/plain;charset=utf-8,([^"]+)" download="', answer.content.decode())
    assert link
    assert set(codes_in(answer)) <= set(urllib.parse.unquote(link[1]).split("\n"))
    assert "no-store" in answer["Cache-Control"]


def test_address_wanted_before_signing_in_is_where_enrolment_ends() -> None:
    _user, client = newcomer()
    answer = client.post(FIRST, {"step": "name", "name": "x", "next": "/admin/accounts/user/"})
    secret = secret_in(answer)

    done = client.post(FIRST, {"step": "code", "code": now_code(secret), "next": "https://evil.example/"})

    assert 'name="next" value="/admin/accounts/user/"' in text(answer)
    assert 'href="/admin/"' in text(done)


def test_wrong_first_code_asks_again_without_the_picture_and_then_goes_on() -> None:
    user, client = newcomer()
    secret = secret_in(client.post(FIRST, {"step": "name", "name": "My phone"}))

    wrong = client.post(FIRST, {"step": "code", "code": now_code(secret, 40)})
    right = client.post(FIRST, {"step": "code", "code": now_code(secret)})

    assert wrong.status_code == 401
    assert "not valid" in text(wrong)
    assert secret not in text(wrong).replace(" ", "")
    assert "<svg" not in text(wrong)
    assert len(codes_in(right)) == 10
    assert TotpDevice.objects.get(user=user).confirmed


def test_without_a_sign_in_that_waits_nobody_enrols() -> None:
    for client in (english(), house.visitor().client):
        assert client.get(FIRST)["Location"] == LOGIN
        assert client.post(FIRST, {"step": "name", "name": "x"})["Location"] == LOGIN
        assert client.post(FIRST, {"step": "code", "code": "000000"})["Location"] == LOGIN
    assert not TotpDevice.objects.filter(confirmed=False).exists()


def test_password_alone_adds_no_second_telephone_to_an_account_that_has_one() -> None:
    user, _device = house.person()
    client = english()
    client.post(LOGIN, {"email": user.email, "password": PASSWORD})

    assert client.post(FIRST, {"step": "name", "name": "thief"})["Location"] == LOGIN
    assert TotpDevice.objects.filter(user=user).count() == 1


def test_first_code_before_the_picture_begins_again() -> None:
    _user, client = newcomer()

    answer = client.post(FIRST, {"step": "code", "code": "123456"})

    assert answer.status_code == 409
    assert "Show the picture" in text(answer)


def test_name_that_is_none_is_asked_for_again() -> None:
    _user, client = newcomer()

    for name in ("", "   ", "x" * 65):
        answer = client.post(FIRST, {"step": "name", "name": name})
        assert answer.status_code == 422
        assert "errornote" in text(answer)


def test_sign_in_page_leads_back_to_enrolment_that_is_under_way() -> None:
    _user, client = newcomer()

    assert client.get(LOGIN)["Location"].startswith(FIRST)
    assert client.get(FIRST).status_code == 200


def test_enrolment_dies_with_a_change_of_the_account() -> None:
    user, client = newcomer()
    secret = secret_in(client.post(FIRST, {"step": "name", "name": "My phone"}))
    User.objects.filter(pk=user.pk).update(is_active=False)

    assert client.post(FIRST, {"step": "code", "code": now_code(secret)})["Location"] == LOGIN
    assert client.get("/admin/").status_code == 302


# --- Losing the telephone -----------------------------------------------------------------------------------


def test_backup_code_gets_in_and_the_new_telephone_takes_the_place_of_the_old() -> None:
    user, first, _secret, codes = enrolled()
    first.post("/admin/logout/")
    client = english()
    client.post(LOGIN, {"email": user.email, "password": PASSWORD})
    assert "Use a backup code" in text(client.get(LOGIN))

    used = client.post(LOGIN, {"step": "code", "method": "backup_code", "code": codes[0].lower()})
    replacement = re.search(r'id="replacement-code">([^<]+)<', text(used))
    assert replacement
    add = f"{HOME}authenticator/"
    scan = client.post(add, {"step": "name", "name": "New phone"})
    device = re.search(r'name="device" value="(\d+)"', text(scan))
    assert device
    added = client.post(
        add, {"step": "code", "device": device[1], "code": now_code(secret_in(scan))}, follow=True
    )
    old = TotpDevice.objects.get(user=user, name="My phone")
    removed = client.post(f"{HOME}factors/{old.pk}/remove/", follow=True)

    assert "was added" in text(added)
    assert "“My phone” was removed" in text(removed)
    assert [one.name for one in TotpDevice.objects.filter(user=user)] == ["New phone"]
    assert backup_codes.remaining(user) == 10


def test_used_backup_code_does_not_get_in_again() -> None:
    user, first, _secret, codes = enrolled()
    first.post("/admin/logout/")
    client = english()
    client.post(LOGIN, {"email": user.email, "password": PASSWORD})
    client.post(LOGIN, {"step": "code", "method": "backup_code", "code": codes[0]})
    client.post("/admin/logout/")
    client.post(LOGIN, {"email": user.email, "password": PASSWORD})

    answer = client.post(LOGIN, {"step": "code", "method": "backup_code", "code": codes[0]})

    assert answer.status_code == 401
    assert "<details open>" in text(answer)
    assert client.get("/admin/").status_code == 302


# --- My security --------------------------------------------------------------------------------------------

PAGES = [HOME, f"{HOME}authenticator/", f"{HOME}passkey/", f"{HOME}backup-codes/", CONFIRM]


@pytest.mark.parametrize("path", PAGES)
def test_stranger_is_sent_to_the_sign_in(path: str) -> None:
    assert Client().get(path)["Location"].startswith(LOGIN)


def test_factor_of_somebody_else_is_not_there() -> None:
    visitor, other = house.visitor(), TotpDeviceFactory.create()

    for method in ("get", "post"):
        assert getattr(visitor.client, method)(f"{HOME}factors/{other.pk}/remove/").status_code == 404
    assert TotpDevice.objects.filter(pk=other.pk).exists()


@pytest.mark.parametrize("path", PAGES[1:4])
def test_what_matters_asks_for_a_fresh_proof_and_comes_back(path: str) -> None:
    visitor = house.visitor()
    stale(visitor.user)

    asked = visitor.client.get(path)
    target = urllib.parse.urlsplit(asked["Location"])
    query = urllib.parse.parse_qs(target.query)
    page = visitor.client.get(asked["Location"], headers={"accept-language": "en"})
    TotpDevice.objects.filter(user=visitor.user).update(last_step=0)
    given = visitor.client.post(
        CONFIRM,
        {
            "action": query["action"][0],
            "next": query["next"][0],
            "method": "totp",
            "code": code_of(visitor.device),
        },
    )

    assert target.path == CONFIRM
    assert "You are about to" in text(page)
    assert given["Location"] == path
    assert visitor.client.get(path).status_code == 200


def test_wrong_proof_is_refused_and_leads_nowhere() -> None:
    visitor = house.visitor()
    stale(visitor.user)

    wrong = visitor.client.post(CONFIRM, {"action": "factors.enrol", "method": "totp", "code": "000000"})
    malformed = visitor.client.post(CONFIRM, {"action": "factors.enrol", "method": "totp", "code": "x"})
    unknown = visitor.client.post(CONFIRM, {"action": "factors.enrol", "method": "charm", "code": "x"})

    assert (wrong.status_code, malformed.status_code, unknown.status_code) == (401, 400, 422)
    assert visitor.client.post(f"{HOME}authenticator/", {"step": "name", "name": "x"}).status_code == 302
    assert TotpDevice.objects.filter(user=visitor.user).count() == 1


def test_backup_code_used_to_confirm_is_replaced_on_the_page() -> None:
    user, client, _secret, codes = enrolled()
    UserSession.objects.filter(user=user).update(created_at=timezone.now() + dt.timedelta(seconds=1))
    stale(user)

    answer = client.post(
        CONFIRM, {"action": "factors.enrol", "next": HOME, "method": "backup_code", "code": codes[0]}
    )

    assert 'id="replacement-code"' in text(answer)
    assert f'href="{HOME}"' in text(answer)
    assert client.get(f"{HOME}authenticator/").status_code == 200


def test_confirming_leads_to_no_other_site() -> None:
    visitor = house.visitor()

    page = text(visitor.client.get(f"{CONFIRM}?action=factors.enrol&next=//evil.example/"))

    assert "evil" not in page


def test_action_that_nothing_can_confirm_says_so() -> None:
    client = house.visitor().client

    page = text(client.get(f"{CONFIRM}?action=keys.rotate", headers={"accept-language": "en"}))

    assert "Nothing that this account has can confirm this" in page


def test_new_backup_codes_end_the_old_ones() -> None:
    user, client, _secret, codes = enrolled()

    warned = text(client.get(f"{HOME}backup-codes/"))
    fresh = codes_in(client.post(f"{HOME}backup-codes/"))

    assert "The 10 that are left" in warned
    assert len(fresh) == 10
    assert not set(fresh) & set(codes)
    assert backup_codes.remaining(user) == 10


def test_last_factor_of_the_staff_stays() -> None:
    user, client, _secret, _codes = enrolled()
    device = TotpDevice.objects.get(user=user)
    # A backup code was proved: a factor does not confirm its own removal.
    code_set = BackupCode.objects.filter(code_set__user=user).first()
    assert code_set is not None
    StepUpProof.objects.filter(session__user=user).update(
        factor=code_set.code_set.persistent_id, method="backup_code"
    )

    answer = client.post(f"{HOME}factors/{device.pk}/remove/")

    assert answer.status_code == 409
    assert "only second factor" in text(answer)
    assert TotpDevice.objects.filter(pk=device.pk).exists()


def test_wrong_code_of_a_second_telephone_is_asked_for_again() -> None:
    visitor = house.visitor()
    add = f"{HOME}authenticator/"
    scan = visitor.client.post(add, {"step": "name", "name": "Second"})
    device = re.search(r'name="device" value="(\d+)"', text(scan))
    assert device

    wrong = visitor.client.post(add, {"step": "code", "device": device[1], "code": "abc"})
    over = visitor.client.post(add, {"step": "code", "device": "9" * 30, "code": "123456"})
    nameless = visitor.client.post(add, {"step": "name", "name": ""})

    assert wrong.status_code == 400
    assert f'name="device" value="{device[1]}"' in text(wrong)
    assert over.status_code == 409
    assert 'name="name"' in text(over)
    assert nameless.status_code == 422


def test_passkey_that_is_none_is_refused_with_a_word() -> None:
    client = house.visitor().client

    answer = client.post(f"{HOME}passkey/", {"name": "key", "credential": "{}"})

    assert answer.status_code in {400, 401, 422}
    assert 'role="alert"' in text(answer)


def test_own_sessions_end_one_by_one_and_all_at_once_but_never_those_of_others() -> None:
    visitor, stranger = house.visitor(), house.visitor()
    TotpDevice.objects.filter(user=visitor.user).update(last_step=0)
    house.enter(visitor.user, visitor.device)
    mine = UserSession.objects.filter(user=visitor.user).order_by("pk")
    first, second = mine[0], mine[1]
    theirs = UserSession.objects.get(user=stranger.user)

    assert visitor.client.post(f"{HOME}sessions/{theirs.pk}/end/").status_code == 404
    assert visitor.client.post(f"{HOME}sessions/{first.pk}/end/").status_code == 404
    assert visitor.client.post(f"{HOME}sessions/{second.pk}/end/").status_code == 302
    assert visitor.client.get(f"{HOME}sessions/{second.pk}/end/").status_code == 405
    second.refresh_from_db()
    theirs.refresh_from_db()
    assert second.revoked_at is not None
    assert theirs.revoked_at is None
    TotpDevice.objects.filter(user=visitor.user).update(last_step=0)
    house.enter(visitor.user, visitor.device)
    assert visitor.client.post(f"{HOME}sessions/others/end/").status_code == 302
    assert UserSession.objects.filter(user=visitor.user, revoked_at=None).count() == 1


def test_my_security_costs_the_same_whatever_there_is_to_show() -> None:
    from tests.console.test_pages import STATEMENTS, _statements

    visitor = house.visitor()
    few = _statements(visitor.client, HOME)
    for number in range(4):
        TotpDeviceFactory.create(user=visitor.user, name=f"phone {number}")

    assert _statements(visitor.client, HOME) == few <= STATEMENTS


# --- Back in without any factor -----------------------------------------------------------------------------


def begun(user: User) -> tuple[Client, str]:
    client = english()
    assert client.post(RECOVERY, {"step": "begin", "email": user.email})["Location"] == RECOVERY
    code = re.search(r"\b[A-Z2-7]{8}\b", posted()[-1].body)
    assert code
    return client, code[0]


def test_two_proofs_and_a_wait_lead_to_a_new_first_factor() -> None:
    user, _device = house.person()
    client, code = begun(user)

    one = client.post(RECOVERY, {"step": "mailed_code", "code": code}, follow=True)
    two = client.post(RECOVERY, {"step": "password", "email": user.email, "password": PASSWORD}, follow=True)
    FactorReset.objects.update(
        due_at=F("due_at") - dt.timedelta(days=2), requested_at=F("requested_at") - dt.timedelta(days=2)
    )
    factor_resets.carry_out_due(by=actor.system("test"))
    answer = client.post(LOGIN, {"email": user.email, "password": PASSWORD})

    assert "One more is needed" in text(one)
    assert "Your factors are removed on" in text(two)
    assert answer["Location"].startswith(FIRST)


def test_recovery_looks_the_same_for_an_account_that_there_is_not() -> None:
    user, _device = house.person()
    known, unknown = english(), english()
    for client, email in ((known, user.email), (unknown, "nobody@example.com")):
        client.post(RECOVERY, {"step": "begin", "email": email})

    def plain(client: Client) -> str:
        return re.sub(r'value="\w{64}"', "", text(client.get(RECOVERY)))

    assert plain(known) == plain(unknown)
    assert unknown.post(RECOVERY, {"step": "mailed_code", "code": "AAAAAAAA"}).status_code == 401
    assert known.post(RECOVERY, {"step": "mailed_code", "code": "AAAAAAAA"}).status_code == 401


def test_recovery_without_or_with_a_dead_case_begins_anew() -> None:
    client = english()
    assert client.post(RECOVERY, {"step": "mailed_code", "code": "AAAAAAAA"}).status_code == 401
    client.cookies["__Host-recovery"] = "nothing"

    page = client.get(RECOVERY)

    assert "Mail me a code" in text(page)
    assert page.cookies["__Host-recovery"].value == ""
    assert client.post(RECOVERY, {"step": "charm"}).status_code in {401, 422}
    assert client.post(RECOVERY, {"step": "restart"}).status_code == 302


def test_link_of_an_approved_case_is_answered_at_once_and_kept_in_the_cookie() -> None:
    user, _device = house.person()
    client, code = begun(user)
    token = client.cookies["__Host-recovery"].value
    fresh = english()

    page = fresh.get(f"{RECOVERY}{token}/")

    assert "Code from the message" in text(page)
    assert fresh.cookies["__Host-recovery"]["samesite"] == "Strict"
    assert "One more is needed" in text(
        fresh.post(RECOVERY, {"step": "mailed_code", "code": code}, follow=True)
    )
    assert fresh.post(f"{RECOVERY}{token}/", {"step": "begin"}).status_code == 404


def test_link_in_the_message_stops_a_reset_with_a_button_only() -> None:
    user, _device = house.person()
    client, code = begun(user)
    client.post(RECOVERY, {"step": "mailed_code", "code": code})
    client.post(RECOVERY, {"step": "password", "email": user.email, "password": PASSWORD})
    link = re.search(r"/admin/recovery/cancel/[\w-]+/", "".join(message.body for message in posted()))
    assert link

    asked = english().get(link[0])
    waiting = FactorReset.objects.get(user=user).is_open
    stopped = english().post(link[0])
    again = english().post(link[0])

    assert "Stop the factor reset?" in text(asked)
    assert waiting
    assert "was stopped" in text(stopped)
    assert again.status_code == 409
    assert TotpDevice.objects.filter(user=user).exists()


def test_reset_that_waits_is_on_the_owners_page_and_stops_there() -> None:
    visitor = house.visitor()
    client, code = begun(visitor.user)
    client.post(RECOVERY, {"step": "mailed_code", "code": code})
    client.post(RECOVERY, {"step": "password", "email": visitor.user.email, "password": PASSWORD})

    page = visitor.client.get(HOME, headers={"accept-language": "en"})
    stopped = visitor.client.post(f"{HOME}reset/stop/")

    assert "It was not me: stop it" in text(page)
    assert stopped["Location"] == LOGIN
    assert visitor.client.get("/admin/").status_code == 302
    assert not FactorReset.objects.get(user=visitor.user).is_open


def test_nothing_to_stop_says_so() -> None:
    translation.activate("en")
    assert house.visitor().client.post(f"{HOME}reset/stop/").status_code == 409


# --- Seeing as somebody else --------------------------------------------------------------------------------


@pytest.fixture
def superuser(db: None) -> house.Visitor:
    return house.visitor(superuser=True, permissions=("users.manage.global", house.DANGEROUS))


def act_as(visitor: house.Visitor, target: User) -> Any:
    return visitor.client.post(f"/admin/impersonation/{target.pk}/", {"reason": "helping with a complaint"})


def test_impersonation_has_a_banner_everywhere_reads_only_and_leads_back(superuser: house.Visitor) -> None:
    admin = AdminFactory.create()

    began = act_as(superuser, admin)
    inside = superuser.client.get("/admin/accounts/user/", headers={"accept-language": "en"})
    changed = superuser.client.post("/admin/accounts/user/do/", {"action": "deactivate"})
    secrets_page = superuser.client.get(HOME)
    stopped = superuser.client.post("/admin/impersonation/stop/")
    after = superuser.client.get("/admin/", headers={"accept-language": "en"})

    assert began["Location"] == "/admin/impersonation/"
    assert f"You see this as {admin.email}" in text(inside)
    assert superuser.user.email in text(inside)
    assert changed.status_code == 403
    assert secrets_page.status_code == 403
    assert stopped["Location"] == "/admin/"
    assert superuser.user.email in text(after)
    assert "You see this as" not in text(after)


def test_impersonated_buyer_has_a_page_to_stand_on(superuser: house.Visitor) -> None:
    act_as(superuser, BuyerFactory.create())

    page = superuser.client.get("/admin/", follow=True, headers={"accept-language": "en"})

    assert page.redirect_chain[-1][0] == "/admin/impersonation/"
    assert "may not enter the console" in text(page)
    assert "You see this as" in text(page)


def test_impersonation_needs_reason_rank_and_a_fresh_factor(superuser: house.Visitor) -> None:
    target = BuyerFactory.create()
    path = f"/admin/impersonation/{target.pk}/"

    assert superuser.client.post(path, {"reason": "short"}).status_code == 400
    assert act_as(superuser, superuser.user).status_code == 403
    assert superuser.client.get(path).status_code == 200
    assert (
        superuser.client.get(path.replace(str(target.pk), str(superuser.user.pk)[:-4] + "0000")).status_code
        == 404
    )
    stale(superuser.user)
    assert act_as(superuser, target)["Location"].startswith(CONFIRM)
    assert not UserSession.objects.filter(user=target).exists()


def test_impersonation_page_of_nobody_leads_home(superuser: house.Visitor) -> None:
    assert superuser.client.get("/admin/impersonation/")["Location"] == "/admin/"
    assert superuser.client.post("/admin/impersonation/stop/").status_code == 409


def test_known_devices_are_listed_and_forgotten_by_their_owner_only() -> None:
    visitor, other = house.visitor(), house.visitor()
    by = actor.system("test")
    for user in (visitor.user, other.user):
        devices.revoke_all(user, by=by)
        devices.remember(user, by=by)
    mine, theirs = devices.of(visitor.user).get(), devices.of(other.user).get()

    page = text(visitor.client.get(HOME, headers={"accept-language": "en"}))
    assert "Known devices" in page
    assert visitor.client.post(f"{HOME}devices/{theirs.pk}/forget/").status_code == 404
    assert visitor.client.post(f"{HOME}devices/{mine.pk}/forget/")["Location"] == HOME
    assert not devices.of(visitor.user).exists()
    assert devices.of(other.user).exists()


def test_stranger_at_the_impersonation_pages_is_sent_to_the_sign_in() -> None:
    assert Client().get("/admin/impersonation/")["Location"].startswith(LOGIN)
    assert Client().post("/admin/impersonation/stop/")["Location"].startswith(LOGIN)


@pytest.mark.parametrize("token", ["x" * 43, "ñ", "😀", "x" * 4_000])
def test_a_link_that_opens_no_recovery_leaves_nothing_in_the_browser(token: str) -> None:
    client = Client()

    answer = client.get(f"{RECOVERY}{token}/")

    assert answer.status_code == 200
    assert [cookie.value for name, cookie in answer.cookies.items() if "csrf" not in name] == [""]
    assert client.get(RECOVERY).status_code == 200
