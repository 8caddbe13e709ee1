"""What bodies may say. Whatever a shape does not name is ignored; what it names is checked strictly."""

from __future__ import annotations

from typing import Any

from django.core.validators import RegexValidator
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from accounts import bulk, phones
from accounts.models import VendorDocument, VendorProfile
from accounts.roles import Role
from mestore.lib.shapes import Text

PEOPLE = [str(role) for role in Role if role is not Role.SYSTEM]
STAFF = [str(Role.ADMIN), str(Role.SUPERUSER)]
CATEGORIES = (
    "ropa_femenina", "ropa_masculina", "accesorios", "calzado", "hogar", "tecnologia", "deportes", "belleza",
    "juguetes", "libros", "otros",
)  # fmt: skip
_REASON = 500
# Markup and control characters have no place in names; they are what injections are made of.
_PLAIN = RegexValidator(
    r"\A[^<>\x00-\x1f\x7f]*\Z", _("This holds characters that are not allowed."), "malicious"
)
_LINES = RegexValidator(r"\A[^<>\x00-\x09\x0b-\x1f\x7f]*\Z", _PLAIN.message, "malicious")
_HTTPS = RegexValidator(r"\A(https://[^\s<>\"'\\]+)?\Z", _("This must be an https address."), "url")
_DIGEST = RegexValidator(r"\A[0-9a-f]{64}\Z", _("This must be a SHA-256 digest in hexadecimal."), "digest")
_WORD = RegexValidator(r"\A[a-z][a-z0-9_]{0,39}\Z", _("This must be a word in lower case."), "word")


def plain(length: int, **options: Any) -> Text:
    """One line of a name."""
    return Text(max_length=length, validators=[_PLAIN], **options)


def lines(length: int, **options: Any) -> Text:
    """Some lines of text."""
    return Text(max_length=length, validators=[_LINES], **options)


def reason() -> Text:
    """Why something is done."""
    return lines(_REASON, required=False, allow_blank=True, default="")


