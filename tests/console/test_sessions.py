"""The console's pages about sessions: the list and its charts, one session's page, ending, limits."""

from __future__ import annotations

import datetime as dt
import html
import re
import urllib.parse
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import resolve, reverse
from django.utils import timezone

from accounts.models import ApprovalRequest, User
from mestore.lib.actor import Actor
from mestore.urls import OPEN
from monitoring import audit, events
from monitoring.models import AuditEvent
from sessions_security import everyone, samples, session_charts, sessions, tokens
from sessions_security.console_views import SignIn
from sessions_security.models import SessionCutoff, SessionSample, StepUpProof, UserSession
from tests.console import house
from tests.contract.routes import every_route
from tests.factories import accounts as people
from tests.factories import sessions_security as made

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

LIST = "/admin/sessions_security/usersession/"
DO = f"{LIST}do/"
LIMITS, EVERYONE = "/admin/sessions/limits/", "/admin/sessions/end-everyone/"
REASON = "reported as stolen"


@pytest.fixture
def admin_visitor(admin_visitor: house.Visitor) -> house.Visitor:
    """The administrator of the other console tests, whose browser speaks English."""
    admin_visitor.client.defaults["HTTP_ACCEPT_LANGUAGE"] = "en"
    return admin_visitor


def page_of(session: UserSession) -> str:
    return f"{LIST}{session.pk}/change/"


def text(answer: Any) -> str:
    return html.unescape(answer.content.decode())


def stale(user: User) -> None:
    StepUpProof.objects.filter(session__user=user).update(proved_at=timezone.now() - dt.timedelta(minutes=6))


def end(visitor: house.Visitor, *targets: Any, action: str = "end", url: str = DO) -> Any:
    keys = [str(target.pk) for target in targets]
    return visitor.client.post(url, {"action": action, "pk": keys, "reason": REASON})


# --- The list -----------------------------------------------------------------------------------------------


def test_list_tells_who_where_how_proved_since_when_and_how_many_tokens(
    admin_visitor: house.Visitor,
) -> None:
    _session, pair = made.tokens_of(people.BuyerFactory.create(email="buyer@example.com"))
    assert pair.refresh_token is not None
    with transaction.atomic():
        tokens.rotate(pair.refresh_token, by=made.HERE)

    shown = text(admin_visitor.client.get(f"{LIST}?kind=token"))

    assert "buyer@example.com" in shown
    assert "BUYER · token" in shown
    assert "127.0.0.1" in shown
    assert "Countries: no data source." in shown
    assert re.search(r'column-issued"[^>]*><div><span class="num">2</span></div>', shown), shown
    assert pair.refresh_token not in shown


@pytest.mark.parametrize(
    ("query", "found"),
    [("state=live", "bt"), ("state=over", "e"), ("kind=token", "te"), ("role=BUYER", "bte"),
     ("role=SYSTEM", ""), ("assurance=one", "te"), ("assurance=two", "b")],
)  # fmt: skip
def test_filters_narrow(admin_visitor: house.Visitor, query: str, found: str) -> None:
    buyer = people.BuyerFactory.create()
    known = {
        "b": made.session_of(buyer, kind="cookie", amr=("pwd", "otp")),
        "t": made.session_of(buyer),
        "e": made.session_of(buyer),
    }
    sessions.end(known["e"], by=made.HERE, why="test")

    shown = text(admin_visitor.client.get(f"{LIST}?{query}&user_id={buyer.pk}"))

    assert "".join(key for key, row in known.items() if page_of(row) in shown) == found


@pytest.mark.parametrize(
    "query",
    ["role=x", "assurance=x", "bound_key=x", "bound_key__isnull=0", "user__password=x",
     "secret__key_hash=x", "refresh_tokens__token_hash=x"],
)  # fmt: skip
def test_what_is_not_offered_is_refused(admin_visitor: house.Visitor, query: str) -> None:
    assert admin_visitor.client.get(f"{LIST}?{query}").status_code in {302, 400}


