"""The audit explorer: who may read it, what it finds, how far back, what leaves the house and who is told."""

from __future__ import annotations

import datetime as dt
import html
import json
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import deletion
from mestore.lib import actor, ids, merkle, notes, sql
from mestore.lib.actor import Actor
from mestore.lib.console import figures
from monitoring import audit, checkpoints, events, explorer, revealing, saved_filters, sequencer
from monitoring.models import AuditEvent, SavedFilter
from sessions_security.models import StepUpProof
from tests.console import house
from tests.console.test_pages import STATEMENTS, _offences, _statements
from tests.factories.accounts import BuyerFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

LIST = "/admin/monitoring/auditevent/"
BY = actor.system("test")
ENGLISH = {"accept-language": "en"}
REASON = {"reason": "asked for by the regulator"}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=1>"
PERSON = Actor(kind="user", id="0190aaaa-0000-7000-8000-000000000001", label="eva@example.com",
               address="203.0.113.7", agent="Chrome", role="BUYER")  # fmt: skip


def record(code: str = events.ORDER_RECORDED, *, by: Actor = BY, **given: Any) -> UUID:
    with transaction.atomic():
        return audit.record(code, by=by, **given)


def page(client: Client, address: str) -> str:
    answer = client.get(address, headers=ENGLISH)
    assert answer.status_code == 200, (address, answer)
    return html.unescape(answer.content.decode())


def detail(event_id: UUID) -> str:
    return f"{LIST}{event_id}/change/"


def rows(text: str) -> str:
    return text.partition('<table class="rows"')[2]


def stale(visitor: house.Visitor) -> None:
    StepUpProof.objects.filter(session__user=visitor.user).update(
        proved_at=timezone.now() - dt.timedelta(hours=1)
    )


# --- Who ---------------------------------------------------------------------------------------------------


def doors(event_id: UUID) -> list[tuple[str, str]]:
    return [
        ("get", LIST), ("get", detail(event_id)), ("post", f"/admin/audit/{event_id}/proof/"),
        ("get", f"/admin/audit/{event_id}/reveal/"), ("post", f"/admin/audit/{event_id}/reveal/"),
        ("post", "/admin/audit/filters/save/"), ("post", f"/admin/audit/filters/{event_id}/remove/"),
    ]  # fmt: skip


def test_strangers_are_led_to_the_sign_in_and_the_staff_without_the_right_is_refused() -> None:
    event_id = record(by=PERSON)
    staff = house.visitor().client

    for method, address in doors(event_id):
        assert getattr(Client(), method)(address).status_code == 302, address
        assert getattr(staff, method)(address).status_code == 403, address
    assert not AuditEvent.objects.filter(type=events.AUDIT_VALUES_REVEALED).exists()
    assert not AuditEvent.objects.filter(type=events.AUDIT_PROOF_DOWNLOADED).exists()


@pytest.mark.parametrize(
    "unknown",
    [
        "00000000-0000-0000-0000-000000000001",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
        "01a20081-7beb-772b-816a-8e5f2d4e8e27",
    ],
)
def test_what_is_no_event_is_not_found(unknown: str, admin_visitor: house.Visitor) -> None:
    client = admin_visitor.client

    assert client.get(f"{LIST}{unknown}/change/").status_code == 404
    assert client.post(f"/admin/audit/{unknown}/proof/").status_code == 404
    assert client.get(f"/admin/audit/{unknown}/reveal/").status_code == 404
    assert client.post(f"/admin/audit/filters/{unknown}/remove/").status_code == 404


def test_reading_addresses_take_no_other_method(admin_visitor: house.Visitor) -> None:
    event_id = record()

    assert admin_visitor.client.get(f"/admin/audit/{event_id}/proof/").status_code == 405
    assert admin_visitor.client.get("/admin/audit/filters/save/").status_code == 405


