"""Work on money in the service's environment: ``python -m benchmarks.money_work WHAT COUNT [SERVER]``.

`SERVER` is the process id of the database server, whose processor time is measured too. What cannot be done
twice to one thing (a refund, a payout) is prepared first, so that only what is named is measured. The figures
are printed as one line of JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import django

from benchmarks import processes
from benchmarks.load import Load

PEOPLE = ("approver", "second")
LINES = 3  # of a sale whose commission is calculated
RULES = 50  # in force while it is
Sample = dict[str, float]


def main() -> None:
    """Do what the arguments say and print the figures."""
    django.setup()
    what, count, server = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    done = WORK[what](count, server)
    sys.stdout.write(json.dumps(done) + "\n")


def measured(server: int, things: Iterable[Any], work: Callable[[Any], object], *, of: int = 1) -> Sample:
    """Do something to each thing; rate, latencies and processor time per thing (or per `of` of it)."""
    latencies = []
    before, processor = processes.cpu_seconds(server), time.process_time()
    began = time.perf_counter()
    for thing in things:
        started = time.perf_counter()
        work(thing)
        latencies.append(time.perf_counter() - started)
    load = Load(len(latencies) * of, time.perf_counter() - began, tuple(latencies))
    return {
        "requests": load.requests,
        "per_second": load.per_second,
        "p50_ms": load.percentile(50),
        "p99_ms": load.percentile(99),
        "cpu_ms": (time.process_time() - processor) * 1_000 / load.requests,
        "postgresql_ms": (processes.cpu_seconds(server) - before) * 1_000 / load.requests,
    }


def _charge(count: int, server: int) -> dict[str, Sample]:
    """The rules engine alone: three lines, fifty rules, one of which is for each line."""
    from finance import commission_rules
    from finance.commission_rules import Line, Rule

    vendor = uuid4()
    rules = [Rule(uuid4(), f"rule {n}", "COP", 40_000 + n, product=f"product {n}") for n in range(RULES)]
    default = Rule(None, "default", "COP", 50_000)
    lines = [Line(n + 1, f"product {n}", "", 10_000_000, 10_000_000) for n in range(LINES)]

    def work(_number: int) -> None:
        commission_rules.charge(lines, rules, default, vendor=vendor)

    return {"commission alone": measured(server, range(count), work)}


def _place(count: int, server: int) -> dict[str, Sample]:
    """Orders of one item, one after the other, in this process."""
    work = _placer()
    for _ in range(10):
        work("")
    return {"place": measured(server, range(count), work)}


def _refund(count: int, server: int) -> dict[str, Sample]:
    """Half of what was paid goes back, for each of so many orders."""
    from finance import refunds
    from finance.refunds import Wish
    from mestore.lib import actor

    place, by = _placer(), actor.system("bench")
    orders = [place(number) for number in range(count)]

    def work(order: int) -> None:
        refunds.post(Wish(order_id=order, reason="bench", amount=6_700_000, currency="COP"), by=by)

    return {"refund": measured(server, orders, work)}


def _placer() -> Callable[[Any], int]:
    """Place an order of a vendor who sells; its id."""
    from accounts.models import VendorProfile
    from benchmarks import points
    from finance import order_form, orders
    from mestore.lib.actor import Actor
    from mestore.lib.http import parse_json

    by = Actor(kind="machine", id="0190a0a0-0000-7000-8000-000000000001", role="SYSTEM")
    vendors = [
        str(pk)
        for pk in VendorProfile.objects.filter(vendor_status="approved").values_list("pk", flat=True)[:100]
    ]
    if not vendors:
        raise RuntimeError("nobody sells")

    def place(_number: Any) -> int:
        key = uuid4().hex
        body = json.dumps(points.order(key, 0, vendors[hash(key) % len(vendors)]))
        answer = orders.place(order_form.read(parse_json(body.encode())), key=key, by=by)
        identifier: int = json.loads(answer.body)["data"]["id"]
        return identifier

    return place


def _payout(count: int, server: int) -> dict[str, Sample]:
    """Requests of so many vendors, and the approvals that each needs, by two people."""
    from accounts.models import User
    from finance import payout_approvals, payouts
    from finance.models import Payout
    from finance.money import parse
    from mestore.lib.actor import Actor

    amount = parse("100000", "COP")
    people = [_actor(user) for user in _approvers()]
    vendors = [_vendor(number) for number in range(count)]

    def ask(given: tuple[User, UUID]) -> None:
        vendor, account = given
        payouts.request(
            vendor, amount=amount, bank_account_id=account, key=uuid4().hex, by=_actor(vendor),
            shape=lambda payout: {"id": str(payout.pk)},
        )  # fmt: skip

    asked = measured(server, vendors, ask)
    waiting = Payout.objects.filter(vendor__in=[vendor for vendor, _account in vendors], state="screened")
    agreed: list[tuple[UUID, Actor]] = [
        (payout.pk, person) for payout in waiting for person in people[: payout.approvals_needed]
    ]

    def agree(given: tuple[UUID, Actor]) -> None:
        payout_approvals.approve(given[0], by=given[1], reason="bench")

    found = {"payout request": asked, "payout approval": measured(server, agreed, agree)}
    approved = Payout.objects.filter(pk__in=[payout for payout, _person in agreed], state="approved").count()
    if approved != count:
        raise RuntimeError(f"{approved} payouts of {count} were approved")
    return found


def _approvers() -> list[Any]:
    from accounts import administration
    from accounts.models import Grant, Permission
    from accounts.roles import Role
    from mestore.lib import actor

    permission = Permission.objects.get(name="payments.approve.global")
    people = []
    for name in PEOPLE:
        user = administration.create_user(
            email=f"{name}-{uuid4().hex}@example.com", password=f"bench: {uuid4().hex}", role=Role.ADMIN,
            clearance=5, by=actor.system("bench"),
        )  # fmt: skip
        Grant.objects.create(user=user, permission=permission, granted_by_label="bench", reason="bench")
        people.append(user)
    return people


def _vendor(number: int) -> tuple[Any, UUID]:
    """A vendor with money and a bank account that has cooled off."""
    import datetime as dt

    from django.db import transaction
    from django.utils import timezone

    from accounts.models import User, VendorProfile
    from accounts.roles import Role
    from finance import bank_accounts, ledger
    from finance.bank_accounts import AccountForm
    from finance.postings import PSP_CLEARING, VENDOR_AVAILABLE, Posting, Transfer
    from finance.states import BankAccountType
    from mestore.lib import actor, ids

    name = f"bench-{uuid4().hex}@example.com"
    user = User.objects.create(email=name, email_key=name, password="!", user_type=Role.VENDOR)
    VendorProfile.objects.create(
        user=user, vendor_status=VendorProfile.Status.APPROVED, business_name=f"Bench {number}"
    )
    account = bank_accounts.add(
        user.pk,
        AccountForm("Bancolombia", BankAccountType.SAVINGS, str(uuid4().int)[:11], "A vendor",
                    document_type="CC", document="1020304050"),
        by=_actor(user), now=timezone.now() - dt.timedelta(days=30),
    )  # fmt: skip
    entry = ids.uuid7()
    transfer = Transfer(PSP_CLEARING, VENDOR_AVAILABLE, "bench", "COP", 20_000_000)
    with transaction.atomic():
        ledger.post_many(
            [Posting(user.pk, entry, "settlement", timezone.now(), f"bench/{entry}", (transfer,))],
            by=actor.system("bench"),
        )
    return user, account.pk


def _actor(user: Any) -> Any:
    from mestore.lib.actor import Actor

    return Actor(kind="user", id=str(user.pk), label=user.email, role=user.user_type)


def _settle(count: int, server: int) -> dict[str, Sample]:
    """Everything that is due; raises where that is not exactly so many sales (0: however many)."""
    from finance import settlement
    from mestore.lib import actor

    results: list[Any] = []

    def work(_number: int) -> None:
        results.extend(settlement.settle(by=actor.system("bench")))

    sample = measured(server, [0], work, of=max(count, 1))
    settled = sum(one.commissions for one in results)
    if (count and settled != count) or any(one.skipped for one in results):
        raise RuntimeError(f"{settled} commissions of {count} were settled")
    return {"settlement": sample | {"peak_mib": _peak_mib()}}


def _balance(count: int, server: int) -> dict[str, Sample]:
    """The balances of one book of so many transfers: from the beginning, and from a snapshot."""
    from finance import ledger, snapshots

    book = UUID(int=count)

    def work(_number: int) -> None:
        if sum(one.credit for one in ledger.balances(book)) != count // 4 * 10_000:
            raise RuntimeError("the balance is not what was posted")

    work(0)
    whole = measured(server, range(5), work)
    taken = measured(server, [0], lambda _number: snapshots.take())
    work(0)
    return {
        "balance, no snapshot": whole, "taking snapshots": taken,
        "balance, snapshot": measured(server, range(50), work),
    }  # fmt: skip


def _reconcile(count: int, server: int) -> dict[str, Sample]:
    """Take a report of so many lines in and compare it; its lines are of sales that there are."""
    from finance import reconciliation
    from finance.states import ReportKind
    from mestore.lib import actor

    path, by = Path(sys.argv[4]), actor.system("bench")
    taken: list[Any] = []

    def take_in(_number: int) -> None:
        taken.append(
            reconciliation.take_in(path, kind=ReportKind.PROVIDER, provider="benchpay", by=by).report
        )

    found = {"reconciliation import": measured(server, [0], take_in, of=count)}
    compared: list[Any] = []

    def compare(_number: int) -> None:
        compared.append(reconciliation.compare(taken[0], by=by))

    found["reconciliation"] = measured(server, [0], compare, of=count)
    if taken[0].record_count != count or compared[0].differences:
        raise RuntimeError(f"{taken[0].record_count} lines of {count}, {compared[0].differences} differences")
    found["reconciliation import"]["peak_mib"] = _peak_mib()
    return found


def _peak_mib() -> float:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


WORK = {
    "charge": _charge, "place": _place, "refund": _refund, "payout": _payout, "settle": _settle,
    "balance": _balance, "reconcile": _reconcile,
}  # fmt: skip


if __name__ == "__main__":
    main()
