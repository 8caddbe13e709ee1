"""What the test client keeps of a page that it was answered."""

from __future__ import annotations

from typing import Any

from django.test import client
from django.test.utils import ContextList


def keep_as_rendered() -> None:
    """Keep the context of each template as it is after rendering; Django would copy every one before.

    A page of the console is made of dozens of them, down to the widgets of its forms, and few tests look.
    """

    def store(store: dict[str, Any], signal: Any, sender: Any, template: Any, context: Any, **_: Any) -> None:
        store.setdefault("templates", []).append(template)
        store.setdefault("context", ContextList()).append(context)

    client.store_rendered_templates = store  # type: ignore[attr-defined] # not in the stubs