# --- Finding -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("type=order.recorded", {"order.recorded"}),
        ("category=AUTHENTICATION", {"auth.signed_out", "auth.sign_in.failed"}),
        ("outcome=FAILURE", {"auth.sign_in.failed"}),
        ("actor_id=somebody-1", {"auth.signed_out"}),
        ("target_type=order&target_id=o-1", {"order.recorded"}),
        ("target_id=o-2", set()),
        ("session_id=s-1", {"auth.signed_out"}),
        ("actor_kind=database", set()),
        ("actor_id=%20&type=&since=", {"order.recorded", "auth.signed_out", "auth.sign_in.failed"}),
    ],
)
def test_filters_find_what_they_name(query: str, found: set[str], admin_visitor: house.Visitor) -> None:
    record(target=("order", "o-1"))
    record(events.SIGNED_OUT, by=Actor(kind="user", id="somebody-1", session_id="s-1"))
    record(events.SIGN_IN_FAILED, by=Actor(kind="anonymous", address="203.0.113.1"))

    text = rows(page(admin_visitor.client, f"{LIST}?{query}"))

    shown = {code for code in ("order.recorded", "auth.signed_out", "auth.sign_in.failed") if code in text}
    assert shown == found


def test_window_of_moments_is_read_on_the_clock_of_bogota(admin_visitor: house.Visitor) -> None:
    record(target=("order", "now-1"))
    soon = timezone.now() + dt.timedelta(hours=1)
    local = soon.astimezone(dt.timezone(dt.timedelta(hours=-5))).strftime("%Y-%m-%dT%H:%M")

    assert "now-1" in page(admin_visitor.client, f"{LIST}?until={local}&type=order.recorded")
    assert "now-1" not in rows(page(admin_visitor.client, f"{LIST}?since={local}&type=order.recorded"))


@pytest.mark.parametrize(
    "query",
    ["since=yesterday", "since=9999-99-99", "until=" + "9" * 5_000, "type=nothing.like.this", "category=x",
     "actor_id=" + "x" * 201, "actor_id=%00", "leaf_hash=1", "canon__contains=a", "pii_ct=1",
     "since=0001-01-01T00:00%2B14:00", "outcome=%27%20OR%201=1"],
)  # fmt: skip
def test_what_cannot_be_searched_for_is_refused_without_an_error_of_ours(
    query: str, admin_visitor: house.Visitor
) -> None:
    answer = admin_visitor.client.get(f"{LIST}?{query}")

    assert answer.status_code in {302, 400}, answer.status_code


def test_what_has_no_index_is_searched_thirty_days_back_and_the_page_says_so(
    admin_visitor: house.Visitor,
) -> None:
    client = admin_visitor.client

    assert "the last 30 days" in page(client, f"{LIST}?outcome=FAILURE")
    assert "the last 30 days" not in page(client, f"{LIST}?outcome=FAILURE&since=2020-01-01T00:00")
    assert "the last 30 days" not in page(client, LIST)


def test_values_from_outside_never_become_markup(admin_visitor: house.Visitor) -> None:
    event_id = record(
        by=Actor(kind="user", id=HOSTILE[:60], request_id=HOSTILE, session_id="s"),
        target=(HOSTILE, HOSTILE), data={"note": HOSTILE},
    )  # fmt: skip
    for address in (LIST, detail(event_id), f"{LIST}?actor_id={HOSTILE}", f"{LIST}?q={HOSTILE}"):
        text = admin_visitor.client.get(address).content.decode()
        assert "<script>" not in text, address
        assert "<img" not in text
        assert _offences(text) == []


def test_pages_cost_the_same_however_much_happened(admin_visitor: house.Visitor) -> None:
    event_id = record(by=PERSON)
    narrowed = f"{LIST}?category=FINANCIAL&outcome=SUCCESS"
    few = [_statements(admin_visitor.client, one) for one in (LIST, narrowed, detail(event_id))]
    with transaction.atomic():
        audit.record_many([audit.Entry(events.ORDER_RECORDED, by=PERSON) for _ in range(300)])

    many = [_statements(admin_visitor.client, one) for one in (LIST, narrowed, detail(event_id))]

    assert max(many) <= STATEMENTS
    assert all(after <= before for before, after in zip(few, many, strict=True))


def test_charts_count_a_bounded_number_of_events_and_say_when_there_were_more(
    admin_visitor: house.Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explorer, "COUNTED", 3)
    for _ in range(5):
        record(by=PERSON)

    found = explorer.activity(timezone.now())
    text = page(admin_visitor.client, LIST)

    assert found.is_cut
    assert sum(sum(values) for values in found.by_area.values()) == 3
    assert "Only the newest 3 events are counted" in text


