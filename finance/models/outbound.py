"""Events for the storefront: what happened to orders, refunds and payouts, signed (Standard Webhooks)."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from finance.states import DeliveryState
from mestore.lib.fields import EncryptedField
from mestore.lib.ids import uuid7


class WebhookEndpoint(models.Model):
    """Where events are sent. Its secrets are sealed: the current one, and the former during a rotation."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(_("name"), max_length=100, unique=True)
    url = models.CharField(_("address"), max_length=500)
    secret = EncryptedField(_("secret"))
    former_secret = EncryptedField(_("former secret"), default="")
    former_until = models.DateTimeField(_("former secret until"), null=True, blank=True)
    # Types of event that are wanted; empty: all.
    event_types = models.JSONField(
        _("events"), default=list, db_default=models.Value([], models.JSONField()), blank=True
    )
    is_active = models.BooleanField(_("active"), default=True, db_default=True)
    created_by = models.UUIDField(_("created by"), null=True, editable=False)
    created_at = models.DateTimeField(_("created"), db_default=Now())
    updated_at = models.DateTimeField(_("changed"), db_default=Now())

    class Meta:
        verbose_name = _("webhook endpoint")
        verbose_name_plural = _("webhook endpoints")

    def __str__(self) -> str:
        return self.name


class OutboundEvent(models.Model):
    """One event, written in the transaction of what it tells; `body` is what is signed, byte for byte."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    type = models.CharField(_("type"), max_length=64)
    subject_type = models.CharField(max_length=16)
    subject_id = models.CharField(max_length=64)
    body = models.TextField(_("body"))
    created_at = models.DateTimeField(_("happened"), db_default=Now())

    class Meta:
        verbose_name = _("event for the storefront")
        verbose_name_plural = _("events for the storefront")
        indexes: ClassVar = [
            models.Index(fields=["subject_type", "subject_id"], name="outbound_event_by_subject")
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.subject_id}"


class EventDelivery(models.Model):
    """One event on its way to one endpoint."""

    id = models.BigAutoField(primary_key=True)
    event = models.ForeignKey(
        OutboundEvent, models.CASCADE, related_name="deliveries", db_index=False, verbose_name=_("event")
    )
    endpoint = models.ForeignKey(
        WebhookEndpoint, models.PROTECT, related_name="deliveries", db_index=False, verbose_name=_("endpoint")
    )
    state = models.CharField(
        _("state"), max_length=16, choices=[(state.value, state.value) for state in DeliveryState],
        default=DeliveryState.WAITING.value,
    )  # fmt: skip
    attempts = models.SmallIntegerField(_("attempts"), default=0, db_default=0)
    next_at = models.DateTimeField(_("next attempt"), null=True, blank=True)
    last_status = models.SmallIntegerField(_("last answer"), null=True, blank=True)
    last_error = models.CharField(_("last error"), max_length=200, blank=True, default="", db_default="")
    last_at = models.DateTimeField(_("last attempt"), null=True, blank=True)
    delivered_at = models.DateTimeField(_("delivered"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), db_default=Now())

    class Meta:
        verbose_name = _("delivery of an event")
        verbose_name_plural = _("deliveries of events")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["event", "endpoint"], name="event_delivery_once"),
            models.CheckConstraint(
                condition=Q(state__in=[state.value for state in DeliveryState]),
                name="event_delivery_state_known",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["next_at"], name="event_delivery_due", condition=Q(state=DeliveryState.WAITING.value)
            ),
            models.Index(fields=["state", "-id"], name="event_delivery_by_state"),
            models.Index(fields=["endpoint", "-id"], name="event_delivery_by_endpoint"),
        ]

    def __str__(self) -> str:
        return f"{self.event_id} → {self.endpoint_id}"
