"""Indexes of the lists of accounts and vendors, built while the service runs."""

from __future__ import annotations

from django.db import migrations

from accounts.migrations import _administration


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY works outside of transactions only

    dependencies = [("accounts", "0008_administration")]

    operations = [migrations.RunSQL([*_administration.CREATE_INDEXES], [*_administration.DROP_INDEXES])]
