"""The number of a person's identity card (cédula)."""

from __future__ import annotations

from django.db import models

from accounts.models.user import User
from mestore.lib import crypto
from mestore.lib.fields import EncryptedField

_PURPOSE = "identity-card"


class IdentityCard(models.Model):
    """One person's number, encrypted; `number_index` keeps it unique without showing it."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, primary_key=True, related_name="+")
    number = EncryptedField()
    number_index = models.BinaryField(max_length=32, unique=True, editable=False)

    def __str__(self) -> str:
        return f"identity card of {self.user_id}"

    def write(self, number: str) -> None:
        """Set the number with its index. Does not save."""
        self.number = number
        self.number_index = crypto.blind_index(number, purpose=_PURPOSE)
