"""Lockouts, factors, approvals, resets, reviews and grants: who sees them, what they do, what they refuse."""

from __future__ import annotations

import datetime as dt
import html
import re
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone

from accounts import approvals, lockout, recovery_approval, suspension
from accounts.models import (
    AccessReview,
    ApprovalRequest,
    FactorReset,
    Grant,
    LockoutCounter,
    Permission,
    User,
)
from mestore.lib.actor import Actor
from mestore.lib.console import figures
from monitoring import delivery, events
from monitoring.models import AuditEvent
from monitoring.outbox import OutboxMessage
from sessions_security.models import StepUpProof
from tests.console import house
from tests.console.test_pages import STATEMENTS, _offences, _statements
from tests.factories.accounts import AdminFactory, BuyerFactory, SuperuserFactory, TotpDeviceFactory, grant

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

LOCKOUTS, FACTORS = "/admin/lockouts/", "/admin/factors/"
APPROVALS, REVIEWS = "/admin/accounts/approvalrequest/", "/admin/accounts/accessreview/"
ITEMS, USERS, GRANTS = "/admin/accounts/accessreviewitem/", "/admin/accounts/user/", "/admin/accounts/grant/"
# Counters commit on a connection of their own: what is read on another must be committed.
committed = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
REASON = {"reason": "asked for by its owner"}
GIVING = (
    "users.delete.global",
    "permissions.grant.global",
    "permissions.revoke.global",
    "users.manage.global",
    house.DANGEROUS,
)


def text(answer: Any) -> str:
    return html.unescape(answer.content.decode())


def get(client: Client, path: str) -> str:
    answer = client.get(path, headers={"accept-language": "en"})
    assert answer.status_code == 200, answer
    return text(answer)


def actor_of(user: User) -> Actor:
    return Actor(kind="user", id=str(user.pk), label=user.email, role=user.user_type)


def lock(email: str, address: str = "203.0.113.9", times: int = 5) -> None:
    for _ in range(times):
        lockout.charge(lockout.attempt("login", account=email, address=address))


@pytest.fixture
def chief(db: None) -> house.Visitor:
    return house.visitor(superuser=True, permissions=GIVING)


# --- Lockouts ---------------------------------------------------------------------------------------------


@committed
def test_lock_is_seen_found_by_its_address_and_lifted_with_a_reason(admin_visitor: house.Visitor) -> None:
    lock("victim@example.com")
    client = admin_visitor.client

    page = get(client, LOCKOUTS)
    found = get(client, f"{LOCKOUTS}?q=Victim@Example.com")
    link = re.search(r'href="(/admin/lockouts/[\w%=-]+/lift/)"', found)
    assert link
    asked = get(client, link[1])
    short = client.post(link[1], {"reason": "short"})
    lifted = client.post(link[1], REASON)

    assert "locked" in page
    assert "victim@example.com" not in page
    assert "an account" in found
    assert "Unlock this before its time?" in asked
    assert short.status_code == 400
    assert lifted["Location"] == LOCKOUTS
    lockout.refuse_locked(lockout.attempt("login", account="victim@example.com", address=None))
    assert AuditEvent.objects.filter(type=events.LOCK_LIFTED).exists()
    assert client.get(link[1]).status_code == 404


@committed
@pytest.mark.parametrize(("door", "named_by"), [("admin_login", "email_key"), ("factor", "pk")])
def test_a_lock_that_guards_somebody_above_is_not_lifted(
    admin_visitor: house.Visitor, door: str, named_by: str
) -> None:
    superior = SuperuserFactory.create()
    for _ in range(5):
        attempt = lockout.attempt(door, account=str(getattr(superior, named_by)), address="203.0.113.9")
        lockout.charge(attempt)
    before = LockoutCounter.objects.count()
    page = get(admin_visitor.client, f"{LOCKOUTS}?q={superior.email}")
    links = set(re.findall(r'href="(/admin/lockouts/[\w%=-]+/lift/)"', page))

    answers = [admin_visitor.client.post(link, REASON) for link in links]

    assert len(links) == 2  # the account, and the account from that network
    assert [answer.status_code for answer in answers] == [403, 403]
    assert LockoutCounter.objects.count() == before


