"""What takes a backup code's place, hashed in advance. New columns with defaults: older processes go on writing."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0010_factor_freeze"),
    ]

    operations = [
        migrations.AddField(
            model_name="backupcode",
            name="next_selector",
            field=models.CharField(db_default="", default="", editable=False, max_length=4),
        ),
        migrations.AddField(
            model_name="backupcode",
            name="next_verifier",
            field=models.CharField(db_default="", default="", editable=False, max_length=255),
        ),
    ]
