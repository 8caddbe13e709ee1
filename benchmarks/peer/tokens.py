"""Access tokens that can be revoked: simplejwt looks up only refresh tokens in its blacklist by itself."""

from __future__ import annotations

from rest_framework_simplejwt.tokens import AccessToken, BlacklistMixin


class RevocableAccessToken(BlacklistMixin, AccessToken):
    """An access token that is outstanding from its making, and looked up in the blacklist at each use."""
