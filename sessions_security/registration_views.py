"""Opening an account over the API: read the input, make one call, answer.

The paths and shapes are those of the first MeStore; the Spanish names belong to its older clients.
"""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import consent_texts, phones, registration
from accounts.models import User, VendorProfile
from accounts.registration import Registration, Shop
from accounts.roles import Role
from mestore.lib import actor
from mestore.lib.shapes import Text, read
from sessions_security import device_cookie, dpop, limits, signin
from sessions_security.serializers import SignInRequest, TokenResponse, token_response
from sessions_security.views import Entrance

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CATEGORIES = (
    "ropa_femenina", "ropa_masculina", "accesorios", "calzado", "hogar", "tecnologia", "deportes", "belleza",
    "juguetes", "libros", "otros",
)  # fmt: skip


class Name(Text):
    """A name as people write it, on one line and trimmed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"trim_whitespace": True, "max_length": 100, **options})

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if _CONTROL.search(text):
            self.fail("invalid")
        return text


class Accepted(serializers.BooleanField):
    """A box that must be ticked: true, and nothing that only looks like it."""

    def to_internal_value(self, data: Any) -> bool:
        if data is not True:
            raise serializers.ValidationError(_("The terms must be accepted."), code="not_accepted")
        return True


class Authorised(Accepted):
    """The authorisation to process personal data: true, or left out by clients that do not ask yet."""

    def to_internal_value(self, data: Any) -> bool:
        if data is not True:
            message = _("Without this authorisation no account can be opened.")
            raise serializers.ValidationError(message, code="not_accepted")
        return True


class Choice(serializers.BooleanField):
    """True or false, and nothing that only looks like it."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class WithConsents(serializers.Serializer[Any]):
    """What may be said about the texts while opening an account; `GET /consent-texts` shows them."""

    habeas_data_accepted = Authorised(required=False)
    data_processing_consent = Choice(required=False)


class Cedula(Text):
    """The number of an identity card: six to ten digits."""

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if not re.fullmatch(r"[0-9]{6,10}", text, re.ASCII):
            raise serializers.ValidationError(_("Six to ten digits are needed."), code="cedula")
        return text


class RegistrationRequest(WithConsents):
    """What opens the account of a buyer or vendor."""

    email = serializers.EmailField(max_length=254)
    password = Text()
    nombre = Name(required=False, allow_blank=True, default="")
    telefono = Name(required=False, allow_blank=True, default="", max_length=32)
    user_type = serializers.ChoiceField(choices=[str(role) for role in registration.ROLES], default="BUYER")


class VendorRegisterRequest(WithConsents):
    """What opens the account of a vendor, with its shop."""

    email = serializers.EmailField(max_length=254)
    password = Text()
    full_name = Name(min_length=2, max_length=200)
    phone = Name(max_length=32)
    business_name = Name(min_length=2, max_length=200)
    city = Name()
    business_type = serializers.ChoiceField(choices=VendorProfile.BusinessType.values)
    primary_category = serializers.ChoiceField(choices=_CATEGORIES)
    terms_accepted = Accepted()

    def validate_full_name(self, text: str) -> str:
        if any(len(part) > 100 for part in _first_and_rest(text)):
            raise serializers.ValidationError(_("The name is too long."), code="max_length")
        return text


class VendedorRegisterRequest(WithConsents):
    """What opens the account of a vendor, in the older form."""

    email = serializers.EmailField(max_length=254)
    password = Text()
    nombre = Name()
    apellido = Name(required=False, allow_blank=True, default="")
    cedula = Cedula()
    telefono = Name(max_length=32)
    ciudad = Name(required=False, allow_blank=True, default="")
    empresa = Name(required=False, allow_blank=True, default="", max_length=200)
    direccion = Name(required=False, allow_blank=True, default="", max_length=300)


class NextSteps(serializers.Serializer[Any]):
    """Where a new vendor goes on."""

    add_products = serializers.CharField()
    view_dashboard = serializers.CharField()


class VendorRegisterResponse(serializers.Serializer[Any]):
    """The new vendor."""

    vendor_id = serializers.UUIDField()
    email = serializers.CharField()
    full_name = serializers.CharField()
    business_name = serializers.CharField()
    status = serializers.CharField()
    message = serializers.CharField()
    next_steps = NextSteps()
    created_at = serializers.DateTimeField()


class VendedorResponse(serializers.Serializer[Any]):
    """The new vendor, in the older form."""

    success = serializers.BooleanField()
    message = serializers.CharField()
    vendedor = serializers.DictField()


class Register(Entrance):
    """Open an account as a buyer or vendor, and be signed in."""

    @extend_schema(request=RegistrationRequest, responses={201: TokenResponse})
    def post(self, request: Request) -> Response:
        given = read(RegistrationRequest, request)
        limits.limit_sign_in(request, given["email"])
        person = {"nombre": given["nombre"]}
        if given["telefono"]:
            person["telefono"] = phones.international(given["telefono"], field="telefono")
        by = actor.of(request)
        role = Role(given["user_type"])
        bound_key = dpop.offered(request)
        user = registration.register(
            Registration(
                email=given["email"], password=given["password"], role=role, person=person,
                consents=_said(given),
            ), by=by,
        )  # fmt: skip
        if user is None:
            return _nobody_is_to_know()
        done = signin.newcomer(user, by=by, bound_key=bound_key)
        return Response(token_response(done.tokens, None), status=201)


