"""The audit trail over HTTP: who may read it, that nothing is skipped or repeated, and proofs that hold."""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import Client

from accounts import approvals
from accounts.models import User
from mestore.lib import actor, ids, merkle, notes, sql
from monitoring import audit, checkpoints, events, log, sequencer, trail_pages
from monitoring.database.counting import count_statements
from monitoring.models import AuditEvent
from monitoring.trail_pages import Wanted
from tests.factories.accounts import AdminFactory, BuyerFactory, grant
from tests.factories.administration import Caller, acting
from tests.monitoring.people import ADDRESS, EMAIL, person

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

READING = "audit_logs.read.read_only"
BY = actor.system("test")
NO_EVENT = "01a20081-8912-745f-a6fd-20cc922ec52c"
ADDRESSES = (
    "events", f"events/{NO_EVENT}", f"events/{NO_EVENT}/proof", "checkpoint", "consistency?from=1&to=1",
    "tile/0/000.p/1",
)  # fmt: skip


def record(count: int, **options: Any) -> None:
    with transaction.atomic():
        entry = {"by": BY} | options
        audit.record_many([audit.Entry(events.SIGNED_OUT, data={"n": n}, **entry) for n in range(count)])


@pytest.fixture
def reader(transactional_db: None) -> Caller:
    user = AdminFactory.create()
    grant(user, READING)
    return Caller(user)


@pytest.mark.parametrize("address", ADDRESSES)
def test_it_is_closed_to_everybody_else(address: str) -> None:
    buyer, admin = BuyerFactory.create(), AdminFactory.create()
    for slash in ("", "/"):
        path, _mark, query = address.partition("?")
        end = f"audit/{path}{slash}" + (f"?{query}" if query else "")
        assert Client().get(f"/api/v1/{end}").status_code == 401
        assert Caller(buyer).get(end).status_code == 403
        assert Caller(admin).get(end).status_code == 403


def test_pages_hold_each_event_once_while_others_are_written(reader: Caller) -> None:
    record(25, target=("thing", "t"))
    wanted = {str(key) for key in AuditEvent.objects.filter(target_id="t").values_list("pk", flat=True)}
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        answer = reader.get("audit/events/", target_type="thing", target_id="t", limit=7, **cursor).json()
        seen += [one["id"] for one in answer["results"]]
        record(1, target=("thing", "t"))
        if answer["next"] is None:
            break
        cursor = {"cursor": answer["next"]}

    assert len(seen) == len(set(seen)) == 25
    assert set(seen) == wanted
    moments = [AuditEvent.objects.get(pk=key).occurred_at for key in seen]
    assert moments == sorted(moments, reverse=True)


def test_events_of_the_same_moment_are_not_lost_between_pages(reader: Caller) -> None:
    # record_many gives all events of a call the same moment.
    record(9, target=("thing", "t"))
    first = reader.get("audit/events", target_type="thing", target_id="t", limit=4).json()
    second = reader.get("audit/events", target_type="thing", target_id="t", cursor=first["next"]).json()

    assert len({one["id"] for one in first["results"] + second["results"]}) == 9


def test_filters_narrow_together(reader: Caller) -> None:
    somebody = person()
    with transaction.atomic():
        audit.record(events.SIGN_IN_FAILED, by=somebody)
        audit.record(events.SIGNED_OUT, by=somebody)
        audit.record(events.GRANT_GIVEN, by=person())

    def codes(**asked: str) -> list[str]:
        return [one["code"] for one in reader.get("audit/events", **asked).json()["results"]]

    assert sorted(codes(actor=str(somebody.id))) == [events.SIGN_IN_FAILED, events.SIGNED_OUT]
    assert codes(actor=str(somebody.id), outcome="FAILURE") == [events.SIGN_IN_FAILED]
    assert codes(category="USER_MANAGEMENT", code=events.GRANT_GIVEN) == [events.GRANT_GIVEN]
    assert codes(actor=str(somebody.id), category="USER_MANAGEMENT") == []
    future = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat()
    assert codes(since=future) == []
    assert len(codes(actor=str(somebody.id), until=future)) == 2


@pytest.mark.parametrize(
    "asked",
    [
        {"cursor": "x"}, {"cursor": "é"}, {"cursor": "A" * 120}, {"cursor": "A" * 121}, {"limit": "0"},
        {"limit": "201"}, {"limit": "x"}, {"outcome": "x"}, {"category": "x"}, {"since": "yesterday"},
        {"actor": "\x00"}, {"actor": "a" * 201},
        {"cursor": base64.urlsafe_b64encode(b"9" * 20 + b"." + b"0" * 32).decode()},
        {"cursor": base64.urlsafe_b64encode(b"-1.x").decode()},
    ],
)  # fmt: skip
def test_nonsense_is_named(reader: Caller, asked: dict[str, str]) -> None:
    assert reader.get("audit/events", **asked).status_code == 422


