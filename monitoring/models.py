"""What the audit trail keeps.

The database owns these tables: columns, partitions, triggers and grants are written in SQL by the first
migration. `AuditEvent` is append-only there, for everybody; nothing here can change or delete a row.
"""

# ruff: noqa: DJ001 - NULL is "nobody" or "nothing" in columns that SQL writes too
from __future__ import annotations

from django.db import models

from monitoring.job_depth import JobSample
from monitoring.outbox import OutboxMessage
from monitoring.saved_filters import SavedFilter
from monitoring.signals import Signal, Watch

__all__ = [
    "AuditEvent",
    "AuditPending",
    "JobSample",
    "OutboxMessage",
    "SavedFilter",
    "Signal",
    "SubjectKey",
    "Watch",
]


class AuditEvent(models.Model):
    """One thing that happened. The database's key is (id, occurred_at); the table is partitioned by month."""

    id = models.UUIDField(primary_key=True, editable=False)
    occurred_at = models.DateTimeField(editable=False)
    type = models.TextField(editable=False)
    outcome = models.TextField(editable=False)
    actor_kind = models.TextField(editable=False)
    actor_id = models.TextField(null=True, editable=False)
    actor_role = models.TextField(null=True, editable=False)
    target_type = models.TextField(null=True, editable=False)
    target_id = models.TextField(null=True, editable=False)
    session_id = models.TextField(null=True, editable=False)
    request_id = models.TextField(null=True, editable=False)
    canon = models.BinaryField(editable=False)
    pii_ct = models.BinaryField(null=True, editable=False)
    writer_mac = models.BinaryField(null=True, editable=False)
    leaf_hash = models.BinaryField(editable=False)

    class Meta:
        managed = False
        db_table = "audit_event"
        verbose_name = "audit event"
        verbose_name_plural = "audit events"

    def __str__(self) -> str:
        return f"{self.type} {self.id}"


class AuditPending(models.Model):
    """An event that is not in the signed log yet. Whoever puts it there deletes the row."""

    id = models.UUIDField(primary_key=True, editable=False)
    occurred_at = models.DateTimeField(editable=False)

    class Meta:
        managed = False
        db_table = "audit_pending"

    def __str__(self) -> str:
        return str(self.id)


class SubjectKey(models.Model):
    """The data key under which one person's values in the audit trail are sealed, wrapped by the master key.

    Destroying it (`wrapped` NULL) makes those values unreadable for ever while every event, hash and proof
    stays valid. The row itself stays: it is what refuses a new key for the same person.
    """

    subject = models.TextField(primary_key=True, editable=False)
    wrapped = models.BinaryField(null=True, editable=False)
    created_at = models.DateTimeField(editable=False)
    destroyed_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        managed = False
        db_table = "subject_key"

    def __str__(self) -> str:
        return self.subject
