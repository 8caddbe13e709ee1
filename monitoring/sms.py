"""How a text message leaves the house: a port, and what stands behind it without a provider.

A provider is a class with `send(number, text)` whose dotted path is named in MESTORE_SMS_BACKEND. It raises
`NotSent` when the message did not go; it is then tried again.
"""

from __future__ import annotations

import sys
from typing import Protocol

from django.conf import settings
from django.utils.module_loading import import_string


class NotSent(Exception):
    """The provider did not take the message."""


class Port(Protocol):
    """What a provider must offer."""

    def send(self, number: str, text: str) -> None:
        """Send `text` to a number in international form. Raises `NotSent`."""


class Console:
    """Writes messages to standard output, as Django's console backend does with mail. The settings refuse it
    outside of the demo and the tests.
    """

    def send(self, number: str, text: str) -> None:
        sys.stdout.write(f"SMS to {number}: {text}\n")
        sys.stdout.flush()


def is_available() -> bool:
    """Whether text messages can be sent at all."""
    return bool(settings.SMS_BACKEND)


def send(number: str, text: str) -> None:
    """Send one message through the provider of the settings. Raises `NotSent`, also when there is none."""
    if not is_available():
        raise NotSent("no provider is configured")
    provider: Port = import_string(settings.SMS_BACKEND)()
    provider.send(number, text)
