"""The one registry that MeStore's metrics are in. Libraries' own metrics stay out of the scrape."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

REGISTRY = CollectorRegistry()