def test_chart_tells_areas_and_who_did_most() -> None:
    for _ in range(3):
        record(by=PERSON)
    record(events.SIGNED_OUT, by=PERSON)

    found = explorer.activity(timezone.now())

    # Of this hour, and of the one before where it ended meanwhile.
    assert (sum(found.by_area["money"][-2:]), sum(found.by_area["access"][-2:])) == (3, 1)
    assert (found.actors[0].actor_id, found.actors[0].count) == (PERSON.id, 4)
    assert len(found.hours) == explorer.HOURS


# --- Filters that are kept ---------------------------------------------------------------------------------


def test_filter_is_kept_by_name_shown_only_to_its_owner_and_removed(admin_visitor: house.Visitor) -> None:
    other = house.visitor(permissions=(house.AUDIT,))
    given = {"filter_name": "  failed   orders ", "outcome": "FAILURE", "nonsense": "1", "actor_id": " "}

    saved = admin_visitor.client.post("/admin/audit/filters/save/", given)

    (kept,) = SavedFilter.objects.all()
    assert (kept.name, kept.query) == ("failed orders", "outcome=FAILURE")
    assert saved["Location"] == f"{LIST}?outcome=FAILURE"
    assert "failed orders" in page(admin_visitor.client, LIST)
    assert "failed orders" not in page(other.client, LIST)
    assert other.client.post(f"/admin/audit/filters/{kept.pk}/remove/").status_code == 404
    assert admin_visitor.client.post(f"/admin/audit/filters/{kept.pk}/remove/").status_code == 302
    assert not SavedFilter.objects.exists()


def test_same_name_replaces_and_the_twenty_first_is_refused(admin_visitor: house.Visitor) -> None:
    owner = admin_visitor.user.pk
    for number in range(saved_filters.MOST):
        saved_filters.save(owner, name=f"f{number}", given={"outcome": "FAILURE"})

    saved_filters.save(owner, name="f3", given={"outcome": "SUCCESS"})

    assert SavedFilter.objects.get(name="f3").query == "outcome=SUCCESS"
    with pytest.raises(saved_filters.TooManyFilters):
        saved_filters.save(owner, name="one more", given={"outcome": "SUCCESS"})
    assert SavedFilter.objects.count() == saved_filters.MOST


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_filters_of_an_erased_account_go_with_it() -> None:
    user = BuyerFactory.create(is_active=False, deleted_at=timezone.now())
    other = ids.uuid7()
    for owner in (user.pk, other):
        saved_filters.save(owner, name="mine", given={"actor_id": "somebody"})

    deletion.erase(user.pk, reason="asked for by its owner", confirmed=True, by=BY)

    assert [kept.owner_id for kept in SavedFilter.objects.all()] == [other]


@pytest.mark.parametrize(
    ("name", "given"),
    [("", {"q": "x"}), ("x" * 61, {"q": "x"}), ("name", {}), ("name", {"secret": "x"}),
     ("name", {"q": "x" * 2_000}), ("na\x00me", {"q": "x"})],
)  # fmt: skip
def test_filter_without_name_or_choice_is_refused(name: str, given: dict[str, str]) -> None:
    with pytest.raises(saved_filters.NotAFilter):
        saved_filters.save(ids.uuid7(), name=name, given=given)


@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_simultaneous_saves_never_exceed_twenty(race: Callable[..., list[Any]]) -> None:
    owner = ids.uuid7()
    for number in range(saved_filters.MOST - 2):
        saved_filters.save(owner, name=f"f{number}", given={"q": "x"})

    def saving(name: str) -> Callable[[], SavedFilter]:
        return lambda: saved_filters.save(owner, name=name, given={"q": "x"})

    outcomes = race([saving(f"race-{number}") for number in range(6)])

    refused = [one for one in outcomes if isinstance(one, saved_filters.TooManyFilters)]
    assert len(refused) == 4, outcomes
    assert SavedFilter.objects.filter(owner_id=owner).count() == saved_filters.MOST


# --- Proof -------------------------------------------------------------------------------------------------