def test_personal_values_are_never_in_it(reader: Caller) -> None:
    somebody = person()
    with transaction.atomic():
        key = audit.record(events.SIGNED_OUT, by=somebody)
    sequencer.drain()

    page = reader.get("audit/events", actor=str(somebody.id))
    one = reader.get(f"audit/events/{key}")
    proof = reader.get(f"audit/events/{key}/proof")

    assert page.json()["results"][0]["personal"] is True
    assert one.json()["personal"] == "hidden"
    text = page.content + one.content + base64.b64decode(proof.content.split(b"\n")[1].split(b" ")[1])
    assert EMAIL.encode() not in text
    assert ADDRESS.encode() not in text


def test_reading_is_recorded(reader: Caller) -> None:
    record(1, target=("thing", "t"))
    reader.get("audit/events", target_type="thing", target_id="t")

    (read,) = AuditEvent.objects.filter(type=events.AUDIT_READ)
    assert json.loads(bytes(read.canon))["data"] == {
        "asked": {"target_type": "thing", "target_id": "t"},
        "events": 1,
    }


def test_a_page_costs_the_same_however_long_it_is(reader: Caller) -> None:
    record(60)
    counts = []
    for limit in (1, 50):
        with count_statements("default") as sent:
            trail_pages.read(Wanted(), limit=limit, cursor=None, by=BY)
        counts.append(len(sent))

    assert counts[0] == counts[1] <= 3


class TestProofs:
    def test_before_it_is_sealed_it_says_when_to_come_back(self, reader: Caller) -> None:
        with transaction.atomic():
            key = audit.record(events.SIGNED_OUT, by=BY)

        answer = reader.get(f"audit/events/{key}/proof")

        assert answer.status_code == 409
        assert answer.json()["error_code"] == "NOT_SEALED_YET"
        assert int(answer["Retry-After"]) > 0
        assert answer["Content-Type"] == "application/problem+json"

    def test_afterwards_it_convinces_whoever_has_the_key(self, reader: Caller) -> None:
        with transaction.atomic():
            key = audit.record(events.SIGNED_OUT, by=BY)
        record(300)
        sequencer.drain()

        answer = reader.get(f"audit/events/{key}/proof/")
        proof = notes.parse_proof(answer.content.decode())

        notes.verify_proof(proof, merkle.leaf_hash(proof.extra), log=checkpoints.verifier(1))
        assert json.loads(proof.extra)["id"] == str(key)
        assert answer["Content-Type"] == "text/plain; charset=utf-8"
        assert AuditEvent.objects.filter(type=events.AUDIT_PROOF_DOWNLOADED, target_id=str(key)).exists()

    def test_of_nothing_is_404(self, reader: Caller) -> None:
        for end in ("", "/proof"):
            assert reader.get(f"audit/events/{ids.uuid7()}{end}").status_code == 404

    def test_the_document_has_the_leafs_hash(self, reader: Caller) -> None:
        with transaction.atomic():
            key = audit.record(events.SIGNED_OUT, by=BY, data={"n": 7})

        answer = reader.get(f"audit/events/{key}").json()

        canon = bytes(AuditEvent.objects.get(pk=key).canon)
        assert answer["document"] == json.loads(canon)
        assert answer["leaf_hash"] == merkle.leaf_hash(canon).hex()


class TestLog:
    def test_nothing_signed_is_404(self, reader: Caller) -> None:
        assert reader.get("audit/checkpoint").status_code == 404
        assert reader.get("audit/tile/0/000").status_code == 404

    def test_a_monitor_rebuilds_the_root_from_tiles(self, reader: Caller) -> None:
        record(700)
        sequencer.drain()
        note = reader.get("audit/checkpoint").content.decode()
        signed = notes.checkpoint_of(note, log=checkpoints.verifier(1))
        leaves: list[bytes] = []
        while (left := signed.size - len(leaves)) > 0:
            number = f"{len(leaves) // 256:03d}" + (f".p/{left}" if left < 256 else "")
            leaves += merkle.split(reader.get(f"audit/tile/0/{number}").content)

        assert merkle.root(leaves) == signed.root

    @pytest.mark.parametrize(
        "end",
        [
            "0/000.p/200", "0/000", "0/001", "1/000.p/1", "8/000", "0/0", "0/x000/000/000", "0/000.p/0",
            "0/000.p/256", "0/-01", "0/٠٠٠", "0/x999/x999/x999/x999/x999/999", "99999999999999999999/000",
        ],
    )  # fmt: skip
    def test_a_tile_that_nobody_signed_is_not_there(self, reader: Caller, end: str) -> None:
        record(3)
        sequencer.drain()
        assert log.state().size < 200
        assert reader.get(f"audit/tile/{end}").status_code == 404

    def test_consistency_convinces(self, reader: Caller) -> None:
        record(3)
        sequencer.drain()
        old = checkpoints.last()
        record(300)
        sequencer.drain()
        new = checkpoints.last()
        assert old is not None
        assert new is not None

        answer = reader.get("audit/consistency", **{"from": old.size, "to": new.size}).json()

        path = [base64.b64decode(part) for part in answer["proof"]]
        merkle.verify_consistency(old.size, new.size, path, old.root, new.root)

    @pytest.mark.parametrize("sizes", [{}, {"from": 2, "to": 1}, {"from": 0, "to": 1}, {"from": 1, "to": 99}])
    def test_sizes_that_never_were_are_refused(self, reader: Caller, sizes: dict[str, int]) -> None:
        record(3)
        sequencer.drain()
        assert reader.get("audit/consistency", **sizes).status_code == 422