def test_end_of_everybodys_sessions_is_told_on_each_row(admin_visitor: house.Visitor) -> None:
    session = made.session_of(people.BuyerFactory.create())
    long_ago = timezone.now() - dt.timedelta(minutes=10)
    UserSession.objects.filter(pk=session.pk).update(created_at=long_ago)
    SessionCutoff.objects.create(
        at=long_ago + dt.timedelta(minutes=1), reason="a drill", asked_by="a", approved_by="b"
    )

    assert "ended with everybody's" in text(admin_visitor.client.get(page_of(session)))
    assert page_of(session) not in text(admin_visitor.client.get(f"{LIST}?state=live"))


def test_list_costs_the_same_however_many_rows(admin_visitor: house.Visitor) -> None:
    counts = []
    for rows in (1, 6):
        for _ in range(rows):
            made.tokens_of(people.BuyerFactory.create())
        with CaptureQueriesContext(connection) as statements:
            assert admin_visitor.client.get(LIST).status_code == 200
        counts.append(len(statements))

    assert counts[0] == counts[1] <= 12


# --- Charts ---------------------------------------------------------------------------------------------


def test_without_samples_the_charts_say_no_data_and_never_zero(admin_visitor: house.Visitor) -> None:
    shown = text(admin_visitor.client.get(LIST))

    assert shown.count('<p class="value absent">no data</p>') == 2
    assert "the worker writes the first sample within 5 minutes" in shown
    assert "chart-plot" not in shown


def test_charts_show_ages_and_the_most_at_the_same_time_with_gaps(admin_visitor: house.Visitor) -> None:
    now = timezone.now()
    SessionSample.objects.create(at=now - dt.timedelta(hours=5), live={"BUYER": {"cookie": 41}}, ages={})
    SessionSample.objects.create(
        at=now, live={"BUYER": {"cookie": 3}, "ADMIN": {"token": 2}}, ages={"0": 4, "9": 1}
    )

    shown = text(admin_visitor.client.get(LIST))

    assert "Age of live sessions" in shown
    assert '<th scope="row">9 h</th><td class="num">1</td>' in shown
    assert '<td class="num">41</td><td class="num">0</td><td class="num">41</td>' in shown
    assert '<td class="num">no data</td>' in shown
    assert "style=" not in shown.split("<main")[-1].split("</main>")[0]


def test_last_sample_that_is_old_is_no_figure_of_now(admin_visitor: house.Visitor) -> None:
    SessionSample.objects.create(at=timezone.now() - session_charts.LATE, live={}, ages={"0": 4})

    assert "no data since" in text(admin_visitor.client.get(LIST))


def test_worker_s_sample_is_what_is_drawn(admin_visitor: house.Visitor) -> None:
    samples.sample()

    shown = text(admin_visitor.client.get(LIST))

    assert "samples of the worker, every 5 minutes · now" in shown or " ago" in shown
    assert shown.count('class="chart-plot"') == 2


# --- Refreshing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/admin/", LIST])
def test_page_loads_itself_anew_only_on_request_and_without_script(
    admin_visitor: house.Visitor, path: str
) -> None:
    plain, asked = admin_visitor.client.get(path), admin_visitor.client.get(f"{path}?refresh=30")

    assert "http-equiv" not in text(plain)
    assert 'href="?refresh=30"' in text(plain)
    assert '<meta http-equiv="refresh" content="30">' in text(asked)
    assert '<a href="?">off</a>' in text(asked)
    assert "<script" not in text(asked)


@pytest.mark.parametrize("value", ["1", "0", "31", "30;url=//evil.example", "-30", "x", "٣٠"])
def test_no_other_refresh_is_taken(admin_visitor: house.Visitor, value: str) -> None:
    answer = admin_visitor.client.get(LIST, {"refresh": value, "state": "live"})

    assert answer.status_code == 200
    assert "http-equiv" not in text(answer)


def test_filters_stay_when_refreshing_and_idle_end_leads_to_the_sign_in(
    admin_visitor: house.Visitor,
) -> None:
    shown = text(admin_visitor.client.get(LIST, {"state": "live", "refresh": "60"}))
    UserSession.objects.filter(user=admin_visitor.user).update(idle_expires_at=timezone.now())
    ended = admin_visitor.client.get(LIST, {"state": "live", "refresh": "60"})

    assert 'href="?state=live&refresh=30"' in shown
    assert ended.status_code == 302
    assert ended["Location"].startswith("/admin/login/")


