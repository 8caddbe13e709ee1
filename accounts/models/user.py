"""The account of a person or a machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import grants, passwords, roles
from accounts.roles import Role
from accounts.users import EMAIL_LENGTH, UserManager
from mestore.lib.ids import uuid7


class User(AbstractBaseUser):
    """One account. What it may do is in its role and its grants, never in a column of its own.

    `auth_epoch` is what ends everything at once: a session remembers the epoch it was born in and is dead
    when the account's has moved on. A trigger moves it whenever password, role, activity, deletion or
    clearance change, however the row was written; a new hash of the same password (`password_rehashed_at`
    written in the same UPDATE) does not.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.CharField(_("e-mail"), max_length=EMAIL_LENGTH, blank=True)
    email_key = models.CharField(max_length=EMAIL_LENGTH, unique=True, null=True, editable=False)  # noqa: DJ001 - unique
    password = models.CharField(_("password"), max_length=255)
    password_changed_at = models.DateTimeField(null=True, editable=False)
    password_rehashed_at = models.DateTimeField(null=True, editable=False)
    force_password_change = models.BooleanField(_("must change the password"), default=False)
    # Why it must be changed ("known", "short", "asked"), since when, and when its owner was last reminded.
    password_flag = models.CharField(
        _("why the password must change"),
        max_length=8,
        blank=True,
        default="",
        db_default="",
        editable=False,
    )
    password_flagged_at = models.DateTimeField(null=True, editable=False)
    password_reminded_at = models.DateTimeField(null=True, editable=False)
    # Where messages about the account's security go besides; proved before it stands here.
    recovery_email = models.CharField(
        _("second address"), max_length=EMAIL_LENGTH, blank=True, default="", db_default=""
    )
    user_type = models.CharField(_("role"), max_length=10, choices=[(str(role), str(role)) for role in Role])

    nombre = models.CharField(_("first name"), max_length=100, blank=True)
    apellido = models.CharField(_("last name"), max_length=100, blank=True)
    telefono = models.CharField(_("telephone"), max_length=16, blank=True)
    # In which language messages are written; empty: the default one.
    language = models.CharField(_("language"), max_length=8, blank=True, default="", db_default="")
    ciudad = models.CharField(_("city"), max_length=100, blank=True)
    empresa = models.CharField(_("company"), max_length=200, blank=True)
    direccion = models.CharField(_("address"), max_length=300, blank=True)

    is_active = models.BooleanField(_("active"), default=True)
    # `is_verified` on the wire; that name on the object belongs to the second-factor middleware.
    account_verified = models.BooleanField(_("verified"), default=False)
    email_verified = models.BooleanField(_("e-mail verified"), default=False)
    phone_verified = models.BooleanField(_("telephone verified"), default=False)

    # When more than a password was proved; impersonated sessions and emergency codes do not count.
    last_strong_login = models.DateTimeField(
        _("last sign-in with a second factor"), null=True, editable=False
    )
    # Set by an administrator: nobody signs in before. Locks after failures are counters, not here.
    locked_until = models.DateTimeField(_("locked until"), null=True, blank=True, editable=False)
    security_clearance_level = models.PositiveSmallIntegerField(_("clearance"), default=3)
    department_id = models.CharField(_("department"), max_length=64, blank=True)
    employee_id = models.CharField(_("employee number"), max_length=64, blank=True)

    auth_epoch = models.PositiveIntegerField(default=1, editable=False)
    # NULL for people who came by themselves: the pair is unique, and only NULLs may repeat.
    source = models.CharField(_("source"), max_length=64, null=True, editable=False)  # noqa: DJ001
    external_reference = models.CharField(max_length=128, null=True, editable=False)  # noqa: DJ001
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)
    deleted_at = models.DateTimeField(_("deleted"), null=True, blank=True, editable=False)

    USERNAME_FIELD = "email_key"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["email"]

    objects = UserManager()

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")
        constraints = [
            models.CheckConstraint(
                condition=Q(user_type__in=[str(role) for role in Role]), name="user_role_known"
            ),
            models.CheckConstraint(
                condition=Q(security_clearance_level__range=(1, 5)), name="user_clearance_1_to_5"
            ),
            models.CheckConstraint(
                condition=Q(telefono="") | Q(telefono__regex=r"^\+[1-9][0-9]{6,14}$"),
                name="user_telephone_international",
            ),
            models.CheckConstraint(
                condition=(Q(email_key__isnull=False) & ~Q(email=""))
                | Q(email_key__isnull=True, email="", source__isnull=False),
                name="user_has_address_or_source",
            ),
            models.CheckConstraint(
                condition=Q(source__isnull=True, external_reference__isnull=True)
                | Q(source__isnull=False, external_reference__isnull=False),
                name="user_source_with_reference",
            ),
            models.CheckConstraint(
                condition=Q(deleted_at__isnull=True) | Q(is_active=False), name="user_deleted_is_inactive"
            ),
            models.UniqueConstraint(fields=["source", "external_reference"], name="user_one_per_reference"),
        ]
        indexes = [models.Index(fields=["user_type", "id"], name="user_by_role")]

    def __str__(self) -> str:
        return self.email or f"{self.source}:{self.external_reference}"

    def get_username(self) -> str:
        return str(self)

    def get_full_name(self) -> str:
        return f"{self.nombre} {self.apellido}".strip()

    def get_short_name(self) -> str:
        return self.nombre

    @property
    def role(self) -> Role:
        return Role(self.user_type)

    @property
    def is_staff(self) -> bool:
        """Whether the console may open for this account (a second factor is asked for besides)."""
        return self.user_type in roles.STAFF

    @property
    def is_superuser(self) -> bool:
        """Never: there is no account that skips the permission table."""
        return False

    @property
    def is_imported(self) -> bool:
        return self.source is not None

    @property
    def is_locked(self) -> bool:
        """Whether an administrator locked this account and the end of that is not reached."""
        return self.locked_until is not None and self.locked_until > timezone.now()

    @property
    def may_sign_in(self) -> bool:
        """Whether a right password opens this account: a live person, not a machine, with a password."""
        return (
            self.is_active
            and self.deleted_at is None
            and not self.is_locked
            and self.user_type != Role.SYSTEM
            and self.has_usable_password()
        )

    def set_password(self, raw_password: str | None) -> None:
        super().set_password(raw_password)
        self.password_changed_at = timezone.now()

    def set_unusable_password(self) -> None:
        super().set_unusable_password()
        self.password_changed_at = timezone.now()

    def check_password(self, raw_password: str | None) -> bool:
        """Compare only. The hash is renewed in `accounts.login`, where it signs nobody out."""
        return raw_password is not None and passwords.matches(raw_password, self.password)

    def has_perm(self, perm: str, obj: object | None = None) -> bool:
        return grants.has_perm(self, perm, obj)

    def has_perms(self, perm_list: Iterable[str], obj: object | None = None) -> bool:
        return all(self.has_perm(perm, obj) for perm in perm_list)

    def has_module_perms(self, app_label: str) -> bool:
        return grants.has_module_perms(self, app_label)

    def get_all_permissions(self, obj: object | None = None) -> set[str]:
        return set() if obj is not None else set(grants.effective(self))

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        grants.forget(self)
        super().refresh_from_db(*args, **kwargs)