@committed
def test_search_finds_networks_and_counts_below_the_limit(admin_visitor: house.Visitor) -> None:
    lock("somebody@example.com", times=2)

    found = get(admin_visitor.client, f"{LOCKOUTS}?q=203.0.113.9")
    nothing = get(admin_visitor.client, f"{LOCKOUTS}?q=nobody@example.com")

    assert "a network" in found
    assert "counting" in found
    assert "No failures are counted for this" in nothing
    assert "Nothing is locked" in get(admin_visitor.client, LOCKOUTS)


def test_what_is_typed_into_the_search_never_breaks_the_page(admin_visitor: house.Visitor) -> None:
    for typed in ("%00", "x" * 5_000, "%F0%9F%98%80", "' OR 1=1", "::1%25eth0"):
        answer = admin_visitor.client.get(f"{LOCKOUTS}?q={typed}")
        assert answer.status_code in {200, 400}


def test_keys_that_are_none_are_not_found(admin_visitor: house.Visitor) -> None:
    for key in ("x", "ñ", "AAAA", "=" * 20):
        assert admin_visitor.client.get(f"{LOCKOUTS}{key}/lift/").status_code == 404


def test_without_the_right_there_is_no_button_and_no_way() -> None:
    visitor = house.visitor()
    lock("victim@example.com")

    assert "/lift/" not in get(visitor.client, LOCKOUTS)
    assert visitor.client.get(f"{LOCKOUTS}AAAA/lift/").status_code == 403
    assert Client().get(LOCKOUTS).status_code == 302


@committed
@pytest.mark.parametrize("path", [LOCKOUTS, FACTORS])
def test_pages_are_bounded_and_obey_the_policy(path: str, admin_visitor: house.Visitor) -> None:
    lock("victim@example.com")
    AdminFactory.create()
    few = _statements(admin_visitor.client, path)
    for number in range(4):
        lock(f"victim{number}@example.com", f"198.51.100.{number}")
        AdminFactory.create()
    figures.forget()

    assert _statements(admin_visitor.client, path) == few <= STATEMENTS
    assert _offences(get(admin_visitor.client, path)) == []


@committed
def test_long_list_of_locks_says_that_it_is_cut(admin_visitor: house.Visitor) -> None:
    now = timezone.now()
    LockoutCounter.objects.using("audit").bulk_create(
        LockoutCounter(
            key=number.to_bytes(32, "big"), kind="login:account", failures=5, budget=5, failed_at=now,
            window_ends_at=now + dt.timedelta(hours=1), locked_until=now + dt.timedelta(hours=1),
        )
        for number in range(205)
    )  # fmt: skip

    assert "Only the newest 200" in get(admin_visitor.client, LOCKOUTS)


@committed
def test_account_shows_its_failures_and_is_unlocked_from_its_page(admin_visitor: house.Visitor) -> None:
    user = BuyerFactory.create()
    lock(user.email_key or "")
    client = admin_visitor.client

    page = get(client, f"{USERS}{user.pk}/change/")
    client.post(f"{USERS}do/", {"action": "unlock", "pk": str(user.pk), **REASON})

    assert "Failed attempts" in page
    assert "signing in: an account" in page
    lockout.refuse_locked(lockout.attempt("login", account=user.email_key or "", address=None))


# --- Factors ----------------------------------------------------------------------------------------------


def test_coverage_is_a_chart_with_its_table_and_names_who_is_missing(admin_visitor: house.Visitor) -> None:
    bare = AdminFactory.create()
    TotpDeviceFactory.create(user=BuyerFactory.create())

    page = get(admin_visitor.client, FACTORS)

    assert "<svg" in page
    assert "Second factors by role" in page
    assert bare.email in page
    assert "BUYER 1 / 1" in page