def test_refreshing_does_not_prolong_the_session(admin_visitor: house.Visitor) -> None:
    rows = UserSession.objects.filter(user=admin_visitor.user)
    rows.update(last_seen_at=F("last_seen_at") - dt.timedelta(minutes=5))
    before = rows.get()

    admin_visitor.client.get(LIST, {"refresh": "30"})
    assert rows.get().last_seen_at == before.last_seen_at

    admin_visitor.client.get(LIST)
    assert rows.get().last_seen_at > before.last_seen_at


# --- One session's page -------------------------------------------------------------------------------------


def test_timeline_has_every_event_of_the_session_newest_first_linked_and_paged() -> None:
    visitor = house.visitor(permissions=(house.AUDIT,))
    user = people.BuyerFactory.create()
    session = made.session_of(user)
    within = Actor(kind="user", id=str(user.pk), label="x", session_id=str(session.pk), request_id="req_9")
    for _ in range(30):
        with transaction.atomic():
            audit.record(events.STEP_UP_PROVED, by=within)

    first = visitor.client.get(page_of(session), headers={"accept-language": "en"})
    older = re.search(r'href="([^"]+)" rel="next"', first.content.decode())
    assert older, text(first)
    second = visitor.client.get(html.unescape(older[1]), headers={"accept-language": "en"})

    told = Q(session_id=str(session.pk)) | Q(target_type="session", target_id=str(session.pk))
    newest = AuditEvent.objects.filter(told).order_by("-occurred_at", "-id")
    links = re.findall(r"/admin/monitoring/auditevent/([0-9a-f-]{36})/change/", text(first))
    links += re.findall(r"/admin/monitoring/auditevent/([0-9a-f-]{36})/change/", text(second))
    assert links == [str(pk) for pk in newest.values_list("pk", flat=True)]
    assert events.get(events.STEP_UP_PROVED).description in text(first)
    assert "req_9" in text(first)
    assert events.get(events.SESSION_STARTED).description in text(second)
    assert 'rel="prev"' in text(second)


def test_who_may_not_read_the_trail_gets_words_without_links(admin_visitor: house.Visitor) -> None:
    visitor = house.visitor()
    session = made.session_of(people.BuyerFactory.create())

    shown = text(visitor.client.get(page_of(session), headers={"accept-language": "en"}))

    assert events.get(events.SESSION_STARTED).description in shown
    assert "/admin/monitoring/auditevent/" not in shown


@pytest.mark.parametrize(
    "query", ["at=x", "after=x", "at=2026-01-01T00:00:00&after=x", "at=2026-99-01T00:00:00%2B00:00",
              "at=2026-01-01T00:00:00&after=01a2002a-7d92-7321-ab3c-ff847827c080"],
)  # fmt: skip
def test_place_that_no_link_of_ours_names_is_refused(admin_visitor: house.Visitor, query: str) -> None:
    session = made.session_of(people.BuyerFactory.create())

    assert admin_visitor.client.get(f"{page_of(session)}?{query}").status_code == 400


def test_page_tells_proofs_with_their_age_the_bound_key_and_who_acts(admin_visitor: house.Visitor) -> None:
    session = made.session_of(people.BuyerFactory.create())
    now = timezone.now()
    for method, bound in (("totp", -60), ("passkey", 60)):
        StepUpProof.objects.create(
            session=session, method=method, factor=method, proved_at=now - dt.timedelta(minutes=3),
            bound_at=session.created_at + dt.timedelta(seconds=bound),
        )  # fmt: skip
    UserSession.objects.filter(pk=session.pk).update(bound_key=b"k" * 32)

    shown = text(admin_visitor.client.get(page_of(session)))

    assert "authenticator application" in shown
    assert "3 min ago" in shown
    assert "no: the factor is newer than the session" in shown
    assert re.search(r"Bound to a key</dt><dd>yes", shown)
    assert "its account" in shown
    assert "6b6b6b" not in shown


def test_page_costs_at_most_twelve_statements_however_much_happened(admin_visitor: house.Visitor) -> None:
    user = people.BuyerFactory.create()
    session = made.session_of(user)
    within = Actor(kind="user", id=str(user.pk), label="x", session_id=str(session.pk))
    counts = []
    for number in (1, 40):
        for _ in range(number):
            with transaction.atomic():
                audit.record(events.STEP_UP_PROVED, by=within)
        with CaptureQueriesContext(connection) as statements:
            assert admin_visitor.client.get(page_of(session)).status_code == 200
        counts.append(len(statements))

    assert counts[0] == counts[1] <= 12


