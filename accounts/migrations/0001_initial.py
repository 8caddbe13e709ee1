"""The tables of people, the trigger that ends sessions, and the first permissions."""

import django.db.models.deletion
import django.db.models.functions.text
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import accounts.models.factor
import mestore.lib.fields
import mestore.lib.ids
from accounts.migrations import _auth_epoch, _permissions


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="User",
            fields=[
                ("last_login", models.DateTimeField(blank=True, null=True, verbose_name="last login")),
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("email", models.CharField(blank=True, max_length=254, verbose_name="e-mail")),
                ("email_key", models.CharField(editable=False, max_length=254, null=True, unique=True)),
                ("password", models.CharField(max_length=255, verbose_name="password")),
                ("password_changed_at", models.DateTimeField(editable=False, null=True)),
                ("password_rehashed_at", models.DateTimeField(editable=False, null=True)),
                (
                    "force_password_change",
                    models.BooleanField(default=False, verbose_name="must change the password"),
                ),
                (
                    "user_type",
                    models.CharField(
                        choices=[
                            ("BUYER", "BUYER"),
                            ("VENDOR", "VENDOR"),
                            ("ADMIN", "ADMIN"),
                            ("SUPERUSER", "SUPERUSER"),
                            ("SYSTEM", "SYSTEM"),
                        ],
                        max_length=10,
                        verbose_name="role",
                    ),
                ),
                ("nombre", models.CharField(blank=True, max_length=100, verbose_name="first name")),
                ("apellido", models.CharField(blank=True, max_length=100, verbose_name="last name")),
                ("telefono", models.CharField(blank=True, max_length=16, verbose_name="telephone")),
                ("ciudad", models.CharField(blank=True, max_length=100, verbose_name="city")),
                ("empresa", models.CharField(blank=True, max_length=200, verbose_name="company")),
                ("direccion", models.CharField(blank=True, max_length=300, verbose_name="address")),
                ("is_active", models.BooleanField(default=True, verbose_name="active")),
                ("account_verified", models.BooleanField(default=False, verbose_name="verified")),
                ("email_verified", models.BooleanField(default=False, verbose_name="e-mail verified")),
                ("phone_verified", models.BooleanField(default=False, verbose_name="telephone verified")),
                (
                    "security_clearance_level",
                    models.PositiveSmallIntegerField(default=3, verbose_name="clearance"),
                ),
                ("department_id", models.CharField(blank=True, max_length=64, verbose_name="department")),
                ("employee_id", models.CharField(blank=True, max_length=64, verbose_name="employee number")),
                ("auth_epoch", models.PositiveIntegerField(default=1, editable=False)),
                ("source", models.CharField(editable=False, max_length=64, null=True, verbose_name="source")),
                ("external_reference", models.CharField(editable=False, max_length=128, null=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="created"
                    ),
                ),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="updated")),
                (
                    "deleted_at",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="deleted"),
                ),
            ],
            options={
                "verbose_name": "user",
                "verbose_name_plural": "users",
            },
        ),
        migrations.CreateModel(
            name="Grant",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("granted_by_label", models.CharField(max_length=254, verbose_name="granted by")),
                (
                    "granted_at",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="granted"),
                ),
                ("expires_at", models.DateTimeField(blank=True, null=True, verbose_name="expires")),
                ("reason", models.CharField(max_length=500, verbose_name="reason")),
                ("revoked_at", models.DateTimeField(blank=True, null=True, verbose_name="revoked")),
                ("revoked_by_label", models.CharField(blank=True, max_length=254, verbose_name="revoked by")),
                ("revoked_why", models.CharField(blank=True, max_length=500, verbose_name="why revoked")),
            ],
            options={
                "verbose_name": "grant",
                "verbose_name_plural": "grants",
            },
        ),
        migrations.CreateModel(
            name="LockoutCounter",
            fields=[
                ("key", models.BinaryField(max_length=32, primary_key=True, serialize=False)),
                ("kind", models.CharField(max_length=32, verbose_name="budget")),
                ("failures", models.PositiveIntegerField(verbose_name="failures")),
                ("budget", models.PositiveIntegerField(verbose_name="allowed")),
                ("window_ends_at", models.DateTimeField(verbose_name="window ends")),
                ("locked_until", models.DateTimeField(null=True, verbose_name="locked until")),
                ("failed_at", models.DateTimeField(verbose_name="last failure")),
            ],
            options={
                "verbose_name": "lockout",
                "verbose_name_plural": "lockouts",
            },
        ),
        migrations.CreateModel(
            name="Permission",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=64, unique=True, verbose_name="name")),
                (
                    "resource",
                    models.CharField(
                        choices=[
                            ("USERS", "USERS"),
                            ("VENDORS", "VENDORS"),
                            ("ORDERS", "ORDERS"),
                            ("PRODUCTS", "PRODUCTS"),
                            ("INVENTORY", "INVENTORY"),
                            ("TRANSACTIONS", "TRANSACTIONS"),
                            ("COMMISSIONS", "COMMISSIONS"),
                            ("REPORTS", "REPORTS"),
                            ("SETTINGS", "SETTINGS"),
                            ("AUDIT_LOGS", "AUDIT_LOGS"),
                            ("NOTIFICATIONS", "NOTIFICATIONS"),
                            ("PAYMENTS", "PAYMENTS"),
                            ("STORAGE", "STORAGE"),
                            ("ANALYTICS", "ANALYTICS"),
                            ("PERMISSIONS", "PERMISSIONS"),
                        ],
                        max_length=16,
                        verbose_name="resource",
                    ),
                ),
                (
                    "action",
                    models.CharField(
                        choices=[
                            ("CREATE", "CREATE"),
                            ("READ", "READ"),
                            ("UPDATE", "UPDATE"),
                            ("DELETE", "DELETE"),
                            ("APPROVE", "APPROVE"),
                            ("REJECT", "REJECT"),
                            ("MANAGE", "MANAGE"),
                            ("AUDIT", "AUDIT"),
                            ("EXPORT", "EXPORT"),
                            ("IMPORT", "IMPORT"),
                            ("CONFIGURE", "CONFIGURE"),
                            ("MONITOR", "MONITOR"),
                            ("GRANT", "GRANT"),
                            ("REVOKE", "REVOKE"),
                        ],
                        max_length=16,
                        verbose_name="action",
                    ),
                ),
                (
                    "scope",
                    models.CharField(
                        choices=[
                            ("SYSTEM", "SYSTEM"),
                            ("GLOBAL", "GLOBAL"),
                            ("DEPARTMENT", "DEPARTMENT"),
                            ("TEAM", "TEAM"),
                            ("USER", "USER"),
                            ("READ_ONLY", "READ_ONLY"),
                        ],
                        max_length=16,
                        verbose_name="scope",
                    ),
                ),
                ("required_clearance", models.PositiveSmallIntegerField(verbose_name="clearance")),
                (
                    "risk",
                    models.CharField(
                        choices=[
                            ("LOW", "LOW"),
                            ("MEDIUM", "MEDIUM"),
                            ("HIGH", "HIGH"),
                            ("CRITICAL", "CRITICAL"),
                        ],
                        max_length=8,
                        verbose_name="risk",
                    ),
                ),
                ("requires_mfa", models.BooleanField(default=False, verbose_name="needs a second factor")),
                (
                    "requires_approval",
                    models.BooleanField(default=False, verbose_name="needs a second person"),
                ),
                ("is_system", models.BooleanField(default=False, verbose_name="system permission")),
            ],
            options={
                "verbose_name": "permission",
                "verbose_name_plural": "permissions",
            },
        ),
        migrations.CreateModel(
            name="TotpDevice",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        default=accounts.models.factor.new_device_id,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("name", models.CharField(max_length=64, verbose_name="name")),
                ("confirmed", models.BooleanField(default=False, verbose_name="confirmed")),
                ("secret", mestore.lib.fields.EncryptedField(editable=False)),
                ("last_step", models.BigIntegerField(default=0, editable=False)),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="created"
                    ),
                ),
                ("confirmed_at", models.DateTimeField(editable=False, null=True, verbose_name="confirmed")),
                ("last_used_at", models.DateTimeField(editable=False, null=True, verbose_name="last used")),
            ],
            options={
                "verbose_name": "authenticator application",
                "verbose_name_plural": "authenticator applications",
            },
        ),
        migrations.CreateModel(
            name="VendorProfile",
            fields=[
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="vendor_profile",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "vendor_status",
                    models.CharField(
                        choices=[
                            ("draft", "draft"),
                            ("pending_documents", "pending documents"),
                            ("pending_approval", "pending approval"),
                            ("approved", "approved"),
                            ("rejected", "rejected"),
                        ],
                        default="draft",
                        max_length=20,
                        verbose_name="status",
                    ),
                ),
                ("business_name", models.CharField(blank=True, max_length=200, verbose_name="business name")),
                (
                    "business_description",
                    models.TextField(blank=True, max_length=2000, verbose_name="description"),
                ),
                ("website_url", models.URLField(blank=True, verbose_name="website")),
                ("city", models.CharField(blank=True, max_length=100, verbose_name="city")),
                ("state", models.CharField(blank=True, max_length=100, verbose_name="state")),
                ("postal_code", models.CharField(blank=True, max_length=16, verbose_name="postal code")),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="created"
                    ),
                ),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="updated")),
            ],
            options={
                "verbose_name": "vendor",
                "verbose_name_plural": "vendors",
            },
        ),
        migrations.AddIndex(
            model_name="user",
            index=models.Index(fields=["user_type", "id"], name="user_by_role"),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(("user_type__in", ["BUYER", "VENDOR", "ADMIN", "SUPERUSER", "SYSTEM"])),
                name="user_role_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(("security_clearance_level__range", (1, 5))), name="user_clearance_1_to_5"
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("telefono", ""), ("telefono__regex", "^\\+[1-9][0-9]{6,14}$"), _connector="OR"
                ),
                name="user_telephone_international",
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("email_key__isnull", False), models.Q(("email", ""), _negated=True)),
                    models.Q(("email", ""), ("email_key__isnull", True), ("source__isnull", False)),
                    _connector="OR",
                ),
                name="user_has_address_or_source",
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("external_reference__isnull", True), ("source__isnull", True)),
                    models.Q(("external_reference__isnull", False), ("source__isnull", False)),
                    _connector="OR",
                ),
                name="user_source_with_reference",
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(("deleted_at__isnull", True), ("is_active", False), _connector="OR"),
                name="user_deleted_is_inactive",
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.UniqueConstraint(
                fields=("source", "external_reference"), name="user_one_per_reference"
            ),
        ),
        migrations.AddField(
            model_name="grant",
            name="granted_by",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="grant",
            name="user",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="grants",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddIndex(
            model_name="lockoutcounter",
            index=models.Index(fields=["window_ends_at"], name="lockout_by_end"),
        ),
        migrations.AddConstraint(
            model_name="permission",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "name",
                        django.db.models.functions.text.Lower(
                            django.db.models.functions.text.Concat(
                                models.F("resource"),
                                models.Value("."),
                                models.F("action"),
                                models.Value("."),
                                models.F("scope"),
                            )
                        ),
                    )
                ),
                name="permission_name_is_its_parts",
            ),
        ),
        migrations.AddConstraint(
            model_name="permission",
            constraint=models.CheckConstraint(
                condition=models.Q(("required_clearance__range", (1, 5))), name="permission_clearance_1_to_5"
            ),
        ),
        migrations.AddField(
            model_name="grant",
            name="permission",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="grants", to="accounts.permission"
            ),
        ),
        migrations.AddField(
            model_name="totpdevice",
            name="user",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddConstraint(
            model_name="vendorprofile",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "vendor_status__in",
                        ["draft", "pending_documents", "pending_approval", "approved", "rejected"],
                    )
                ),
                name="vendor_status_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="grant",
            constraint=models.UniqueConstraint(
                condition=models.Q(("revoked_at__isnull", True)),
                fields=("user", "permission"),
                name="grant_one_open",
            ),
        ),
        migrations.AddConstraint(
            model_name="grant",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("expires_at__isnull", True), ("expires_at__gt", models.F("granted_at")), _connector="OR"
                ),
                name="grant_ends_after_start",
            ),
        ),
        migrations.AddConstraint(
            model_name="totpdevice",
            constraint=models.CheckConstraint(
                condition=models.Q(("confirmed", False), ("confirmed_at__isnull", False), _connector="OR"),
                name="totp_confirmed_has_moment",
            ),
        ),
        migrations.RunSQL(_auth_epoch.CREATE, _auth_epoch.DROP),
        migrations.RunPython(_permissions.insert, migrations.RunPython.noop),
    ]