def test_personal_values_leave_once_after_a_second_persons_yes(reader: Caller, tmp_path: Path) -> None:
    somebody, approver = person(), AdminFactory.create()
    grant(approver, READING)
    with transaction.atomic():
        audit.record(events.SIGNED_OUT, by=somebody)
    sequencer.drain()
    body = {"after": "1:0", "limit": 5_000, "format": "jsonl", "reason": "asked for by the court, in writing"}

    def export(name: str, limit: str = "5000") -> None:
        asker = User.objects.get(email=asked.json()["asked_by"]) if asked else None
        call_command(
            "audit_export", "--format", "jsonl", "--personal", "--by", str(asker.pk if asker else ""),
            "--limit", limit, "--out", str(tmp_path / name), stdout=io.StringIO(), stderr=io.StringIO(),
        )  # fmt: skip

    asked = reader.post("audit/exports/personal", body)
    assert asked.status_code == 202, asked.content
    with pytest.raises(CommandError):
        export("unapproved")
    approvals.approve(asked.json()["id"], by=acting(approver))
    with pytest.raises(CommandError):
        export("more-than-approved", limit="5001")
    export("approved")
    with pytest.raises(CommandError):
        export("again")

    assert [path.name for path in tmp_path.iterdir()] == ["approved"]
    assert EMAIL in (tmp_path / "approved").read_text()


@pytest.mark.parametrize(
    "wrong", [{"after": "x"}, {"limit": 0}, {"format": "xml"}, {"reason": ""}, {"since": "yesterday"}]
)
def test_an_export_that_makes_no_sense_is_not_asked_for(reader: Caller, wrong: dict[str, Any]) -> None:
    body = {"after": "1:0", "limit": 5, "format": "csv", "reason": "asked for by the court, in writing"}
    assert reader.post("audit/exports/personal", body | wrong).status_code == 422


def test_an_actors_month_is_found_by_index(transactional_db: None, owner_dsn: str) -> None:
    """Events of many months and actors: the page reads an index of each month, and no table whole."""
    sql.execute(MANY)
    with psycopg.connect(owner_dsn, autocommit=True) as owner:
        owner.execute("ANALYZE audit_event")  # or the plan would be that of what was there before
    wanted = Wanted(actor="actor-7", since=dt.datetime.now(dt.UTC) - dt.timedelta(days=20))
    rows = trail_pages._narrowed(wanted).order_by("-occurred_at", "-id")[:51]

    plan = rows.explain(analyze=True, format="json")

    assert "Seq Scan" not in plan
    assert "Sort" not in plan.replace("Sort Key", "")
    assert len(rows) == 51


def test_what_no_index_leads_to_is_searched_a_month_back(transactional_db: None) -> None:
    """Otherwise a code that never occurs would read every row of every year."""
    now = dt.datetime.now(dt.UTC)
    rare = Wanted(code="x"), Wanted(outcome="FAILURE"), Wanted(category="FINANCIAL"), Wanted(target_id="t")
    for wanted in rare:
        since = trail_pages._since(wanted)
        assert since is not None
        assert now - since > dt.timedelta(days=29)
        until = replace(wanted, until=now - dt.timedelta(days=90))
        assert trail_pages._since(until) == now - dt.timedelta(days=120)
    led = Wanted(), Wanted(actor="a"), Wanted(code="x", actor="a"), Wanted(target_type="t", target_id="t")
    assert [trail_pages._since(wanted) for wanted in led] == [None] * 4


# Months are prepared from the last one on; the trail refuses what happened before.
MANY = """
INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, actor_id, canon, leaf_hash)
SELECT gen_random_uuid(), date_trunc('month', now()) - interval '20 days' + n * interval '1 minute',
       'auth.signed_out', 'SUCCESS', 'user', 'actor-' || n % 50, c, sha256('\\x00'::bytea || c)
FROM generate_series(1, 200000) n, LATERAL (SELECT convert_to('{}', 'UTF8') AS c) one
"""