# --- Ending ---------------------------------------------------------------------------------------------


def test_all_sessions_of_an_account_end_from_a_session_and_from_the_account(
    admin_visitor: house.Visitor,
) -> None:
    buyer = people.BuyerFactory.create()
    one, _other = made.session_of(buyer), made.session_of(buyer, kind="cookie")

    assert end(admin_visitor, one, action="end_all").status_code == 302
    assert not sessions.live(buyer).exists()

    made.session_of(buyer)
    user_do = reverse("admin:accounts_user_do")
    asked = admin_visitor.client.get(user_do, {"action": "end_sessions", "pk": str(buyer.pk)})
    assert "End every session of 1 account?" in text(asked)
    assert end(admin_visitor, buyer, action="end_sessions", url=user_do).status_code == 302
    assert not sessions.live(buyer).exists()
    assert AuditEvent.objects.filter(type="session.ended", actor_id=str(admin_visitor.user.pk)).count() == 3


@pytest.mark.parametrize("action", ["end", "end_all"])
def test_stale_factor_is_asked_for_first_and_the_question_comes_again(
    admin_visitor: house.Visitor, action: str
) -> None:
    session = made.session_of(people.BuyerFactory.create())
    stale(admin_visitor.user)

    for answer in (
        end(admin_visitor, session, action=action),
        admin_visitor.client.get(DO, {"action": action, "pk": str(session.pk)}),
    ):
        assert answer.status_code == 302
        assert answer["Location"].startswith("/admin/confirm/?action=users.end_sessions&next=")
    back = re.search(r"next=(.+)$", end(admin_visitor, session, action=action)["Location"])
    assert back
    UserSession.objects.get(pk=session.pk, revoked_at=None)
    StepUpProof.objects.filter(session__user=admin_visitor.user).update(proved_at=timezone.now())
    again = admin_visitor.client.get(urllib.parse.unquote(back[1]))
    assert again.status_code == 200
    assert str(session.pk) in text(again)


@pytest.mark.parametrize("action", ["end", "end_all"])
def test_nobody_ends_sessions_of_somebody_beside_or_above_them(
    admin_visitor: house.Visitor, action: str
) -> None:
    buyer = made.session_of(people.BuyerFactory.create())
    above = made.session_of(people.SuperuserFactory.create())
    peer = made.session_of(people.AdminFactory.create())

    alone = end(admin_visitor, above, action=action)
    mixed = end(admin_visitor, above, peer, buyer, action=action)

    assert alone.status_code == 409
    assert mixed.status_code == 302
    live = set(UserSession.objects.filter(revoked_at=None).values_list("pk", flat=True))
    assert {above.pk, peer.pk} <= live
    assert buyer.pk not in live


def test_everybody_is_asked_about_with_a_reason_and_what_waits_is_shown(
    admin_visitor: house.Visitor,
) -> None:
    client = admin_visitor.client
    bystander = people.BuyerFactory.create()
    made.session_of(bystander)

    assert "sessions are live now" in text(client.get(EVERYONE))
    assert client.post(EVERYONE, {"reason": "short"}).status_code == 400
    asked = client.post(EVERYONE, {"reason": "keys may have leaked"})

    request = ApprovalRequest.objects.get(action=everyone.PROCEDURE)
    assert asked.status_code == 302
    assert str(request.pk) in asked["Location"]
    assert sessions.live(bystander).exists()
    assert "Waits for a second person" in text(client.get(EVERYONE))
    assert client.post(EVERYONE, {"reason": "keys may have leaked"}).status_code == 409


def test_asking_for_everybody_needs_the_right_and_a_fresh_factor(admin_visitor: house.Visitor) -> None:
    assert house.visitor().client.get(EVERYONE).status_code == 403
    stale(admin_visitor.user)

    for answer in (
        admin_visitor.client.get(EVERYONE),
        admin_visitor.client.post(EVERYONE, {"reason": "keys may have leaked"}),
    ):
        assert answer.status_code == 302
        assert answer["Location"].startswith("/admin/confirm/?action=users.end_sessions")
    assert not ApprovalRequest.objects.exists()


