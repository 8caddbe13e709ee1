"""Errors that a client may see: a status, a code for programs, a sentence for people.

One class per meaning. Packages define their own beside the function that raises it, as a subclass of one of
these. The sentence is translated when the answer is built; it never carries secrets or internals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    Text = str | _StrPromise


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field: `field` reads like ``body -> email``, `error_type` is for programs."""

    field: str
    message: Text
    error_type: str


class MeStoreError(Exception):
    """Base of everything that is answered to a client as it stands.

    `details` names fields, `headers` are set on the answer, `extra` adds members to its body (for example the
    methods by which a second factor may be proved).
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL_SERVER_ERROR"
    message: Text = _("Something went wrong on our side.")

    def __init__(
        self,
        message: Text | None = None,
        *,
        details: Sequence[FieldError] | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        if message is not None:
            self.message = message
        self.details: tuple[FieldError, ...] | None = tuple(details) if details is not None else None
        self.headers: dict[str, str] = dict(headers or {})
        self.extra: dict[str, Any] = dict(extra or {})
        super().__init__(self.message)

    def __str__(self) -> str:
        return str(self.message)


class BadRequest(MeStoreError):
    status = 400
    code = "BAD_REQUEST"
    message = _("The request could not be understood.")


class Unauthorized(MeStoreError):
    status = 401
    code = "UNAUTHORIZED"
    message = _("Authentication is required.")

    def __init__(
        self,
        message: Text | None = None,
        *,
        details: Sequence[FieldError] | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        challenge = {"WWW-Authenticate": "Bearer", **(headers or {})}
        super().__init__(message, details=details, headers=challenge, extra=extra)


class Forbidden(MeStoreError):
    status = 403
    code = "FORBIDDEN"
    message = _("You may not do this.")


class NotFound(MeStoreError):
    status = 404
    code = "NOT_FOUND"
    message = _("There is nothing here.")


class MethodNotAllowed(MeStoreError):
    status = 405
    code = "METHOD_NOT_ALLOWED"
    message = _("This method is not allowed here.")


class Conflict(MeStoreError):
    status = 409
    code = "CONFLICT"
    message = _("The request conflicts with the present state.")


class LengthRequired(MeStoreError):
    status = 411
    code = "LENGTH_REQUIRED"
    message = _("The length of the body must be declared.")


class PayloadTooLarge(MeStoreError):
    status = 413
    code = "PAYLOAD_TOO_LARGE"
    message = _("The body is too large.")


class UnsupportedMediaType(MeStoreError):
    status = 415
    code = "UNSUPPORTED_MEDIA_TYPE"
    message = _("This media type is not accepted here.")


class Unprocessable(MeStoreError):
    status = 422
    code = "VALIDATION_ERROR"
    message = _("Some values are not valid.")


class _RetryLater(MeStoreError):
    """An answer that says when asking again makes sense."""

    default_retry_after: ClassVar[int] = 1

    def __init__(
        self,
        message: Text | None = None,
        *,
        retry_after: int | None = None,
        details: Sequence[FieldError] | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.retry_after = max(1, self.default_retry_after if retry_after is None else retry_after)
        hint = {"Retry-After": str(self.retry_after), **(headers or {})}
        super().__init__(message, details=details, headers=hint, extra=extra)


class TooManyRequests(_RetryLater):
    status = 429
    code = "TOO_MANY_REQUESTS"
    message = _("Too many requests. Please try again later.")


class InternalError(MeStoreError):
    """Our own failure; the cause is in the log under the request's id, never in the answer."""


class SecurityServiceFailure(_RetryLater):
    """Something that guards security is away, so the request is refused rather than let through."""

    status = 503
    code = "SECURITY_SERVICE_FAILURE"
    message = _("A security service is not available. Please try again shortly.")
    default_retry_after = 5
