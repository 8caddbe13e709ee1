"""Which orders of a marketplace count as sold, and what their statuses are called here. Pure."""

from __future__ import annotations

from typing import Final

# The marketplace's status -> ours. An imported order is born in its state: the state machine guards the
# transitions of orders that live here, not where an order of another house had come to before.
STATUS: Final[dict[str, str]] = {
    "created": "pending",
    "approved": "confirmed",
    "processing": "processing",
    "invoiced": "processing",
    "shipped": "shipped",
    "delivered": "delivered",
    "canceled": "cancelled",
    "unavailable": "cancelled",
}

# The payment was accepted and nothing was taken back. An order counts as sold when its status is one of these
# and at least one of its item lines was accepted.
SOLD_STATUSES: Final[tuple[str, ...]] = ("approved", "processing", "invoiced", "shipped", "delivered")
