"""What bodies about disputes say, and how a dispute is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from finance import disputes
from finance.models import Dispute
from mestore.lib.shapes import Text


class LegacyDisputeRequest(serializers.Serializer[Any]):
    """A dispute in the words of the first system."""

    transaction_id = serializers.UUIDField()
    motivo = Text(max_length=disputes.LONGEST_SUBJECT)
    descripcion = Text(min_length=disputes.SHORTEST_DESCRIPTION, max_length=disputes.LONGEST_DESCRIPTION)


class DisputeReasonRequest(serializers.Serializer[Any]):
    """Why it was decided so; the vendor reads it."""

    reason = Text(min_length=10, max_length=500)


def dispute(row: Dispute) -> Mapping[str, Any]:
    """One dispute."""
    return {
        "id": row.pk, "commission_id": row.commission_id,
        "commission_number": row.commission.commission_number,
        "order_id": row.commission.order_id, "vendor_id": row.vendor_id, "status": row.status,
        "motivo": row.subject, "descripcion": row.description, "resolution": row.resolution or None,
        "opened_at": row.opened_at, "decided_at": row.decided_at,
    }  # fmt: skip
