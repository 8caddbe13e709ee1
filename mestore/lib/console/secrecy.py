"""Which columns no console page may filter, order, search or print by itself.

A list that can be filtered by a hidden column gives that column away one character at a time, so a
column is treated as secret by its type and by its name, and each page adds what only it knows.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import models

SECRET_WORDS = frozenset(
    {
        *(
            "password",
            "passwd",
            "secret",
            "token",
            "seed",
            "hash",
            "mac",
            "salt",
            "nonce",
            "cipher",
            "sealed",
        ),
        *("wrapped", "canon", "payload", "private", "pepper", "otp", "pin", "ct", "ciphertext", "encrypted"),
        *("credential", "cvv", "iban", "verifier"),
    }
)


def is_secret(field: models.Field[Any, Any], declared: Collection[str] = ()) -> bool:
    """Whether `field` holds something that must not be probed: by declaration, type or name."""
    if field.name in declared or field.attname in declared:
        return True
    if isinstance(field, models.BinaryField):
        return True
    if any(base.__name__ == "EncryptedField" for base in type(field).__mro__):
        return True
    return not SECRET_WORDS.isdisjoint(field.name.lower().split("_"))


def open_field(
    model: type[models.Model], name: str, declared: Collection[str]
) -> models.Field[Any, Any] | None:
    """The concrete, non-secret field of `model` called exactly `name` (or its column), else None.

    A name that walks a relation (`user__password`) is never a field of the model itself.
    """
    for field in model._meta.concrete_fields:
        if name in (field.name, field.attname):
            return None if is_secret(field, declared) else field
    return None
