"""Three addresses: a vendor's own commission, the exchange of a refresh token, and a sale."""

from __future__ import annotations

from typing import Any

from django.urls import path
from rest_framework import generics, serializers
from rest_framework_simplejwt.views import TokenRefreshView

from .models import Commission
from .sales import SaleView


class CommissionSerializer(serializers.ModelSerializer):
    """The same fields as MeStore's answer."""

    platform_amount = serializers.DecimalField(
        source="commission_amount", max_digits=18, decimal_places=2, read_only=True
    )

    class Meta:
        model = Commission
        fields = (
            "id", "commission_number", "order_id", "vendor", "order_amount", "commission_rate",
            "commission_amount", "vendor_amount", "platform_amount", "commission_type", "status", "currency",
            "calculated_at", "approved_at", "paid_at", "notes", "created_at", "updated_at",
        )  # fmt: skip


class CommissionView(generics.RetrieveAPIView):
    """One commission of the vendor who asks."""

    serializer_class = CommissionSerializer

    def get_queryset(self) -> Any:
        return Commission.objects.filter(vendor_id=self.request.user.pk)


urlpatterns = [
    path("commissions/<uuid:pk>", CommissionView.as_view()),
    path("token/refresh", TokenRefreshView.as_view()),
    path("orders/", SaleView.as_view()),
]
