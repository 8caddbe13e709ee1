"""`/vendors/vendor/profile…`: a vendor and the own shop. There is no id in these addresses to exchange."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from accounts import vendors
from accounts.api import answers, shapes
from accounts.api.base import AdministrationView, describe, person
from accounts.models import VendorProfile
from accounts.permissions import IsVendor
from mestore.lib import actor
from mestore.lib.shapes import read


class Profile(AdministrationView):
    """The own shop."""

    role = IsVendor

    @describe("vendor_profile", "Read the own shop")
    def get(self, request: Request) -> Response:
        return Response(_told(vendors.own_profile(person(request))))

    @describe("vendor_profile_change", "Change the own shop", request=shapes.ShopRequest)
    def put(self, request: Request) -> Response:
        given = read(shapes.ShopRequest, request)
        return Response(_told(vendors.change_profile(person(request), given, by=actor.of(request))))


class Avatar(AdministrationView):
    """The picture of the own shop: its address, not the file."""

    role = IsVendor

    @describe("vendor_avatar", "Set the picture of the own shop", request=shapes.AvatarRequest)
    def post(self, request: Request) -> Response:
        given = read(shapes.AvatarRequest, request)
        return Response(_told(vendors.change_profile(person(request), given, by=actor.of(request))))

    @describe("vendor_avatar_remove", "Remove the picture of the own shop")
    def delete(self, request: Request) -> Response:
        return Response(
            _told(vendors.change_profile(person(request), {"avatar_url": ""}, by=actor.of(request)))
        )


class AvatarAlias(Avatar):
    """The same, by its shorter name."""

    @describe("vendor_avatar_short", "Set the picture of the own shop", request=shapes.AvatarRequest)
    def post(self, request: Request) -> Response:
        return super().post(request)

    @describe("vendor_avatar_remove_short", "Remove the picture of the own shop")
    def delete(self, request: Request) -> Response:
        return super().delete(request)


class Notifications(AdministrationView):
    """Which messages the vendor wants."""

    role = IsVendor

    @describe("vendor_notifications", "Choose messages", request=shapes.NotificationsRequest)
    def put(self, request: Request) -> Response:
        given = read(shapes.NotificationsRequest, request)
        return Response(_told(vendors.change_profile(person(request), given, by=actor.of(request))))


class NotificationsAlias(Notifications):
    """The same, by its shorter name."""

    @describe("vendor_notifications_short", "Choose messages", request=shapes.NotificationsRequest)
    def put(self, request: Request) -> Response:
        return super().put(request)


class Complete(AdministrationView):
    """What the own shop still lacks."""

    role = IsVendor

    @describe("vendor_profile_complete", "Read what the own shop lacks")
    def get(self, request: Request) -> Response:
        missing = vendors.missing(vendors.own_profile(person(request)))
        asked = len(vendors.ASKED_FOR)
        return Response(
            {
                "is_complete": not missing,
                "missing_fields": missing,
                "completion_percentage": 100 * (asked - len(missing)) // asked,
            }
        )


def _told(profile: VendorProfile) -> dict[str, object]:
    user = profile.user
    return {
        **answers.own_profile(profile),
        "email": user.email,
        "full_name": user.get_full_name(),
        "telefono": user.telefono,
    }
