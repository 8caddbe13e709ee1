"""People who look at the console, and rows for them to look at."""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.db import transaction
from django.test import Client
from django.utils import timezone
from procrastinate.contrib.django import app

from accounts.models import (
    AccessDecision,
    AccessReview,
    AccessReviewItem,
    ApprovalRequest,
    DataRequest,
    FactorReset,
    TotpDevice,
    User,
)
from finance import ledger, numbers, periods, refunds, sale_postings
from finance.models import (
    Commission,
    CommissionRule,
    Dispute,
    EventDelivery,
    Order,
    OrderItem,
    OrderPayment,
    OutboundEvent,
    PayoutBatch,
    ProviderReport,
    ReconciliationCase,
    SettlementRun,
    WebhookEndpoint,
)
from mestore.lib import actor, ids
from mestore.lib.actor import Actor
from monitoring import alerts, audit, events
from sessions_security import clients, sessions
from tests.factories.accounts import (
    PASSWORD,
    AdminFactory,
    BuyerFactory,
    SuperuserFactory,
    TotpDeviceFactory,
    VendorFactory,
    code_of,
    grant,
)
from tests.finance import payout_house

BY = actor.system("test")
DANGEROUS = "users.update.global"
AUDIT = "audit_logs.read.read_only"


@dataclass
class Visitor:
    """Somebody with a browser."""

    user: User
    device: TotpDevice
    client: Client


def person(*, superuser: bool = False, permissions: tuple[str, ...] = ()) -> tuple[User, TotpDevice]:
    """A member of the staff with a proved second factor."""
    user = SuperuserFactory.create() if superuser else AdminFactory.create()
    grant(user, *permissions)
    return user, TotpDeviceFactory.create(user=user)


def enter(user: User, device: TotpDevice, client: Client | None = None) -> Client:
    """Sign in as a browser does: password, then code."""
    client = client or Client()
    client.post("/admin/login/", {"email": user.email, "password": PASSWORD})
    answer = client.post("/admin/login/", {"step": "code", "code": code_of(device)})
    assert answer.status_code == 302, answer.content.decode()
    assert answer["Location"] == "/admin/"
    return client


def visitor(*, superuser: bool = False, permissions: tuple[str, ...] = ()) -> Visitor:
    user, device = person(superuser=superuser, permissions=permissions)
    return Visitor(user, device, enter(user, device))


def pages() -> list[str]:
    """The address of every list."""
    return [f"/admin/{model._meta.app_label}/{model._meta.model_name}/" for model in admin.site._registry]


def fill(rows: int, *, at: dt.datetime | None = None) -> None:
    """At least so many rows in every list."""
    moment = at or timezone.now()
    vendor = VendorFactory.create()
    for _ in range(rows):
        order = sale(vendor, moment)
        with transaction.atomic():
            audit.record(events.ORDER_RECORDED, by=BY, target=("order", str(order.pk)))
        user = BuyerFactory.create()
        VendorFactory.create()
        grant(user, "users.read.read_only")
        sessions.start(
            user, kind="token", amr=("pwd",), by=Actor(kind="user", id=str(user.pk), address="10.0.0.1")
        )
        clients.create("robot", networks=["10.0.0.0/8"], by=BY)
        oversight(user)