def test_accounts_are_filtered_by_factor_and_state(admin_visitor: house.Visitor) -> None:
    bare, gone, shut = AdminFactory.create(), BuyerFactory.create(), BuyerFactory.create()
    User.objects.filter(pk=gone.pk).update(deleted_at=timezone.now(), is_active=False)
    User.objects.filter(pk=shut.pk).update(locked_until=timezone.now() + dt.timedelta(hours=1))
    client = admin_visitor.client

    missing, proved = get(client, f"{USERS}?factor=missing"), get(client, f"{USERS}?factor=proved")
    deleted, locked = get(client, f"{USERS}?state=deleted"), get(client, f"{USERS}?state=locked")

    assert f"/{bare.pk}/change/" in missing
    assert f"/{bare.pk}/change/" not in proved
    assert f"/{admin_visitor.user.pk}/change/" in proved
    assert f"/{gone.pk}/change/" in deleted
    assert f"/{shut.pk}/change/" in locked
    assert f"/{gone.pk}/change/" not in locked


# --- Approvals and resets ---------------------------------------------------------------------------------


def lost(asker: house.Visitor) -> tuple[User, ApprovalRequest]:
    user = TotpDeviceFactory.create(user=BuyerFactory.create()).user
    answer = asker.client.post(f"{USERS}do/", {"action": "factor_reset", "pk": str(user.pk), **REASON})
    assert answer.status_code == 302, text(answer)
    return user, ApprovalRequest.objects.get(about=user)


def test_one_asks_another_approves_and_the_owner_gets_the_code(chief: house.Visitor) -> None:
    second = house.visitor(superuser=True, permissions=GIVING)
    user, request = lost(chief)
    path = f"{APPROVALS}do/"

    alone = chief.client.post(path, {"action": "approve", "pk": str(request.pk), **REASON})
    page = get(second.client, f"{APPROVALS}{request.pk}/change/")
    second.client.post(path, {"action": "approve", "pk": str(request.pk), **REASON})
    for message in OutboxMessage.objects.all():
        delivery.send(message.pk)

    request.refresh_from_db()
    assert alone.status_code == 409
    assert "waiting" in page
    assert "asked for by its owner" in page
    assert request.state == ApprovalRequest.State.DONE
    assert any(user.email in message.to for message in mail.outbox)


def test_request_is_refused_or_withdrawn(chief: house.Visitor) -> None:
    second = house.visitor(superuser=True, permissions=GIVING)
    _user, first = lost(chief)
    _user, other = lost(chief)
    path = f"{APPROVALS}do/"

    second.client.post(path, {"action": "refuse", "pk": str(first.pk), **REASON})
    stranger = second.client.post(path, {"action": "withdraw", "pk": str(other.pk), **REASON})
    chief.client.post(path, {"action": "withdraw", "pk": str(other.pk), **REASON})

    first.refresh_from_db()
    other.refresh_from_db()
    assert first.state == ApprovalRequest.State.REFUSED
    assert stranger.status_code == 409
    assert other.state == ApprovalRequest.State.WITHDRAWN
    decided = get(chief.client, f"{APPROVALS}?waits=decided")
    assert f"/{first.pk}/change/" in decided
    assert f"/{first.pk}/change/" not in get(chief.client, f"{APPROVALS}?waits=waiting")


def test_deciding_asks_for_a_fresh_factor_and_brings_back_to_the_same_question(chief: house.Visitor) -> None:
    second = house.visitor(superuser=True, permissions=GIVING)
    _user, request = lost(chief)
    StepUpProof.objects.update(proved_at=timezone.now() - dt.timedelta(hours=1))

    asked = second.client.get(f"{APPROVALS}do/?action=approve&pk={request.pk}")

    assert asked["Location"].startswith("/admin/confirm/?action=approvals.decide")
    assert str(request.pk) in asked["Location"]


def test_altered_and_expired_requests_say_so(chief: house.Visitor) -> None:
    _user, request = lost(chief)
    ApprovalRequest.objects.filter(pk=request.pk).update(reason="x", details={"more": 1})
    assert "altered: it opens nothing" in get(chief.client, APPROVALS)

    user = TotpDeviceFactory.create(user=BuyerFactory.create()).user
    late = recovery_approval.ask(user, reason="lost the telephone", by=actor_of(chief.user))
    late.asked_at, late.expires_at = (timezone.now() - dt.timedelta(hours=hours) for hours in (30, 6))
    late.seal = late.make_seal()
    late.save()
    assert "expired" in get(chief.client, f"{APPROVALS}{late.pk}/change/")
    assert not approvals.may_decide(late, chief.user)


