"""When an account last proved more than a password. A column that may be empty: nothing is rewritten."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0012_lockouts_by_end")]

    operations = [
        migrations.AddField(
            model_name="user",
            name="last_strong_login",
            field=models.DateTimeField(
                editable=False, null=True, verbose_name="last sign-in with a second factor"
            ),
        ),
    ]
