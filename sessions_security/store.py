"""The session engine behind Django's `request.session`.

The cookie is a 256-bit secret of which only the SHA-256 is kept; what the session remembers is JSON under
AES-GCM, bound to that hash, to the session and to the account, so that a payload copied into another row
does not open. A visitor who has not signed in has no row and no cookie: `open` is called by the sign-in,
nothing else creates one.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import Any
from uuid import UUID

import structlog
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.db import transaction
from django.utils import timezone

from mestore.lib import actor, crypto, errors
from monitoring import audit, events
from sessions_security import session_check, sessions
from sessions_security.models import SessionSecret, UserSession

log = structlog.get_logger(__name__)

PURPOSE = "session-payload"
_COOKIE = re.compile(r"[A-Za-z0-9_-]{43}")


class SessionStore(SessionBase):
    """One browser's session. Without a live `UserSession` it is empty, and saving it does nothing."""

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        self._user_session: UserSession | None = None
        self._stored = b""

    @property
    def user_session(self) -> UserSession | None:
        """The live session behind the cookie, its account loaded; None for a visitor."""
        self._get_session()  # type: ignore[attr-defined]  # loads once; the framework's stubs hide it
        return self._user_session

    def open(self, session: UserSession) -> None:
        """Give `session` a new cookie secret and keep what was put into this store so far under it.

        Must run in the transaction that started `session`. What this browser had before is closed first.
        """
        data = self._data()
        self._user_session, self._session_key = session, _new_secret()
        self._stored = _encode(data)
        SessionSecret.objects.create(
            session=session, key_hash=self._key_hash(), payload=self._seal(self._stored)
        )
        self.modified = True

    def load(self) -> dict[str, Any]:
        """Return what the session remembers; nothing when it ended, is unknown or was tampered with."""
        key = self._session_key or ""
        found = session_check.by_cookie(crypto.digest(key.encode())) if _COOKIE.fullmatch(key) else None
        if found is None:
            self._session_key = None
            return {}
        self._user_session = found.session
        try:
            self._stored = crypto.unseal(found.sealed, purpose=PURPOSE, bound_to=self._binding())
            return _decode(self._stored)
        except (crypto.Unreadable, ValueError) as error:
            self._user_session, self._session_key = None, None
            _refuse_unreadable(found, error)
            return {}

    def save(self, must_create: bool = False) -> None:  # noqa: ARG002  # the base's signature
        """Write what changed. Raises `UpdateError` when the session was ended meanwhile."""
        if self._user_session is None:
            return
        encoded = _encode(self._data())
        if encoded == self._stored:
            return
        mine = SessionSecret.objects.filter(session=self._user_session, key_hash=self._key_hash())
        if not mine.update(payload=self._seal(encoded)):
            raise UpdateError
        self._stored = encoded

    def cycle_key(self) -> None:
        """Replace the cookie's secret; the old cookie is dead at once. A visitor has none to replace."""
        if self.user_session is None:
            return
        data, old = self._data(), self._key_hash()
        self._session_key = _new_secret()
        self._stored = _encode(data)
        mine = SessionSecret.objects.filter(session=self._user_session, key_hash=old)
        if not mine.update(key_hash=self._key_hash(), payload=self._seal(self._stored)):
            raise UpdateError
        self.modified = True

    def flush(self) -> None:
        """Forget everything and end the session behind the cookie."""
        self.user_session  # noqa: B018  # `clear` would hide from `delete` which session this cookie opens
        super().flush()

    def delete(self, session_key: str | None = None) -> None:  # noqa: ARG002  # the base's signature
        """End the session, whoever asks: a cookie without its session must not stay listed as live."""
        if self._user_session is not None:
            with transaction.atomic():
                sessions.end(self._user_session, by=actor.system("session store"), why="closed")
        self._user_session = None

    def is_empty(self) -> bool:
        """Whether the browser needs no cookie: true for every visitor who has not signed in.

        Asked at the end of each request: a cookie that nobody looked at is neither checked nor taken away.
        """
        was_loaded = hasattr(self, "_session_cache")
        return self._user_session is None if was_loaded else not self._session_key

    def exists(self, session_key: str) -> bool:
        return SessionSecret.objects.filter(key_hash=crypto.digest(session_key.encode())).exists()

    def create(self) -> None:
        """Begin empty. No row is written: a session exists only for somebody who signed in."""
        empty: dict[str, Any] = {}
        self._session_key, self._session_cache, self.modified = None, empty, True

    def get_expiry_age(self, **kwargs: Any) -> int:  # noqa: ARG002  # the base's signature
        """Return the seconds until the session's latest end; the cookie lives no longer than the session."""
        if self._user_session is None:
            return 0
        return max(0, int((self._user_session.absolute_expires_at - timezone.now()).total_seconds()))

    @classmethod
    def clear_expired(cls) -> None:
        """Nothing here: the purge task deletes ended sessions in small batches."""

    def _data(self) -> dict[str, Any]:
        data: dict[str, Any] = self._get_session(no_load=False)  # type: ignore[attr-defined]  # hidden by the stubs
        return data

    def _key_hash(self) -> bytes:
        return crypto.digest((self._session_key or "").encode())

    def _seal(self, encoded: bytes) -> bytes:
        return crypto.seal(encoded, purpose=PURPOSE, bound_to=self._binding())

    def _binding(self) -> bytes:
        owner = self._user_session
        if owner is None:
            raise UpdateError
        return binding(self._key_hash(), owner.pk, owner.user_id)


def binding(key_hash: bytes, session_id: UUID, user_id: UUID) -> bytes:
    """What a payload is bound to: the cookie's hash, the session and its account."""
    return crypto.row_binding(PURPOSE, key_hash, session_id, user_id)


def _refuse_unreadable(found: session_check.CookieSession, error: Exception) -> None:
    """End a session whose payload does not open: somebody altered or moved what is stored.

    One that was sealed under a key this process does not know is no attack: in the middle of a rotation the
    other processes are ahead. That request gets a 503, and the session goes on.
    """
    session = found.session
    log.critical("session_payload_unreadable", session=str(session.pk))
    if isinstance(error, crypto.KeyUnknown):
        raise errors.SecurityServiceFailure from error
    by = actor.system("session store")
    audit.record_refusal(
        events.SESSION_UNREADABLE, by=by, target=("session", str(session.pk)), subject=str(session.user_id)
    )
    with session_check.database_guard(), transaction.atomic():
        sessions.end(session, by=by, why="unreadable")


def _decode(stored: bytes) -> dict[str, Any]:
    """Return what was stored, JSON and nothing else. Raises ValueError."""
    data = json.loads(stored)
    if not isinstance(data, dict):
        raise ValueError("a session remembers names and values")  # noqa: TRY004  # one error for every form
    return data


def _new_secret() -> str:
    return secrets.token_urlsafe(32)


def _encode(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()