def test_page_says_how_far_an_event_is_proved_and_its_proof_verifies(admin_visitor: house.Visitor) -> None:
    event_id = record(target=("order", "o-1"))
    waiting = page(admin_visitor.client, detail(event_id))
    early = admin_visitor.client.post(f"/admin/audit/{event_id}/proof/")
    sequencer.run_once()
    unsigned = page(admin_visitor.client, detail(event_id))
    sequencer.drain()
    sealed = page(admin_visitor.client, detail(event_id))

    answer = admin_visitor.client.post(f"/admin/audit/{event_id}/proof/")

    assert "waiting for its place in the log" in waiting
    assert "Download proof" not in waiting
    assert early.status_code == 409
    assert "in the log, not signed yet" in unsigned or "sealed in the checkpoint" in unsigned
    assert "sealed in the checkpoint of size" in sealed
    assert "by nobody yet" in sealed
    proof = notes.parse_proof(answer.content.decode())
    said = notes.verify_proof(proof, merkle.leaf_hash(proof.extra), log=checkpoints.verifier(1))
    assert json.loads(proof.extra)["id"] == str(event_id)
    assert said.size > proof.index
    (told,) = AuditEvent.objects.filter(type=events.AUDIT_PROOF_DOWNLOADED)
    assert (told.actor_id, told.target_id) == (str(admin_visitor.user.pk), str(event_id))


def test_proof_is_a_file_that_no_browser_shows_or_keeps(admin_visitor: house.Visitor) -> None:
    event_id = record()
    sequencer.drain()

    answer = admin_visitor.client.post(f"/admin/audit/{event_id}/proof/")

    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["Content-Disposition"] == f'attachment; filename="{event_id}.tlog-proof"'
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in answer["Cache-Control"]


# --- Personal values ---------------------------------------------------------------------------------------


def test_revealing_needs_a_fresh_factor_and_a_reason_and_is_told(admin_visitor: house.Visitor) -> None:
    event_id = record(by=PERSON, personal={"email": "eva@example.com"})
    address = f"/admin/audit/{event_id}/reveal/"
    masked = page(admin_visitor.client, detail(event_id))
    stale(admin_visitor)
    unproved = admin_visitor.client.post(address, REASON)
    StepUpProof.objects.filter(session__user=admin_visitor.user).update(proved_at=timezone.now())
    short = admin_visitor.client.post(address, {"reason": "short"})

    answer = admin_visitor.client.post(address, REASON, headers=ENGLISH)

    assert "eva@example.com" not in masked
    assert "203.0.113.7" not in masked
    assert "/admin/confirm/" in unproved["Location"] or "action=audit.reveal" in unproved["Location"]
    assert short.status_code == 400
    text = answer.content.decode()
    assert all(value in text for value in ("eva@example.com", "203.0.113.7", "values.email"))
    assert "no-store" in answer["Cache-Control"]
    (told,) = AuditEvent.objects.filter(type=events.AUDIT_VALUES_REVEALED)
    said = json.loads(bytes(told.canon))
    assert said["target"] == {"type": "audit_event", "id": str(event_id)}
    assert said["data"]["reason"] == REASON["reason"]
    assert "eva@example.com" not in json.dumps(said)
    assert told.actor_id == str(admin_visitor.user.pk)


def test_event_without_personal_values_has_nothing_to_reveal(admin_visitor: house.Visitor) -> None:
    event_id = record()

    assert "Reveal personal values" not in page(admin_visitor.client, detail(event_id))
    assert admin_visitor.client.post(f"/admin/audit/{event_id}/reveal/", REASON).status_code == 404


