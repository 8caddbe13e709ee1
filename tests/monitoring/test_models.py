"""Rows of the trail name themselves."""

from __future__ import annotations

from uuid import UUID

from monitoring.models import AuditEvent, AuditPending, SubjectKey

ID = UUID("0190163d-8694-739b-aea5-966c26f8ad91")


def test_every_row_has_a_name_of_its_own() -> None:
    assert str(AuditEvent(id=ID, type="user.created")) == f"user.created {ID}"
    assert str(AuditPending(id=ID)) == str(ID)
    assert str(SubjectKey(subject="somebody")) == "somebody"