def test_reset_is_stopped_by_those_above_only(admin_visitor: house.Visitor) -> None:
    now = timezone.now()

    def reset_of(user: User, number: int) -> FactorReset:
        return FactorReset.objects.create(
            user=user, proofs=["password"], cancel_hash=bytes([number]) * 32, requested_at=now,
            due_at=now + dt.timedelta(days=1),
        )  # fmt: skip

    below, equal = reset_of(BuyerFactory.create(), 1), reset_of(AdminFactory.create(), 2)
    path = "/admin/accounts/factorreset/do/"

    client = admin_visitor.client
    assert client.post(path, {"action": "stop", "pk": str(below.pk), **REASON}).status_code == 302
    assert client.post(path, {"action": "stop", "pk": str(equal.pk), **REASON}).status_code == 409
    over = get(client, "/admin/accounts/factorreset/?state=over")
    assert "stopped" in over
    assert "waiting" in get(client, f"/admin/accounts/factorreset/{equal.pk}/change/")
    FactorReset.objects.filter(pk=equal.pk).update(carried_out_at=now)
    assert "carried out" in get(client, f"/admin/accounts/factorreset/{equal.pk}/change/")


# --- Reviews and grants -----------------------------------------------------------------------------------


def test_review_from_its_beginning_to_the_sealed_outcome(chief: house.Visitor) -> None:
    holder = AdminFactory.create()
    kept, dropped = grant(holder, "users.read.read_only", "orders.read.read_only")
    Grant.objects.filter(user=chief.user).update(expires_at=None)
    client = chief.client
    assert "Begin a review" in get(client, REVIEWS)

    began = client.post("/admin/reviews/start/", REASON)
    review = AccessReview.objects.get()
    second = client.post("/admin/reviews/start/", REASON)
    items = {item.grant_id: str(item.pk) for item in review.items.all()}
    client.post(f"{ITEMS}do/", {"action": "keep", "pk": items[kept.pk], **REASON})
    client.post(f"{ITEMS}do/", {"action": "revoke", "pk": items[dropped.pk], **REASON})
    early = client.post(f"{REVIEWS}do/", {"action": "finish", "pk": str(review.pk), **REASON})
    # One's own grants are somebody else's to decide about.
    own = next(pk for grant_id, pk in items.items() if grant_id not in {kept.pk, dropped.pk})
    itself = client.post(f"{ITEMS}do/", {"action": "keep", "pk": own, **REASON})
    other = house.visitor(superuser=True, permissions=("permissions.revoke.global",))
    mine = [pk for grant_id, pk in items.items() if grant_id not in {kept.pk, dropped.pk}]
    other.client.post(f"{ITEMS}do/", {"action": "keep", "pk": mine, **REASON})
    client.post(f"{REVIEWS}do/", {"action": "finish", "pk": str(review.pk), **REASON})

    dropped.refresh_from_db()
    review.refresh_from_db()
    assert began["Location"] == f"{REVIEWS}{review.pk}/change/"
    assert second.status_code == 409
    assert early.status_code == 409
    assert itself.status_code == 409
    assert dropped.revoked_at is not None
    assert review.finished_at is not None
    page = get(client, f"{REVIEWS}{review.pk}/change/")
    assert "finished and sealed" in page
    assert review.outcome_digest in page
    assert f"{ITEMS}?review_id={review.pk}" in page
    assert "keep" in get(client, f"{ITEMS}?review_id={review.pk}&outcome=keep")
    review.items.filter(grant=kept).update(reason="changed by hand")
    assert "somebody changed it by hand" in get(client, f"{REVIEWS}{review.pk}/change/")


