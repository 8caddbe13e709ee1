"""What the sign-in API reads and answers: shapes only."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from accounts.models import User
from mestore.lib.shapes import Text
from sessions_security import client_assertions, dpop, jws
from sessions_security.tokens import TokenPair


class SignInRequest(serializers.Serializer[Any]):
    """E-mail address and password."""

    email = serializers.EmailField(max_length=254)
    password = Text()


class SecondStepRequest(serializers.Serializer[Any]):
    """The token of a pending sign-in and the factor that completes it."""

    mfa_token = Text(max_length=128)
    method = Text(max_length=16, default="totp")
    code = Text(max_length=64, required=False)
    credential = serializers.JSONField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Something must be there to look at; which of the two a method reads is its own business."""
        if attrs.keys().isdisjoint({"code", "credential"}):
            raise serializers.ValidationError({"code": _("This field is required.")}, code="required")
        return attrs


class RefreshRequest(serializers.Serializer[Any]):
    """A refresh token; it is used up by this request."""

    refresh_token = Text(max_length=128)


class SignOutRequest(serializers.Serializer[Any]):
    """Whether all sessions of the account end, or only this one."""

    revoke_all = serializers.BooleanField(default=False)


class ClientTokenRequest(serializers.Serializer[Any]):
    """The grant of RFC 6749 section 4.4: id and key in the Authorization header, or an assertion here."""

    grant_type = serializers.ChoiceField(choices=["client_credentials"])
    client_id = Text(max_length=64, required=False)
    client_assertion_type = serializers.ChoiceField(choices=[client_assertions.TYPE], required=False)
    client_assertion = Text(max_length=jws.MAX_LENGTH, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """An assertion and its type come together or not at all."""
        given = {"client_assertion", "client_assertion_type"} & attrs.keys()
        if len(given) == 1:
            missing = {"client_assertion", "client_assertion_type"} - given
            raise serializers.ValidationError(
                {name: _("This field is required.") for name in missing}, code="required"
            )
        return attrs


class AccountSummary(serializers.Serializer[Any]):
    """The account that signed in."""

    id = serializers.UUIDField()
    email = serializers.CharField()
    user_type = serializers.CharField()
    nombre = serializers.CharField()
    is_active = serializers.BooleanField()
    is_verified = serializers.BooleanField()


class TokenResponse(serializers.Serializer[Any]):
    """Tokens, and the account they belong to (null when tokens are exchanged)."""

    access_token = serializers.CharField()
    refresh_token = serializers.CharField()
    token_type = serializers.CharField(default="bearer")
    expires_in = serializers.IntegerField()
    user = AccountSummary(allow_null=True)
    replacement_code = serializers.CharField(required=False)  # once, after a backup code


class ClientTokenResponse(serializers.Serializer[Any]):
    """An access token for a machine; it asks again with its key."""

    access_token = serializers.CharField()
    token_type = serializers.CharField(default="bearer")
    expires_in = serializers.IntegerField()


class MeResponse(serializers.Serializer[Any]):
    """The account behind the request."""

    id = serializers.UUIDField()
    email = serializers.CharField()
    nombre = serializers.CharField()
    user_type = serializers.CharField()
    email_verified = serializers.BooleanField()
    phone_verified = serializers.BooleanField()
    is_active = serializers.BooleanField()
    is_verified = serializers.BooleanField()


class SignOutResponse(serializers.Serializer[Any]):
    """That it is done, in words."""

    success = serializers.BooleanField()
    message = serializers.CharField()


def token_response(pair: TokenPair, user: User | None) -> dict[str, Any]:
    """Return the body that carries `pair`; a machine's has no refresh token and no account."""
    body: dict[str, Any] = {
        "access_token": pair.access_token,
        "token_type": dpop.SCHEME if pair.is_bound else "bearer",
        "expires_in": pair.expires_in,
    }
    if pair.refresh_token is not None:
        body["refresh_token"] = pair.refresh_token
        body["user"] = account_summary(user) if user is not None else None
    return body


def account_summary(user: User) -> dict[str, Any]:
    """Return the account as the token response shows it."""
    return {
        "id": user.pk,
        "email": user.email,
        "user_type": user.user_type,
        "nombre": user.nombre,
        "is_active": user.is_active,
        "is_verified": user.account_verified,
    }


def me(user: User) -> dict[str, Any]:
    """Return the account as `/auth/me` shows it."""
    return {
        "id": user.pk,
        "email": user.email,
        "nombre": user.nombre,
        "user_type": user.user_type,
        "email_verified": user.email_verified,
        "phone_verified": user.phone_verified,
        "is_active": user.is_active,
        "is_verified": user.account_verified,
    }