class Telephone(Text):
    """A telephone number in any usual spelling, as +, country and number; empty for none."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=40, allow_blank=True, **options)

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if not text.strip():
            return ""
        try:
            return phones.international(text, field="telefono")
        except phones.InvalidPhone as error:
            raise serializers.ValidationError(str(error), "telephone") from error


class _Person(serializers.Serializer[Any]):
    nombre = plain(100, required=False, allow_blank=True)
    apellido = plain(100, required=False, allow_blank=True)
    telefono = Telephone(required=False)
    ciudad = plain(100, required=False, allow_blank=True)
    empresa = plain(200, required=False, allow_blank=True)
    direccion = plain(300, required=False, allow_blank=True)
    department_id = plain(64, required=False, allow_blank=True)
    employee_id = plain(64, required=False, allow_blank=True)
    is_verified = serializers.BooleanField(required=False, source="account_verified")
    email_verified = serializers.BooleanField(required=False)
    phone_verified = serializers.BooleanField(required=False)
    security_clearance_level = serializers.IntegerField(required=False, min_value=1, max_value=5)
    reason = reason()


class NewUserRequest(_Person):
    """An account to be opened. A password that comes along is ignored: the owner sets it."""

    email = Text(max_length=254)
    password = Text(required=False, allow_blank=True, allow_null=True, write_only=True)
    user_type = serializers.ChoiceField(choices=PEOPLE, default=str(Role.BUYER))


class ChangedUserRequest(_Person):
    """What is to be different about an account."""

    email = Text(max_length=254, required=False)
    password = Text(required=False, allow_blank=True, allow_null=True, write_only=True)
    user_type = serializers.ChoiceField(choices=[str(role) for role in Role], required=False)
    is_active = serializers.BooleanField(required=False)


class NewAdminRequest(NewUserRequest):
    """An administrator to be invited, with the first permissions."""

    user_type = serializers.ChoiceField(choices=STAFF, default=str(Role.ADMIN))
    initial_permissions = serializers.ListField(child=Text(max_length=64), required=False, max_length=50)


class _Ids(serializers.Serializer[Any]):
    user_ids = serializers.ListField(child=serializers.UUIDField(), min_length=1, max_length=bulk.MOST)


class UserBulkRequest(_Ids):
    """One action on up to a hundred accounts."""

    action = serializers.ChoiceField(
        choices=[
            "activate", "deactivate", "verify_email", "unverify_email", "reset_failed_attempts",
            "force_password_change", "update_clearance",
        ]
    )  # fmt: skip
    reason = reason()
    parameters = serializers.DictField(required=False, allow_null=True)

    def validate(self, attrs: Any) -> Any:
        """Take the clearance out of the parameters where the action needs one."""
        if attrs["action"] == "update_clearance":
            given = attrs.get("parameters") or {}
            value = given.get(
                "security_clearance_level", given.get("clearance_level", given.get("clearance"))
            )
            field = serializers.IntegerField(min_value=1, max_value=5)
            try:
                attrs["clearance"] = field.run_validation(value)
            except serializers.ValidationError as error:
                raise serializers.ValidationError(
                    {"parameters": {"security_clearance_level": error.detail}}
                ) from error
        return attrs


class AdminBulkRequest(_Ids):
    """One action on up to a hundred administrators; why must be said."""

    action = serializers.ChoiceField(choices=["activate", "deactivate", "lock", "unlock"])
    reason = lines(_REASON, min_length=10)


class UserActionRequest(serializers.Serializer[Any]):
    """What to do to one account."""

    action = serializers.ChoiceField(choices=["activate", "suspend", "verify", "delete"])
    reason = reason()


class ReasonRequest(serializers.Serializer[Any]):
    """Why."""

    reason = reason()


class GrantRequest(serializers.Serializer[Any]):
    """One permission for one person. `permission_id` is the number or the name."""

    user_id = serializers.UUIDField()
    permission_id = Text(max_length=64)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    reason = reason()

    def to_internal_value(self, data: Any) -> Any:
        """Take a number for the text of it."""
        if isinstance(data, dict) and isinstance(data.get("permission_id"), int):
            data = {**data, "permission_id": str(data["permission_id"])}
        return super().to_internal_value(data)


class GrantManyRequest(serializers.Serializer[Any]):
    """Permissions for one administrator."""

    permission_ids = serializers.ListField(child=Text(max_length=64), min_length=1, max_length=50)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    reason = lines(_REASON, min_length=10)

    def to_internal_value(self, data: Any) -> Any:
        """Take numbers for the text of them."""
        if isinstance(data, dict) and isinstance(data.get("permission_ids"), list):
            ids = [str(item) if type(item) is int else item for item in data["permission_ids"]]
            data = {**data, "permission_ids": ids}
        return super().to_internal_value(data)


class RejectionRequest(serializers.Serializer[Any]):
    """Why a vendor is rejected."""

    rejection_reason = lines(_REASON, min_length=5)


class NoteRequest(serializers.Serializer[Any]):
    """A remark about a vendor."""

    text = lines(2_000, required=False)
    note = lines(2_000, required=False)

    def validate(self, attrs: Any) -> Any:
        """Take either name."""
        attrs["text"] = attrs.get("text") or attrs.get("note") or ""
        if not attrs["text"].strip():
            raise serializers.ValidationError({"text": [_("This field is required.")]}, "required")
        return attrs


class DocumentRequest(serializers.Serializer[Any]):
    """A document that was handed in: its name and digest, not the file."""

    document_type = serializers.ChoiceField(choices=VendorDocument.Kind.values)
    file_name = plain(200)
    sha256 = Text(max_length=64, validators=[_DIGEST])


class ReviewRequest(serializers.Serializer[Any]):
    """Whether a document is accepted; a rejection needs its reason."""

    status = serializers.ChoiceField(choices=["verified", "rejected"], default="verified")
    reason = reason()

    def validate(self, attrs: Any) -> Any:
        """Demand the reason of a rejection."""
        if attrs["status"] == "rejected" and len(attrs["reason"].strip()) < 5:
            raise serializers.ValidationError(
                {"reason": [_("A reason of at least five characters is needed.")]}, "too_short"
            )
        return attrs


class VendorBulkRequest(serializers.Serializer[Any]):
    """One action on up to a hundred vendors."""

    vendor_ids = serializers.ListField(child=serializers.UUIDField(), min_length=1, max_length=bulk.MOST)
    reason = reason()


class VendorMailRequest(VendorBulkRequest):
    """A letter to up to a hundred vendors."""

    subject = plain(150)
    message = lines(4_000)


class AvatarRequest(serializers.Serializer[Any]):
    """Where the shop's picture is."""

    avatar_url = Text(max_length=500, validators=[_HTTPS])


class NotificationsRequest(serializers.Serializer[Any]):
    """Which messages a vendor wants, by name."""

    notification_preferences = serializers.DictField(child=serializers.BooleanField())

    def validate_notification_preferences(self, given: dict[str, bool]) -> dict[str, bool]:
        """Bound names and number."""
        return _words(given)


class ShopRequest(serializers.Serializer[Any]):
    """What a vendor may say about the own shop."""

    business_name = plain(200, required=False)
    business_description = lines(2_000, required=False, allow_blank=True)
    website_url = Text(max_length=200, required=False, allow_blank=True, validators=[_HTTPS])
    city = plain(100, required=False, allow_blank=True)
    state = plain(100, required=False, allow_blank=True)
    postal_code = plain(16, required=False, allow_blank=True)
    business_type = serializers.ChoiceField(
        choices=VendorProfile.BusinessType.values, required=False, allow_blank=True
    )
    primary_category = serializers.ChoiceField(choices=CATEGORIES, required=False, allow_blank=True)
    shipping_policy = lines(2_000, required=False, allow_blank=True)
    return_policy = lines(2_000, required=False, allow_blank=True)
    social_media_links = serializers.DictField(
        child=Text(max_length=200, validators=[_HTTPS]), required=False
    )
    business_hours = serializers.DictField(child=plain(60), required=False)

    def validate_social_media_links(self, given: dict[str, str]) -> dict[str, str]:
        """Bound names and number."""
        return _words(given)

    def validate_business_hours(self, given: dict[str, str]) -> dict[str, str]:
        """Bound names and number."""
        return _words(given)


def _words(given: dict[str, Any]) -> dict[str, Any]:
    if len(given) > 20:
        raise serializers.ValidationError(_("These are too many."), "too_many")
    for name in given:
        _WORD(name)
    return given
