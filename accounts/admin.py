"""The console's pages about people: accounts, vendors, grants and permissions. Factors are not shown here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts import (
    admin_data,
    admin_oversight,  # noqa: F401 - declares its own pages
    conditions,
    console_actions,
    console_grants,
    console_views,
    delegation,
    factors,
    grants,
    identity_panels,
)
from accounts.models import FactorFreeze, Grant, Permission, User, VendorProfile
from accounts.roles import STAFF, Resource, Risk, Role
from accounts.users import identifier
from mestore.lib import console
from mestore.lib.console import ConsoleModelAdmin, Ordering, ReasonAction, SearchField, State, Table, display

grants.register_model_permission("accounts.user", view="users.read.read_only", change="users.update.global")
grants.register_model_permission("accounts.vendorprofile", view="vendors.read.read_only")
grants.register_model_permission(
    "accounts.grant", view="permissions.read.read_only", change="permissions.revoke.global"
)
grants.register_model_permission("accounts.permission", view="permissions.read.read_only")
# The audit trail knows no app above it, so its right is registered here.
grants.register_model_permission("monitoring.auditevent", view="audit_logs.read.read_only")
# Work in the background, too: whoever deals with signals deals with what failed.
grants.register_model_permission(
    "procrastinate.procrastinatejob", view="settings.read.read_only", change="users.update.global"
)

MoreTables = Callable[[HttpRequest, User], Iterable[Table]]

ROLE_WORDS = {
    Role.BUYER: gettext_lazy("buyer"),
    Role.VENDOR: gettext_lazy("vendor"),
    Role.ADMIN: gettext_lazy("administrator"),
    Role.SUPERUSER: gettext_lazy("superuser"),
    Role.SYSTEM: gettext_lazy("machine"),
}

REVOKE = ReasonAction(
    name="revoke",
    verb=gettext_lazy("Revoke"),
    question=lambda count: ngettext("Revoke %d grant?", "Revoke %d grants?", count) % count,
    effect=gettext_lazy("The permission is gone with the holder's next request."),
    undo=gettext_lazy("It can be given again."),
    done=lambda count: ngettext("%d grant revoked.", "%d grants revoked.", count) % count,
    permission="accounts.change_grant",
    run=lambda grant, *, reason, by: delegation.revoke(
        grant.user, grant.permission.name, by=by, reason=reason
    ),
    offered=lambda grant: grant.revoked_at is None,
)


def _by_state(rows: Any, value: str) -> Any:
    if value == "deleted":
        return rows.filter(deleted_at__isnull=False)
    if value == "locked":
        return rows.filter(locked_until__gt=timezone.now())
    return rows.filter(is_active=value == "active", deleted_at=None)


_SIGNED_IN = {
    "dormant": identity_panels.dormant,
    "never": identity_panels.never,
    "weak": identity_panels.weak,
}


def _by_sign_in(rows: Any, value: str) -> Any:
    return _SIGNED_IN[value](rows)


def _by_factor(rows: Any, value: str) -> Any:
    if value == "proved":
        return rows.filter(factors.proved())
    return rows.filter(user_type__in=STAFF, is_active=True, deleted_at=None).exclude(factors.proved())


@admin.register(User)
class UserAdmin(ConsoleModelAdmin):
    """Accounts: who they are, whether they may enter, how well they prove themselves."""

    group, position = "people", 10
    personal_classes = ("contact", "identity")
    summary = gettext_lazy("Everybody who has an account, newest first.")
    empty = gettext_lazy("Accounts appear here when people register or `create_admin` is run.")
    list_display = ("who", "state", "factor", "last_login", "created_at")
    list_filter = (
        console.choice_filter(
            parameter="user_type",
            title=gettext_lazy("Role"),
            choices=[(role.value, word) for role, word in ROLE_WORDS.items()],
        ),
        console.choice_filter(
            parameter="state",
            title=gettext_lazy("State"),
            choices=[
                ("active", gettext_lazy("active")),
                ("closed", gettext_lazy("deactivated")),
                ("locked", gettext_lazy("locked by an administrator")),
                ("deleted", gettext_lazy("deleted")),
            ],
            narrow=_by_state,
        ),
        console.choice_filter(
            parameter="factor",
            title=gettext_lazy("Second factor"),
            choices=[("proved", gettext_lazy("proved")), ("missing", gettext_lazy("staff without one"))],
            narrow=_by_factor,
        ),
        console.choice_filter(
            parameter="signed_in",
            title=gettext_lazy("Sign-in"),
            choices=[
                ("dormant", gettext_lazy("not for 90 days")),
                ("never", gettext_lazy("never")),
                ("weak", gettext_lazy("not with a second factor for 90 days")),
            ],
            narrow=_by_sign_in,
        ),
    )
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-pk",)),)
    search_in = (SearchField("email_key", "prefix", identifier), SearchField("id"))
    search_help_text = gettext_lazy("Beginning of the e-mail address, or the whole id")
    sections = (
        (
            gettext_lazy("Account"),
            (
                "id", "email", "role", "is_active", "account_verified", "email_verified", "phone_verified",
                "security_clearance_level", "department_id", "employee_id",
            ),
        ),
        (
            gettext_lazy("Person"),
            ("nombre", "apellido", "ciudad", "empresa", "telephone"),
        ),
        (
            gettext_lazy("Signing in"),
            ("factor", "last_login", "last_strong_login", "password_age", "must_change", "created_at",
             "updated_at", "deleted_at", "origin"),
        ),
    )  # fmt: skip
    reason_actions = console_actions.ALL

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        rows: QuerySet[User] = super().get_queryset(request).defer("password")
        frozen = FactorFreeze.objects.filter(user=OuterRef("pk"), until__gt=timezone.now())
        return rows.annotate(has_factor=factors.proved(), is_frozen=Exists(frozen))

    @admin.display(description=gettext_lazy("account"))
    def who(self, user: User) -> SafeString:
        return display.two_lines(self.name_of(user), self.role(user))

    @admin.display(description=gettext_lazy("role"))
    def role(self, user: User) -> str:
        return str(ROLE_WORDS[Role(user.user_type)])

    @admin.display(description=gettext_lazy("state"))
    def state(self, user: User) -> SafeString:
        return account_state(user)

    def state_of(self, row: User) -> SafeString:
        return account_state(row)

    @admin.display(description=gettext_lazy("second factor"))
    def factor(self, user: User) -> SafeString | str:
        if getattr(user, "has_factor", False):
            return display.state(State.GOOD, _("proved"))
        if user.user_type in STAFF:
            return display.state(State.WARNING, _("missing"))
        return _("none")

    @admin.display(description=gettext_lazy("telephone"))
    def telephone(self, user: User) -> str:
        return f"••• {user.telefono[-3:]}" if user.telefono else display.EMPTY

    @admin.display(description=gettext_lazy("password changed"))
    def password_age(self, user: User) -> SafeString:
        return display.moment(user.password_changed_at)

    @admin.display(description=gettext_lazy("must change the password"))
    def must_change(self, user: User) -> str:
        return display.yes_no(user.force_password_change)

    @admin.display(description=gettext_lazy("imported from"))
    def origin(self, user: User) -> str:
        return f"{user.source}: {user.external_reference}" if user.source else display.EMPTY

    def tables(self, request: HttpRequest, row: User) -> Iterable[Table]:
        if request.user.has_perm("accounts.view_grant"):
            yield _grants_of(row)
        yield console_views.counters_table(row)
        for build in self.more_tables:
            yield from build(request, row)

    more_tables: tuple[MoreTables, ...] = (admin_data.consents_of,)

    @classmethod
    def also_show(cls, build: MoreTables) -> None:
        """Let an app above show what it knows under an account; the same twice is one."""
        if build not in cls.more_tables:
            cls.more_tables = (*cls.more_tables, build)

    def links(self, request: HttpRequest, row: User) -> Iterable[tuple[str, str]]:
        if row.deleted_at is not None or row.pk == request.user.pk:
            return
        if request.user.has_perm("permissions.grant.global"):
            yield _("Give a permission"), reverse("console-grant-give", args=[row.pk])
        if request.user.has_perm("users.manage.global"):
            yield _("Act as this account"), reverse("console-impersonate", args=[row.pk])


def account_state(user: User) -> SafeString:
    """Whether an account is open, in a word with its mark."""
    if user.deleted_at is not None:
        return display.state(State.UNKNOWN, _("deleted"))
    if not user.is_active:
        return display.state(State.CRITICAL, _("deactivated"))
    if user.locked_until is not None and user.locked_until > timezone.now():
        return display.state(State.WARNING, _("locked"))
    if user.source is not None and not user.email_key and user.user_type != Role.SYSTEM:
        return display.state(State.UNKNOWN, _("imported, cannot sign in"))
    return display.state(State.GOOD, _("active"))


def grant_state(grant: Grant) -> SafeString:
    """Whether a grant counts now, in a word with its mark."""
    if grant.revoked_at is not None:
        return display.state(State.UNKNOWN, _("revoked"))
    if grant.expires_at is not None and grant.expires_at <= timezone.now():
        return display.state(State.UNKNOWN, _("expired"))
    return display.state(State.GOOD, _("in force"))


def _kept(grant: Grant) -> dict[str, Any]:
    """Return the conditions of a grant; nothing when they were written by hand and have no meaning."""
    try:
        return conditions.check(grant.conditions or {})
    except conditions.BadCondition:
        return {}


def _grants_of(user: User) -> Table:
    open_grants = user.grants.select_related("permission").order_by("-pk")[:50]
    return Table(
        title=_("Grants"),
        headers=[_("Permission"), _("State"), _("Granted"), _("Expires"), _("Reason")],
        rows=[
            (
                display.link(reverse("admin:accounts_grant_change", args=[grant.pk]), grant.permission.name),
                grant_state(grant),
                display.moment(grant.granted_at),
                display.moment(grant.expires_at),
                grant.reason,
            )
            for grant in open_grants
        ],
        empty=_("No grants: this account has only the views of its role."),
    )


@admin.register(VendorProfile)
class VendorProfileAdmin(ConsoleModelAdmin):
    """Shops."""

    group, position = "people", 20
    personal_classes = ("business", "location")
    summary = gettext_lazy("The shops that sell here, newest first.")
    empty = gettext_lazy("Vendors appear here when they register or their orders are imported.")
    list_display = ("shop", "vendor_status", "city", "created_at")
    list_select_related = ("user",)
    list_filter = (
        console.choice_filter(
            parameter="vendor_status", title=gettext_lazy("Status"), choices=VendorProfile.Status.choices
        ),
    )
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-pk",)),)
    search_in = (SearchField("user"),)
    search_help_text = gettext_lazy("The vendor's whole id")
    sections = (
        (
            gettext_lazy("Shop"),
            ("shop_name", "vendor_status", "account", "business_description", "website_url", "city", "state"),
        ),
        (gettext_lazy("Times"), ("created_at", "updated_at")),
    )

    @admin.display(description=gettext_lazy("shop"))
    def shop(self, vendor: VendorProfile) -> SafeString:
        return display.two_lines(self.name_of(vendor), str(vendor.user))

    @admin.display(description=gettext_lazy("name"))
    def shop_name(self, vendor: VendorProfile) -> str:
        return vendor.business_name

    @admin.display(description=gettext_lazy("account"))
    def account(self, vendor: VendorProfile) -> SafeString:
        return display.link(reverse("admin:accounts_user_change", args=[vendor.user_id]), str(vendor.user))


@admin.register(Grant)
class GrantAdmin(ConsoleModelAdmin):
    """Who holds which permission, since when, until when and why."""

    group, position = "people", 30
    summary = gettext_lazy("Permissions given to people, newest first. Rows are never deleted.")
    empty = gettext_lazy("Grants appear here when somebody receives a permission of their own.")
    list_display = ("what", "state", "granted_at", "expires_at", "granted_by_label")
    list_select_related = ("user", "permission")
    list_filter = (
        console.choice_filter(
            parameter="state",
            title=gettext_lazy("State"),
            choices=[("open", gettext_lazy("not revoked")), ("revoked", gettext_lazy("revoked"))],
            narrow=lambda rows, value: rows.filter(revoked_at__isnull=value == "open"),
        ),
    )
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-pk",)),)
    search_in = (SearchField("user"), SearchField("id"))
    search_help_text = gettext_lazy("The whole id of the account or of the grant")
    sections = (
        (gettext_lazy("Grant"), ("id", "holder", "permission", "granted_at", "granted_by_label", "reason")),
        (gettext_lazy("It counts only"), ("hours", "networks", "departments", "readable")),
        (gettext_lazy("How it ends"), ("expires_at", "revoked_at", "revoked_by_label", "revoked_why")),
    )

    reason_actions = (REVOKE,)

    def name_of(self, row: Grant) -> str:
        return f"{row.permission.name} → {row.user}"

    @admin.display(description=gettext_lazy("permission"))
    def what(self, grant: Grant) -> SafeString:
        return display.two_lines(grant.permission.name, str(grant.user))

    @admin.display(description=gettext_lazy("state"))
    def state(self, grant: Grant) -> SafeString:
        return grant_state(grant)

    def state_of(self, row: Grant) -> SafeString:
        return grant_state(row)

    @admin.display(description=gettext_lazy("hours"))
    def hours(self, grant: Grant) -> str:
        hours = _kept(grant).get("allowed_hours")
        if not hours:
            return _("at any hour")
        days = ", ".join(str(word) for day, word in console_grants.DAYS if day in hours["days"])
        return f"{hours['from']} – {hours['to']}, {days}"

    @admin.display(description=gettext_lazy("networks"))
    def networks(self, grant: Grant) -> str:
        return ", ".join(_kept(grant).get("allowed_ips", ())) or _("from anywhere")

    @admin.display(description=gettext_lazy("departments"))
    def departments(self, grant: Grant) -> str:
        return ", ".join(_kept(grant).get("allowed_departments", ())) or _("for every department")

    @admin.display(description=gettext_lazy("conditions"))
    def readable(self, grant: Grant) -> SafeString:
        if grant.conditions and not _kept(grant):
            return display.state(State.CRITICAL, _("cannot be read: the grant never counts"))
        return display.state(State.GOOD, _("understood"))

    @admin.display(description=gettext_lazy("account"))
    def holder(self, grant: Grant) -> SafeString:
        return display.link(reverse("admin:accounts_user_change", args=[grant.user_id]), str(grant.user))


@admin.register(Permission)
class PermissionAdmin(ConsoleModelAdmin):
    """Everything that can be allowed."""

    group, position = "people", 40
    summary = gettext_lazy("Everything that can be allowed, and what a person needs to receive it.")
    empty = gettext_lazy("The permissions are written by the first migration.")
    list_display = ("name", "required_clearance", "risk_mark", "needs")
    list_filter = (
        console.choice_filter(
            parameter="resource",
            title=gettext_lazy("Resource"),
            choices=[(word.value, word.value.replace("_", " ").lower()) for word in Resource],
        ),
    )
    orderings = (Ordering("name", gettext_lazy("by name"), ("name",)),)
    search_in = (SearchField("name", "prefix", str.lower),)
    search_help_text = gettext_lazy("Beginning of the name")
    sections = (
        (gettext_lazy("Permission"), ("name", "resource", "action", "scope")),
        (
            gettext_lazy("Conditions"),
            ("required_clearance", "risk_mark", "requires_mfa", "requires_approval", "is_system"),
        ),
    )

    @admin.display(description=gettext_lazy("risk"))
    def risk_mark(self, permission: Permission) -> SafeString:
        kinds = {Risk.CRITICAL: State.CRITICAL, Risk.HIGH: State.WARNING}
        words = {
            Risk.LOW: _("low"),
            Risk.MEDIUM: _("medium"),
            Risk.HIGH: _("high"),
            Risk.CRITICAL: _("critical"),
        }
        risk = Risk(permission.risk)
        return display.chip(kinds.get(risk, State.PLAIN), words[risk])

    @admin.display(description=gettext_lazy("needs"))
    def needs(self, permission: Permission) -> str:
        wanted = [
            (permission.requires_mfa, _("second factor")),
            (permission.requires_approval, _("second person")),
            (permission.is_system, _("system")),
        ]
        return ", ".join(word for applies, word in wanted if applies) or display.EMPTY