def oversight(about: User) -> None:
    """A row in each list of what is watched over together."""
    asker = AdminFactory.create()
    now = timezone.now()
    request = ApprovalRequest(
        action="users.factor_reset", target_type="user", target_id=str(about.pk), about=about, details={},
        fingerprint=ApprovalRequest.fingerprint_of("users.factor_reset", ("user", str(about.pk)), {}),
        reason="lost the telephone", asked_by=asker, asked_by_label=asker.email, asked_at=now,
        expires_at=now + dt.timedelta(hours=24),
    )  # fmt: skip
    request.seal = request.make_seal()
    request.save(force_insert=True)
    FactorReset.objects.create(
        user=about, proofs=["mailed_code", "password"], cancel_hash=secrets.token_bytes(32),
        requested_at=now, due_at=now + dt.timedelta(days=1),
    )  # fmt: skip
    AccessDecision.objects.create(
        asked="users.delete.global", rule="no_grant", user_id=about.pk, request_id="r-1"
    )
    # One is under way at a time: the others are over.
    AccessReview.objects.filter(finished_at=None).update(
        finished_at=now, finished_by=asker, outcome_digest="0" * 64, seal=b"0" * 32
    )
    review = AccessReview.objects.create(started_by=asker, started_by_label=asker.email)
    DataRequest.objects.create(
        person_id=about.pk, kind="export", due_on=now.date() + dt.timedelta(days=about.pk.int % 20)
    )
    AccessReviewItem.objects.create(review=review, grant=about.grants.all()[0])
    app.configure_task("house.job", allow_unknown=True).defer()
    newest = Commission.objects.filter(entry_id__isnull=False).order_by("-id")[0]
    refunds.post(refunds.Wish(order_id=newest.order_id, reason="came back broken"), by=BY)
    Dispute.objects.create(
        commission=Commission.objects.order_by("-id")[0], vendor=Commission.objects.order_by("-id")[0].vendor,
        subject="Wrong rate", description="It says five percent.", commission_status="PENDING",
    )  # fmt: skip
    CommissionRule.objects.create(
        name="five percent", currency="COP", rate_ppm=50_000, valid=(now, None), rule_hash=b"0" * 32
    )
    report = ProviderReport.objects.create(
        kind="provider", provider="wompi", file_name=f"{about.pk}.csv", file_digest=about.pk.bytes * 2,
        totals=[{"kind": "payment", "currency": "COP", "count": 1, "minor": 100, "fee_minor": 0}],
    )  # fmt: skip
    ReconciliationCase.objects.create(
        kind="amount_differs", provider="wompi", reference=str(about.pk), currency="COP", ledger_minor=100,
        provider_minor=90, report=report,
    )  # fmt: skip
    _payout()
    SettlementRun.objects.create(due_before=now, finished_at=now, vendors=1, totals={"COP": 100})
    # Long before anything occurred, so that whoever posts afterwards is not refused.
    last = periods.closed_until() or dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
    periods.close(last + dt.timedelta(days=1), reason="end of a day", by=BY)
    EventDelivery.objects.create(
        event=OutboundEvent.objects.create(
            type="order.confirmed", subject_type="order", subject_id="7", body="{}"
        ),
        endpoint=WebhookEndpoint.objects.create(
            name=str(about.pk), url="https://x.example/", secret="whsec_"
        ),
    )
    alerts.raise_signal(
        "detector.spray", entity=("network", f"192.0.2.{about.pk.int % 250}"), evidence={"accounts": 30}
    )


def _payout() -> None:
    """A payout that was asked for, its bank account, and a bank file."""
    vendor, where = payout_house.vendor_with("500000")
    payout_house.asked(vendor, where)
    PayoutBatch.objects.create(
        batch_number=numbers.batch_number(timezone.now()), currency="COP", layout="csv", payout_count=1,
        total_minor=100, file="reference", file_digest=b"0" * 32,
    )  # fmt: skip


def sale(
    vendor: User, moment: dt.datetime, *, total: int = 10_000, currency: str = "COP", **values: Any
) -> Order:
    """One sold order of one vendor, with its commission and its ledger entry."""
    order = Order.objects.create(
        **{
            "order_number": numbers.order_number(moment),
            "source": "storefront",
            "external_reference": str(ids.uuid7()),
            "buyer_reference": "buyer-1",
            "currency": currency,
            "status": "confirmed",
            "subtotal_minor": total,
            "tax_minor": 0,
            "shipping_minor": 0,
            "total_minor": total,
            "placed_at": moment,
            "confirmed_at": moment,
            **values,
        }
    )
    OrderItem.objects.create(
        order=order, line=1, product_id="p-1", vendor=vendor, name="Mug", unit_price_minor=total, quantity=1,
        line_total_minor=total,
    )  # fmt: skip
    OrderPayment.objects.create(
        order=order, sequence=1, method="PSE", amount_minor=total, provider="wompi", status="approved"
    )
    part = sale_postings.VendorSale(
        vendor.pk, currency, goods=total, shipping=0, tax=0, base=total, rate_ppm=50_000,
        commission=total // 20,
    )  # fmt: skip
    posting = sale_postings.sale_posting(
        part, entry_id=ids.uuid7(), order_id=order.pk, occurred_at=moment, provider="wompi"
    )
    with transaction.atomic():
        ledger.post_many([posting], by=BY)
    Commission.objects.create(
        commission_number=numbers.commission_number(moment), order=order, vendor=vendor, currency=currency,
        order_amount_minor=part.base, rate_ppm=part.rate_ppm, commission_amount_minor=part.commission,
        vendor_amount_minor=part.vendor_amount, entry_id=posting.entry_id, calculated_at=moment,
    )  # fmt: skip
    return order
