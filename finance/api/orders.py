"""`/orders/…`: the buyer's own orders, those of the storefront's machine account, and all for the staff."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.lists import Reader
from accounts.permissions import HasPermission, HasRole
from accounts.roles import STAFF, Role
from finance import order_changes, order_reads, tracking, views
from finance.api import orders_shapes as shapes
from finance.api.access import RoleView, is_staff, reader_of
from finance.order_changes import Paid, Shipment
from finance.refund_approvals import REFUNDING
from finance.states import OrderStatus
from mestore.lib import actor, errors, guard
from mestore.lib.shapes import read
from sessions_security.permissions import IsMachine

MOVING: Final = "orders.update.global"
REFUND_ACTION: Final = "refund.post"
READERS: Final = frozenset({Role.BUYER, Role.SYSTEM, *STAFF})
_MOVERS: Final = frozenset({Role.SYSTEM, *STAFF})
_VIEWING: Final = "orders.read.read_only"


class Orders(views.OrdersView):
    """The orders that the caller may see, and the one way to place one."""

    def get_permissions(self) -> list[BasePermission]:
        """Machine accounts place orders; buyers, machine accounts and the staff list them."""
        return [IsMachine()] if self.request.method == "POST" else [HasRole(*READERS)]

    @extend_schema(
        operation_id="orders_list", summary="List orders", parameters=shapes.LIST_PARAMETERS,
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """List orders, newest first: an array; `Link` names the next page."""
        query = read_list(request)
        page = order_reads.page(
            query.narrowed, reader=reader_of(request), limit=query.limit, offset=query.offset,
            cursor=query.cursor, counted=False,
        )  # fmt: skip
        response = Response([shapes.summary(row) for row in page.rows])
        if page.next_cursor is not None:
            kept = {name: value for name, value in (("status", query.narrowed.status),) if value}
            following = urlencode({**kept, "limit": query.limit, "cursor": page.next_cursor})
            response["Link"] = f'<{request.path}?{following}>; rel="next"'
        return response


class Order(RoleView):
    """One order."""

    roles = {"GET": READERS}

    @extend_schema(operation_id="orders_read", summary="Read an order", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, order_id: int) -> Response:
        """Return one order with its lines; those of others are not found."""
        return Response(shapes.detail(order_reads.detail(order_id, reader=reader_of(request))))


class Tracking(RoleView):
    """Where one order is."""

    roles = {"GET": READERS}

    @extend_schema(operation_id="orders_tracking", summary="Follow an order", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, order_id: int) -> Response:
        """Return what happened to the parcel."""
        return Response(shapes.tracking(order_reads.summary(order_id, reader=reader_of(request))))


class Cancel(RoleView):
    """Stopping an order."""

    roles = {"PATCH": READERS}
    needs = {"PATCH": MOVING}

    @extend_schema(
        operation_id="orders_cancel", summary="Cancel an order", request=shapes.OrderCancelRequest,
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def patch(self, request: Request, order_id: int) -> Response:
        """Cancel an order; a paid one gives its money back unless that is not wanted."""
        given = read(shapes.OrderCancelRequest, request)
        return Response(shapes.cancelled(cancel(request, order_id, given)))


class Status(RoleView):
    """Moving an order on."""

    roles = {"PATCH": _MOVERS}
    needs = {"PATCH": MOVING}

    @extend_schema(
        operation_id="orders_move", summary="Move an order on", request=shapes.StatusRequest,
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def patch(self, request: Request, order_id: int) -> Response:
        """Move an order to another state; staying where it is changes nothing."""
        return Response(move(request, order_id, read(shapes.StatusRequest, request)))


def _token(request: Request) -> str:
    return str(request.headers.get("X-Tracking-Token") or request.query_params.get("token", ""))


class MayFollow(HasRole):
    """Whoever may read the order, and whoever has its link."""

    def __init__(self) -> None:
        super().__init__(*READERS)

    def has_permission(self, request: Request, view: Any) -> bool:
        number = str(view.kwargs.get("number", ""))
        return tracking.opens(_token(request), number) or super().has_permission(request, view)


class Follow(RoleView):
    """One order's way, by its number."""

    tell = staticmethod(shapes.public_tracking)

    def get_permissions(self) -> list[BasePermission]:
        """A link, or a session that may read the order."""
        return [MayFollow()]

    @extend_schema(
        operation_id="orders_track", summary="Follow an order by its number",
        parameters=[OpenApiParameter("token", description="of a link; also as header X-Tracking-Token")],
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request, number: str) -> Response:
        """Return where the order is: with the token of a link, or signed in as somebody who may read it."""
        row = order_reads.by_number(number)
        if not tracking.opens(_token(request), number):
            order_reads.summary(row.pk, reader=reader_of(request))
        response = Response(type(self).tell(row))
        response["Cache-Control"] = "no-store"
        response["Referrer-Policy"] = "no-referrer"
        return response


