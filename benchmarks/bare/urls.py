"""One address: a row by its primary key."""

from __future__ import annotations

from django.urls import path
from rest_framework import generics, serializers

from .models import Commission


class CommissionSerializer(serializers.ModelSerializer[Commission]):
    """All columns."""

    class Meta:
        model = Commission
        fields = "__all__"


class CommissionView(generics.RetrieveAPIView[Commission]):
    """What the framework's tutorial would write."""

    queryset = Commission.objects.all()
    serializer_class = CommissionSerializer


urlpatterns = [path("commissions/<uuid:pk>", CommissionView.as_view())]
