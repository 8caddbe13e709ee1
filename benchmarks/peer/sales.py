"""The same sale as MeStore's: order, item, payment, commission and a balanced transaction, once per key.

Written as its packages' documents have it, with what makes it faster: the legs go in as one statement, and
all accounts that a sale needs are read at once. Its trail is auditlog's, as middleware and signals write it.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from django.utils import timezone
from hordak.models import Account, Leg, Transaction
from moneyed import Money
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView

from .models import Commission, IdempotencyKey, Order, OrderItem, Payment

CENT = Decimal("0.01")
RATE = Decimal("0.05")
TAX_ON_COMMISSION = Decimal("0.19")
GOODS_TAX = "goods tax"
CLEARING, FEE, FEE_TAX, SHIPPING = "clearing", "fee", "tax on the fee", "shipping"
SHARED = {CLEARING: "AS", FEE: "IN", FEE_TAX: "LI", SHIPPING: "LI", GOODS_TAX: "LI"}


class ItemSerializer(serializers.Serializer):
    """One line."""

    product_id = serializers.CharField(max_length=128)
    vendor_id = serializers.CharField(max_length=150)
    name = serializers.CharField(max_length=300)
    unit_price = serializers.DecimalField(max_digits=13, decimal_places=2, min_value=CENT)
    quantity = serializers.IntegerField(min_value=1, max_value=10_000)


class PaymentSerializer(serializers.Serializer):
    """What the provider said."""

    provider = serializers.CharField(max_length=32)
    reference = serializers.CharField(max_length=128)
    status = serializers.ChoiceField(["approved"])


class SaleSerializer(serializers.Serializer):
    """A paid order of one item, as the storefront sends it; what the buyer pays beside the goods is given."""

    currency = serializers.ChoiceField(["COP"])
    external_reference = serializers.CharField(max_length=128)
    buyer_reference = serializers.CharField(max_length=128)
    items = ItemSerializer(many=True, min_length=1, max_length=1)
    shipping_amount = serializers.DecimalField(max_digits=13, decimal_places=2, min_value=0)
    tax_amount = serializers.DecimalField(max_digits=13, decimal_places=2, min_value=0)
    shipping_name = serializers.CharField(max_length=200)
    shipping_phone = serializers.CharField(max_length=32)
    shipping_address = serializers.CharField(max_length=300)
    shipping_city = serializers.CharField(max_length=100)
    shipping_state = serializers.CharField(max_length=100)
    payment = PaymentSerializer()


class SaleThrottle(UserRateThrottle):
    """The storefront's own limit, as for MeStore's machine account: counted, and out of the way."""

    scope = "sale"


class SaleView(APIView):
    """Place a paid order once per key: 201 with the order."""

    throttle_classes = (SaleThrottle,)

    def post(self, request: Request) -> Response:
        """The answer is stored with the sale; the same key gets it again."""
        key = request.headers.get("Idempotency-Key", "")
        if not key:
            raise ValidationError({"Idempotency-Key": "is required"})
        form = SaleSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        digest = hashlib.sha256(json.dumps(request.data, sort_keys=True).encode()).hexdigest()
        with transaction.atomic():
            claim = self._claim(key, digest, request.user)
            if claim.body:
                return Response(json.loads(claim.body), status=201)
            answer = place(form.validated_data)
            claim.body = JSONRenderer().render(answer).decode()
            claim.save(update_fields=["body"])
        return Response(answer, status=201)

    @staticmethod
    def _claim(key: str, digest: str, user: Any) -> IdempotencyKey:
        try:
            with transaction.atomic():
                return IdempotencyKey.objects.create(user=user, key=key, request_hash=digest)
        except IntegrityError:
            claim = IdempotencyKey.objects.select_for_update().get(user=user, key=key)
            if claim.request_hash != digest:
                raise ValidationError({"Idempotency-Key": "was used for another request"}) from None
            return claim


def place(sale: dict[str, Any]) -> dict[str, Any]:
    """Write the order and what comes of it; belongs inside a transaction."""
    item, now = sale["items"][0], timezone.now()
    vendor = get_user_model().objects.filter(username=item["vendor_id"], is_active=True).first()
    if vendor is None:
        raise ValidationError({"vendor_id": "is not known"})
    goods = item["unit_price"] * item["quantity"]
    total = goods + sale["shipping_amount"] + sale["tax_amount"]
    order = Order.objects.create(
        order_number=f"ORD-{uuid.uuid4().hex[:16]}", external_reference=sale["external_reference"],
        buyer_reference=sale["buyer_reference"], currency=sale["currency"], status="confirmed",
        subtotal=goods, tax=sale["tax_amount"], shipping=sale["shipping_amount"], total=total,
        placed_at=now, confirmed_at=now,
        **{name: sale[name] for name in sale if name.startswith("shipping_") and name != "shipping_amount"},
    )  # fmt: skip
    OrderItem.objects.create(
        order=order, line=1, product_id=item["product_id"], vendor=vendor, name=item["name"],
        unit_price=item["unit_price"], quantity=item["quantity"], line_total=goods,
    )  # fmt: skip
    Payment.objects.create(order=order, amount=total, **sale["payment"])
    fee = (goods * RATE).quantize(CENT, ROUND_HALF_UP)
    tax_on_fee = (fee * TAX_ON_COMMISSION).quantize(CENT, ROUND_HALF_UP)
    commission = Commission.objects.create(
        id=uuid.uuid4(), commission_number=f"COM-{uuid.uuid4().hex[:16]}", order_id=order.pk, vendor=vendor,
        currency=sale["currency"], order_amount=goods, commission_rate=RATE, commission_amount=fee,
        vendor_amount=goods - fee, commission_type="STANDARD", status="PENDING", notes="", calculated_at=now,
        created_at=now, updated_at=now,
    )  # fmt: skip
    post(order, vendor.username, {
        vendor.username: goods - fee - tax_on_fee, FEE: fee, FEE_TAX: tax_on_fee,
        SHIPPING: sale["shipping_amount"], GOODS_TAX: sale["tax_amount"],
    })  # fmt: skip
    return {
        "id": order.pk, "order_number": order.order_number, "status": order.status, "total": str(total),
        "currency": order.currency, "commissions": [
            {"id": str(commission.pk), "number": commission.commission_number, "amount": str(fee)}
        ],
    }  # fmt: skip


def post(order: Order, vendor: str, parts: dict[str, Decimal]) -> None:
    """One balanced transaction: what the buyer paid, by whom it is owed to."""
    owed = {name: amount for name, amount in parts.items() if amount}
    accounts = {one.name: one for one in Account.objects.filter(name__in=[CLEARING, *owed])}
    entry = Transaction.objects.create(description=f"order/{order.pk}/sale/{vendor}")

    def money(amount: Decimal) -> Money:
        return Money(amount, order.currency)

    legs = [Leg(transaction=entry, account=accounts[CLEARING], debit=money(sum(owed.values(), Decimal())))]
    legs += [
        Leg(transaction=entry, account=accounts[name], credit=money(amount)) for name, amount in owed.items()
    ]
    Leg.objects.bulk_create(legs)


def open_accounts(vendors: list[str]) -> None:
    """What sales are posted to; hordak keeps accounts as a tree, so they are made one by one."""
    for name, kind in SHARED.items():
        Account.objects.create(name=name, type=kind, currencies=["COP"])
    for name in vendors:
        Account.objects.create(name=name, type="LI", currencies=["COP"])
