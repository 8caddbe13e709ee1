"""What the shapes of request bodies are made of, and the one way to read one."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

from mestore.lib.http import JsonNumber

_LONGEST = 4_096


class Text(serializers.CharField):
    """A JSON string as it was sent: nothing is trimmed, and a number is not taken for one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"trim_whitespace": False, "max_length": _LONGEST, **options})

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or isinstance(data, JsonNumber):
            self.fail("invalid")
        return super().to_internal_value(data)


def read(shape: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    """Return what `shape` takes from the request's body; whatever it does not name is ignored.

    Raises DRF's ValidationError, which is answered with 422.
    """
    serializer = shape(data=request.data)
    serializer.is_valid(raise_exception=True)
    given: dict[str, Any] = serializer.validated_data
    return given