def test_limits_are_the_settings_for_every_role(admin_visitor: house.Visitor) -> None:
    shown = text(admin_visitor.client.get(LIMITS))

    for role in settings.SESSION_POLICY:
        assert f"<td>{role}</td>" in shown
    for action in settings.STEP_UP:
        assert f"<code>{action}</code>" in shown
    assert re.search(r"<td>ADMIN</td><td>15 min</td><td>12 h</td><td>2 per kind</td>", shown)
    assert "asks for a factor" in shown


# --- One's own ----------------------------------------------------------------------------------------------


def test_own_sessions_tell_where_how_and_since_when_and_end_with_a_recent_factor(
    admin_visitor: house.Visitor,
) -> None:
    other = made.session_of(admin_visitor.user, amr=("pwd", "otp"))
    home, url = "/admin/security/", reverse("console-end-session", args=[other.pk])

    shown = text(admin_visitor.client.get(home))
    assert "country unknown" in shown
    assert "password, one-time code" in shown
    assert " s ago" in shown

    StepUpProof.objects.all().update(proved_at=timezone.now() - dt.timedelta(minutes=16))
    refused = admin_visitor.client.post(url)
    assert refused["Location"] == "/admin/confirm/?action=sessions.revoke&next=%2Fadmin%2Fsecurity%2F"
    assert "end your other sessions" in text(admin_visitor.client.get(refused["Location"]))
    assert sessions.live(admin_visitor.user).count() == 2

    StepUpProof.objects.all().update(proved_at=timezone.now() - dt.timedelta(minutes=14))
    assert admin_visitor.client.post(url)["Location"] == home
    assert sessions.live(admin_visitor.user).count() == 1


def test_every_page_has_the_one_way_out(admin_visitor: house.Visitor) -> None:
    """Signing out is on each page of whoever is signed in, as a form (OWASP ASVS 5, 7.4.4)."""
    session = made.session_of(people.BuyerFactory.create())
    house.fill(1)
    paths = [
        "/admin/", "/admin/security/", "/admin/security/backup-codes/", "/admin/security/authenticator/",
        "/admin/password/", "/admin/lockouts/", "/admin/factors/", "/admin/confirm/?action=sessions.revoke",
        LIMITS, EVERYONE, *house.pages(), page_of(session), f"{DO}?action=end&pk={session.pk}",
    ]  # fmt: skip

    shown = 0
    for path in paths:
        answer = admin_visitor.client.get(path)
        if answer.status_code == 200:
            shown += 1
            form = re.search(r'<form[^>]*action="/admin/logout/"[^>]*>(.*?)</form>', text(answer), re.DOTALL)
            assert form, path
            assert "csrfmiddlewaretoken" in form[1], path
            assert 'method="post"' in form[0], path
        else:
            assert answer.status_code == 403, (path, answer.status_code)


# --- No side door -------------------------------------------------------------------------------------------

# What a session without a factor may reach: the ways in and out, and what an impersonated one stands on.
WAYS = {
    "console-sign-out",
    "console-impersonation",
    "console-impersonation-stop",
    "admin:logout",
    "console-entrance",
}


def test_no_page_opens_to_a_session_of_the_staff_that_proved_no_factor() -> None:
    """The cookie is live and its account is staff; what is missing is the factor (OWASP ASVS 5, 6.3.3)."""
    user, _device = house.person(superuser=True, permissions=(house.DANGEROUS, house.AUDIT))
    asked = 0
    for route in every_route():
        if not route.path.startswith("/admin") or route.name in OPEN or route.name in WAYS:
            continue
        for method in ("get", "post"):
            _session, value = made.cookie_of(user)
            client = Client()
            client.cookies.load(made.cookies(value))
            answer = getattr(client, method)(route.path)
            assert answer.status_code in {302, 403, 405}, (route, method, answer.status_code)
            if answer.status_code == 302:
                assert answer["Location"].startswith("/admin/login/"), (route, answer["Location"])
            asked += 1

    assert asked > 60


def test_sign_in_is_at_one_address_only() -> None:
    entrances = {
        route.path for route in every_route()
        if route.path.startswith("/admin") and getattr(resolve(route.path).func, "view_class", None) is SignIn
    }  # fmt: skip

    assert entrances == {"/admin/login/"}
