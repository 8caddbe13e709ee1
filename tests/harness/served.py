"""What answers the test client: the framework's handler for tests, with the way that programs go."""

from __future__ import annotations

from django.test.client import ClientHandler as FrameworksOwn

from mestore.handler import ShortWay

__all__ = ["FrameworksOwn", "Served"]


class Served(ShortWay, FrameworksOwn):
    """Requests of tests take the way that they take in production."""