class FollowDetailed(Follow):
    """The same with what is in the parcel."""

    tell = staticmethod(shapes.detailed_tracking)

    @extend_schema(
        operation_id="orders_track_detailed", summary="Follow an order by its number, with its items",
        parameters=[OpenApiParameter("token")], responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request, number: str) -> Response:
        """Return where the order is, and what is in it."""
        return super().get(request, number)


class TrackingToken(RoleView):
    """Links to follow an order."""

    roles = {"POST": READERS}
    needs = {"POST": _VIEWING}

    @extend_schema(
        operation_id="orders_tracking_token", summary="Make a link to follow an order",
        request=shapes.TrackingTokenRequest, responses={201: OpenApiTypes.OBJECT},
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        """Make a link that works without signing in, for an order that the caller may read."""
        given = read(shapes.TrackingTokenRequest, request)
        order_id = given["order_id"]
        if order_id is None:
            if not given["order_number"]:
                detail = errors.FieldError("body -> order_id", shapes.NAME_THE_ORDER, "missing")
                raise errors.Unprocessable(details=[detail])
            order_id = order_reads.by_number(given["order_number"]).pk
        row = order_reads.summary(order_id, reader=reader_of(request))
        link = tracking.make(row, by=actor.of(request))
        address = f"/api/v1/orders/track/{row.order_number}?{urlencode({'token': link.token})}"
        told = {"token": link.token, "expires_at": link.expires_at, "order_number": row.order_number}
        return Response({**told, "tracking_url": settings.PUBLIC_URL.rstrip("/") + address}, status=201)


class TrackingConfig(RoleView):
    """How orders can be followed."""

    roles = {"GET": READERS}

    @extend_schema(
        operation_id="orders_tracking_config", summary="How orders can be followed",
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request) -> Response:  # noqa: ARG002 - the method's signature
        """Return that following without signing in needs a link, and how long one works."""
        return Response(
            {
                "public_tracking": "token", "token_days": settings.TRACKING_LINK_DAYS,
                "statuses": list(shapes.STATUSES),
            }
        )  # fmt: skip


class ListQuery:
    """Which orders, and which page of them."""

    def __init__(self, reader: Reader, *, with_search: bool) -> None:
        self.narrowed = order_reads.OrderFilter(
            status=reader.one_of("status", set(shapes.STATUSES)),
            search=reader.text("search") if with_search else "",
        )
        self.limit = reader.whole("limit", 20, 1, 100)
        self.offset = reader.whole("skip", reader.whole("offset", 0, 0, None), 0, None)
        self.cursor = reader.text("cursor") or None
        if self.cursor is not None:
            self.offset = 0
        if self.offset > order_reads.COUNTED:
            reader.wrong("skip", shapes.CURSOR_REQUIRED, "cursor_required")


def read_list(request: Request, *, with_search: bool = False) -> ListQuery:
    """Return what a list of orders was asked for. Raises accounts.api.lists.QueryInvalid."""
    reader = Reader(request.query_params)
    query = ListQuery(reader, with_search=with_search)
    reader.raise_if_wrong()
    return query


def cancel(request: Request, order_id: int, given: dict[str, Any]) -> order_changes.Cancelled:
    """Cancel in the caller's name: buyers not after it was shipped, the staff with a fresh factor."""
    order_reads.summary(order_id, reader=reader_of(request))
    if is_staff(request) and given["refund_requested"]:
        demand_refunding(request)
    narrowed = order_changes.BUYER_CANCELS if reader_of(request).user_type == Role.BUYER else None
    return order_changes.cancel(
        order_id, reason=given["reason"], refund_requested=given["refund_requested"], allowed_from=narrowed,
        by=actor.of(request),
    )  # fmt: skip


def demand_refunding(request: Request) -> None:
    """Demand what refunding asks of the staff: the grant, and a fresh factor. Raises errors.Forbidden."""
    if not HasPermission(REFUNDING).has_permission(request, None):
        raise errors.Forbidden
    guard.require(REFUND_ACTION, request)


def move(request: Request, order_id: int, given: dict[str, Any]) -> dict[str, Any]:
    """Move an order in the caller's name, and return it as it is then."""
    order_reads.summary(order_id, reader=reader_of(request))
    if given["status"] not in shapes.STATUSES:
        raise shapes.StatusUnknown
    status = OrderStatus(given["status"])
    if status == OrderStatus.CANCELLED:
        reason = given["notes"] or shapes.NO_REASON
        done = cancel(request, order_id, {"reason": reason, "refund_requested": given["refund_requested"]})
        return {**shapes.moved(done.order), **shapes.cancelled(done)}
    paid = Paid(**given["payment"]) if given["payment"] else None
    shipment = Shipment(given["tracking_number"], given["courier"], given["estimated_delivery"])
    order = order_changes.change(
        order_id, status, note=given["notes"], shipment=shipment, paid=paid, by=actor.of(request)
    )
    return shapes.moved(order)
