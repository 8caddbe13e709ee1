"""Machine accounts and the proofs that programs show."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _

from mestore.lib import ids


class MachineClient(models.Model):
    """A program that may ask for tokens: the storefront, a payment provider's relay."""

    class Method(models.TextChoices):
        KEY = "key", _("client key")
        ASSERTION = "private_key_jwt", _("signed assertion")

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    client_id = models.CharField(_("client id"), max_length=64, unique=True)
    key_hash = models.BinaryField(_("key hash"), max_length=32, editable=False)
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="machine_client",
        verbose_name=_("account"),
    )
    networks = ArrayField(
        models.CharField(max_length=43),
        verbose_name=_("allowed networks"),
        help_text=_("CIDR blocks the client may call from; none means it may not call at all."),
    )
    # A key that was replaced goes on working until this moment, so that a program can be given the new one.
    previous_key_hash = models.BinaryField(max_length=32, null=True, editable=False)
    previous_key_until = models.DateTimeField(_("earlier key works until"), null=True, editable=False)
    rotated_at = models.DateTimeField(_("key replaced"), null=True, editable=False)
    method = models.CharField(
        _("signs in with"), max_length=16, choices=Method.choices, default=Method.KEY, db_default="key"
    )
    requires_dpop = models.BooleanField(
        _("tokens bound to a key"),
        default=False,
        db_default=False,
        help_text=_("Each request must carry a proof of possession (DPoP, RFC 9449)."),
    )
    is_active = models.BooleanField(_("active"), default=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("machine client")
        verbose_name_plural = _("machine clients")

    def __str__(self) -> str:
        return self.client_id


class ClientKey(models.Model):
    """A public key with which a machine client signs its assertions (`private_key_jwt`, RFC 7523)."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    client = models.ForeignKey(
        MachineClient, on_delete=models.CASCADE, related_name="keys", verbose_name=_("machine client")
    )
    kid = models.CharField(_("key id"), max_length=64)
    algorithm = models.CharField(_("algorithm"), max_length=8)
    public_jwk = models.JSONField(_("public key"))
    created_at = models.DateTimeField(_("registered"))
    revoked_at = models.DateTimeField(_("revoked"), null=True)

    class Meta:
        verbose_name = _("client's public key")
        verbose_name_plural = _("clients' public keys")
        constraints = [
            models.UniqueConstraint(fields=["client", "kid"], name="client_key_id"),
            models.CheckConstraint(
                condition=models.Q(algorithm__in=["EdDSA", "ES256"]), name="client_key_algorithm_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kid} of {self.client_id}"


class UsedProof(models.Model):
    """The hash of a signed proof (assertion, DPoP) that was accepted: the second one like it is a replay."""

    proof_hash = models.BinaryField(primary_key=True, max_length=32)
    expires_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["expires_at"], name="used_proof_end")]

    def __str__(self) -> str:
        return f"proof used, kept until {self.expires_at}"