def test_review_leaves_as_a_file_once_after_another_person_agreed(chief: house.Visitor) -> None:
    other = house.visitor(superuser=True, permissions=GIVING)
    chief.client.post("/admin/reviews/start/", REASON)
    review = AccessReview.objects.get()
    address = f"/admin/reviews/{review.pk}/csv/"

    assert "Ask a second person" in get(chief.client, address)
    assert chief.client.post(address, {"reason": "short"}).status_code == 400
    assert chief.client.post(address, REASON)["Location"] == address
    assert "waits for a second person" in get(chief.client, address)
    assert chief.client.post(address)["Location"] == address
    request = ApprovalRequest.objects.get()
    assert "Ask a second person" in get(other.client, address)  # what another asked for is not theirs
    decide = f"{APPROVALS}do/"
    other.client.post(decide, {**REASON, "action": "approve", "pk": str(request.pk)})
    assert "can be downloaded once" in get(chief.client, address)
    answer = chief.client.post(address)
    lines = answer.content.decode().splitlines()

    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer["Content-Disposition"]
    assert "no-store" in answer["Cache-Control"]
    assert lines[0].startswith("account,email,role,permission")
    assert len(lines) == 1 + review.items.count()
    assert AuditEvent.objects.filter(type=events.EXPORT_MADE, actor_id=str(chief.user.pk)).count() == 1
    assert "Ask a second person" in get(chief.client, address)
    assert chief.client.get(f"/admin/reviews/{chief.user.pk}/csv/").status_code == 404
    assert house.visitor(permissions=("permissions.read.read_only",)).client.get(address).status_code == 403


def test_without_the_right_to_revoke_nobody_begins_or_decides() -> None:
    client = house.visitor().client

    assert "Begin a review" not in get(client, REVIEWS)
    assert client.get("/admin/reviews/start/").status_code == 403
    assert client.post(f"{ITEMS}do/", {"action": "keep", "pk": "1"}).status_code == 403


def give(visitor: house.Visitor, user: User, **fields: Any) -> Any:
    return visitor.client.post(
        f"/admin/grants/give/{user.pk}/", {"permission": "orders.read.read_only", **REASON, **fields}
    )


def test_permission_is_given_for_a_while_and_revoked(chief: house.Visitor) -> None:
    holder = AdminFactory.create()
    name = Permission.objects.filter(risk="LOW", required_clearance__lte=3).values_list("name", flat=True)[0]
    grant(chief.user, name)

    form = get(chief.client, f"/admin/grants/give/{holder.pk}/")
    given = give(chief, holder, permission=name, days="7")

    made = Grant.objects.get(user=holder)
    assert "Give" in form
    assert given["Location"] == f"{GRANTS}{made.pk}/change/"
    assert made.expires_at is not None
    assert give(chief, holder, permission=name).status_code == 409
    chief.client.post(f"{GRANTS}do/", {"action": "revoke", "pk": str(made.pk), **REASON})
    made.refresh_from_db()
    assert made.revoked_at is not None


def test_permission_that_can_do_harm_waits_for_a_second_person(chief: house.Visitor) -> None:
    holder = AdminFactory.create()

    given = give(chief, holder, permission="users.manage.global")

    request = ApprovalRequest.objects.get(action="permissions.grant")
    assert given["Location"] == f"{APPROVALS}{request.pk}/change/"
    assert not Grant.objects.filter(user=holder).exists()


def test_giving_needs_the_right_a_known_name_a_reason_and_somebody(chief: house.Visitor) -> None:
    holder = AdminFactory.create()
    path = f"/admin/grants/give/{holder.pk}/"

    assert house.visitor().client.get(path).status_code == 403
    assert give(chief, holder, permission="nothing.at.all").status_code == 400
    assert give(chief, holder, reason="short").status_code == 400
    assert give(chief, holder, days="0").status_code == 400
    assert chief.client.get(path.replace(str(holder.pk), str(holder.pk)[:-4] + "0000")).status_code == 404
    assert give(chief, chief.user).status_code == 403