class RegisterVendor(Entrance):
    """Open the account of a vendor, with its shop."""

    @extend_schema(request=VendorRegisterRequest, responses={201: VendorRegisterResponse})
    def post(self, request: Request) -> Response:
        given = read(VendorRegisterRequest, request)
        limits.limit_sign_in(request, given["email"])
        nombre, apellido = _first_and_rest(given["full_name"])
        telefono = phones.colombian_mobile(given["phone"], field="phone")
        shop = Shop(**{name: given[name] for name in Shop.__dataclass_fields__})
        user = registration.register(
            Registration(
                email=given["email"],
                password=given["password"],
                role=Role.VENDOR,
                person={"nombre": nombre, "apellido": apellido, "telefono": telefono, "ciudad": shop.city},
                shop=shop,
                consents=_said(given),
            ),
            by=actor.of(request),
        )
        if user is None:
            return _nobody_is_to_know()
        return Response(_vendor_answer(user, shop), status=201)


class RegisterVendedor(Entrance):
    """Open the account of a vendor, in the older form."""

    @extend_schema(request=VendedorRegisterRequest, responses={201: VendedorResponse})
    def post(self, request: Request) -> Response:
        given = read(VendedorRegisterRequest, request)
        limits.limit_sign_in(request, given["email"])
        names = ("nombre", "apellido", "ciudad", "empresa", "direccion")
        person = {name: given[name] for name in names}
        person["telefono"] = phones.colombian_mobile(given["telefono"], field="telefono")
        shop = Shop(business_name=given["empresa"], city=given["ciudad"])
        user = registration.register(
            Registration(
                email=given["email"],
                password=given["password"],
                role=Role.VENDOR,
                person=person,
                cedula=given["cedula"],
                shop=shop,
                consents=_said(given),
            ),
            by=actor.of(request),
        )
        if user is None:
            return _nobody_is_to_know()
        vendedor = {
            "id": user.pk, "email": user.email, **person, "cedula": given["cedula"],
            "user_type": user.user_type, "is_active": user.is_active, "is_verified": user.account_verified,
            "vendor_status": _vendor_status(), "created_at": user.created_at,
        }  # fmt: skip
        message = _("Vendor registered")
        return Response({"success": True, "message": message, "vendedor": vendedor}, status=201)


class ConsentTextAnswer(serializers.Serializer[Any]):
    """One text as it is agreed to now."""

    document = serializers.CharField(source="document.name")
    version = serializers.CharField(source="document.version")
    purposes = serializers.ListField(source="document.purposes", child=serializers.CharField())
    # A member of the answer, not the option of its name.
    required = serializers.BooleanField(source="document.is_required")  # type: ignore[assignment]
    roles = serializers.SerializerMethodField()
    title = serializers.CharField(source="text.title")
    text = serializers.CharField(source="text.body")
    language = serializers.CharField(source="text.language")
    sha256 = serializers.CharField(source="text.sha256")

    def get_roles(self, row: Any) -> list[str]:
        return sorted(str(role) for role in row["document"].roles)


class ConsentTextsAnswer(serializers.Serializer[Any]):
    """Every text that people are asked to agree to."""

    results = ConsentTextAnswer(many=True)


class ConsentTexts(Entrance):
    """The texts that people agree to, as they are now."""

    @extend_schema(operation_id="consent_texts", responses=ConsentTextsAnswer)
    def get(self, request: Request) -> Response:
        limits.limit_anonymous(request)
        language = translation.get_language()
        rows = [
            {"document": document, "text": consent_texts.text_of(document, language)}
            for document in consent_texts.CURRENT
        ]
        return Response(ConsentTextsAnswer({"results": rows}).data)


class SignInVendor(Entrance):
    """Sign in as a vendor; other accounts get the answer of a wrong password."""

    @extend_schema(request=SignInRequest, responses=TokenResponse)
    def post(self, request: Request) -> Response:
        given = read(SignInRequest, request)
        limits.limit_sign_in(request, given["email"])
        by = actor.of(request)
        done = signin.with_password(
            given["email"],
            given["password"],
            purpose="api",
            by=by,
            only=Role.VENDOR,
            bound_key=dpop.offered(request),
        )
        response = Response(token_response(done.tokens, done.user))
        device_cookie.leave(request, response, done.user, by=by, session=done.session)
        return response


def _said(given: dict[str, Any]) -> dict[str, bool]:
    """What the body says about the texts; what it leaves out is asked later (`GET /me/consents`)."""
    fields = {
        "habeas_data_accepted": consent_texts.HABEAS_DATA,
        "data_processing_consent": consent_texts.DATA_PROCESSING,
    }
    return {document: given[name] for name, document in fields.items() if name in given}


def _nobody_is_to_know() -> Response:
    message = _("If the address is free, the account is open. A message with the next step is on its way.")
    return Response({"success": True, "message": message}, status=202)


def _first_and_rest(full_name: str) -> tuple[str, str]:
    first, _blank, rest = full_name.partition(" ")
    return first, rest.strip()


def _vendor_status() -> str:
    approved: bool = settings.VENDOR_AUTO_APPROVE
    return str(VendorProfile.Status.APPROVED if approved else VendorProfile.Status.PENDING_APPROVAL)


def _vendor_answer(user: User, shop: Shop) -> dict[str, Any]:
    approved: bool = settings.VENDOR_AUTO_APPROVE
    return {
        "vendor_id": user.pk,
        "email": user.email,
        "full_name": user.get_full_name(),
        "business_name": shop.business_name,
        "status": "active" if approved else _vendor_status(),
        "message": (
            _("Vendor registered. You can begin to sell.")
            if approved
            else _("Vendor registered. Somebody will look at your request soon.")
        ),
        "next_steps": {
            "add_products": f"{settings.FRONTEND_URL}/vendor/products",
            "view_dashboard": f"{settings.FRONTEND_URL}/vendor/dashboard",
        },
        "created_at": user.created_at,
    }
