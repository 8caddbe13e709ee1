from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.utils import translation

from mestore.lib.console import figures
from tests.console import house


@pytest.fixture(autouse=True)
def _no_kept_figures() -> Iterator[None]:
    """Figures are kept for a minute by the process; each test computes its own."""
    figures.forget()
    yield
    figures.forget()


@pytest.fixture(autouse=True)
def _in_english() -> Iterator[None]:
    """Texts are compared with the English ones; a request says for itself which language it wants."""
    with translation.override("en"):
        yield


@pytest.fixture
def admin_visitor(db: None) -> house.Visitor:
    """An administrator who may see everything and end sessions."""
    visitor = house.visitor(permissions=(house.DANGEROUS, house.AUDIT))
    translation.activate("en")  # signing in spoke Spanish
    return visitor