def test_nothing_is_shown_when_it_cannot_be_recorded(
    admin_visitor: house.Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    event_id = record(by=PERSON)

    def away(*_args: Any, **_given: Any) -> None:
        raise psycopg.OperationalError("gone")

    monkeypatch.setattr(audit, "record", away)
    with pytest.raises(psycopg.OperationalError):
        revealing.reveal(AuditEvent.objects.get(pk=event_id), reason="asked for", by=BY)


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_values_of_an_erased_person_are_said_to_be_erased() -> None:
    visitor = house.visitor(permissions=(house.AUDIT,))
    event_id = record(by=PERSON)
    sql.execute(
        "UPDATE subject_key SET wrapped = NULL, destroyed_at = now() WHERE subject = %s", [PERSON.id],
        using="owner",
    )  # fmt: skip

    answer = visitor.client.post(f"/admin/audit/{event_id}/reveal/", REASON, headers=ENGLISH)

    text = html.unescape(answer.content.decode())
    assert "The person's data was erased on" in text
    assert "eva@example.com" not in text


# --- What changed ------------------------------------------------------------------------------------------


def captured(**data: Any) -> dict[str, Any]:
    return {"event": "capture.update", "data": data}


def test_changes_are_shown_before_and_after_with_personal_and_secret_ones_masked() -> None:
    document = captured(
        changes={"is_active": {"before": True, "after": False}, "note": {"after": None}},
        personal={"email.before": "aa" * 32, "email.after": "bb" * 32}, secret=["password"],
    )  # fmt: skip

    found = {one.name: one for one in explorer.changes_in(document)}

    assert (found["is_active"].before, found["is_active"].after) == ("true", "false")
    assert found["email"].note == "personal"
    assert found["password"].note == "secret"
    assert sorted(found) == ["email", "is_active", "note", "password"]


@pytest.mark.parametrize(
    "data", [None, [], "x", {"changes": "x"}, {"changes": {"a": 1}}, {"personal": ["a"], "secret": {"b": 1}}]
)
def test_changes_of_another_shape_break_nothing(data: Any) -> None:
    explorer.changes_in({"event": "capture.update", "data": data})
    assert explorer.changes_in({"event": "order.recorded", "data": data}) == []


def test_captured_change_of_an_account_is_shown_masked_and_revealed_on_request() -> None:
    visitor = house.visitor(permissions=(house.AUDIT,))
    type(visitor.user).objects.filter(pk=visitor.user.pk).update(nombre="Eva Secreta")
    event = AuditEvent.objects.filter(type="capture.update", target_id=str(visitor.user.pk)).latest("id")

    masked = page(visitor.client, detail(event.pk))
    shown = visitor.client.post(f"/admin/audit/{event.pk}/reveal/", REASON, headers=ENGLISH)

    assert "What changed" in masked
    assert "personal: sealed" in masked
    assert "Eva Secreta" not in masked
    assert "Eva Secreta" in shown.content.decode()


# --- At size -----------------------------------------------------------------------------------------------

# All of them of this month, of each of its days.
_FILL = """
INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, actor_id, target_type, target_id, canon,
                         leaf_hash)
SELECT gen_random_uuid(), date_trunc('month', now(), 'UTC') + n * interval '2 minutes',
       (ARRAY['order.recorded', 'auth.signed_out', 'auth.sign_in.failed'])[1 + n %% 3], 'SUCCESS', 'user',
       'actor-' || n %% 500, 'order', 'order-' || n %% 5000, c.canon, sha256('\\x00'::bytea || c.canon)
FROM generate_series(1, %s) AS n, LATERAL (SELECT convert_to('{"n":' || n || '}', 'UTF8') AS canon) AS c
"""


@pytest.mark.parametrize(
    "query", ["", "actor_id=actor-7", "target_type=order&target_id=order-9", "session_id=s-9", "q=actor-7"]
)
@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_no_search_by_who_or_what_reads_a_month_from_end_to_end(
    query: str, admin_visitor: house.Visitor, owner_dsn: str
) -> None:
    sql.execute(_FILL, [20_000])
    with psycopg.connect(owner_dsn, autocommit=True) as owner:
        owner.execute("ANALYZE audit_event")  # or the plan would be that of what was there before

    for asked in _asked(admin_visitor.client, f"{LIST}?{query}"):
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {asked}")
            plan = "\n".join(str(row[0]) for row in cursor.fetchall())
        assert f"Seq Scan on audit_event_{timezone.now():%Y%m}" not in plan, plan


@pytest.mark.parametrize(
    "query",
    [
        "outcome=FAILURE",
        "category=FINANCIAL",
        "type=auth.sign_in.failed",
        "target_id=order-9",
        "target_type=order",
    ],
)
def test_search_by_kind_reads_no_month_outside_of_its_window(
    query: str, admin_visitor: house.Visitor
) -> None:
    now = timezone.now()
    window = {f"audit_event_{now - dt.timedelta(days=days):%Y%m}" for days in range(31)}

    for asked in _asked(admin_visitor.client, f"{LIST}?{query}"):
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {asked}")
            plan = "\n".join(str(row[0]) for row in cursor.fetchall())
        assert set(re.findall(r"on (audit_event_\d+)", plan)) <= window, plan


def _asked(client: Client, address: str) -> list[str]:
    """The statements of a page that read the trail."""
    figures.forget()
    with CaptureQueriesContext(connection) as caught:
        assert client.get(address).status_code == 200
    found = [
        str(one["sql"]) for one in caught
        if re.search(r"FROM \"?audit_event\b", one["sql"]) and re.match(r"\s*(SELECT|WITH)\b", one["sql"])
    ]  # fmt: skip
    assert found
    return found