def test_permission_is_given_under_conditions_that_the_grant_shows(chief: house.Visitor) -> None:
    holder = AdminFactory.create()
    wanted = {
        "hours_from": "22:00", "hours_to": "06:00", "weekdays": ["5", "1"],
        "networks": "10.1.2.3/8\n\n2001:db8::/32", "departments": " finance \nlegal",
    }  # fmt: skip

    answer = give(chief, holder, **wanted)

    assert answer.status_code == 302, text(answer)
    asked = ApprovalRequest.objects.filter(action="permissions.grant").last()
    kept = asked.details["conditions"] if asked else Grant.objects.get(user=holder).conditions
    assert kept == {
        "allowed_hours": {"from": "22:00", "to": "06:00", "days": [1, 5]},
        "allowed_ips": ["10.0.0.0/8", "2001:db8::/32"],
        "allowed_departments": ["finance", "legal"],
    }
    (shown,) = grant(holder, "analytics.read.global", conditions=kept)
    page = get(chief.client, f"{GRANTS}{shown.pk}/change/")
    for word in (
        "22:00 – 06:00, Monday, Friday",
        "10.0.0.0/8, 2001:db8::/32",
        "finance, legal",
        "understood",
    ):
        assert word in page
    Grant.objects.filter(pk=shown.pk).update(conditions=["by hand"])
    assert "the grant never counts" in get(chief.client, f"{GRANTS}{shown.pk}/change/")


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("hours_from", {"hours_from": "08:00"}), ("hours_from", {"weekdays": ["1"]}),
        ("hours_from", {"hours_from": "08:00", "hours_to": "08:00"}),
        ("hours_from", {"hours_from": "8", "hours_to": "25:00"}), ("weekdays", {"weekdays": ["8"]}),
        ("networks", {"networks": "everywhere"}), ("networks", {"networks": "10.0.0.0/33"}),
        ("networks", {"networks": "\n".join(f"10.0.{n}.0/24" for n in range(51))}),
        ("departments", {"departments": "x" * 65}), ("departments", {"departments": "a\x00b"}),
    ],
)  # fmt: skip
def test_conditions_without_meaning_are_said_at_their_field(
    chief: house.Visitor, field: str, given: dict[str, Any]
) -> None:
    holder = AdminFactory.create()

    answer = give(chief, holder, **given)

    assert answer.status_code == 400
    assert f'id="id_{field}_error"' in text(answer)
    assert not Grant.objects.filter(user=holder).exists()
    assert not ApprovalRequest.objects.exists()


def test_refusals_are_found_by_request_and_account(chief: house.Visitor) -> None:
    house.fill(1)

    page = get(chief.client, "/admin/accounts/accessdecision/?q=r-1")

    assert "no_grant" in page
    assert "users.delete.global" in page


def test_deleted_account_is_restored_and_a_link_is_sent(chief: house.Visitor) -> None:
    user = BuyerFactory.create()
    path = f"{USERS}do/"

    chief.client.post(path, {"action": "password_reset", "pk": str(user.pk), **REASON})
    chief.client.post(path, {"action": "delete", "pk": str(user.pk), **REASON})
    user.refresh_from_db()
    gone = user.deleted_at
    chief.client.post(path, {"action": "restore", "pk": str(user.pk), **REASON})
    user.refresh_from_db()

    assert OutboxMessage.objects.exists()
    assert gone is not None
    assert user.deleted_at is None


def test_overview_counts_what_waits_for_exactly_this_person(chief: house.Visitor) -> None:
    second = house.visitor(superuser=True, permissions=GIVING)
    reader = house.visitor(permissions=("permissions.read.read_only",))  # approves nothing
    lost(chief)

    def figure(visitor: house.Visitor) -> str:
        page = get(visitor.client, "/admin/").partition("Approvals for you")[2]
        found = re.search(r'class="value">(\d+)<', page)
        assert found
        return found[1]

    assert figure(chief) == figure(reader) == "0"
    assert figure(second) == "1"


@committed
def test_suspended_factor_is_shown_and_counts_again_after_unlocking(admin_visitor: house.Visitor) -> None:
    user = TotpDeviceFactory.create(user=BuyerFactory.create()).user
    attempt = lockout.attempt(lockout.FACTOR, account=str(user.pk), address=None)
    for _ in range(60):
        suspension.note_wrong(attempt, "totp")

    page = get(admin_visitor.client, f"{USERS}{user.pk}/change/")
    admin_visitor.client.post(f"{USERS}do/", {"action": "unlock", "pk": str(user.pk), **REASON})

    assert "suspended" in page
    assert not suspension.suspended(user)
