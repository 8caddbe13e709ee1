"""Signed tokens in their compact form (JWS, RFC 7515), read strictly: one text has one reading.

Who calls decides which headers, algorithms and claims are allowed; here it is decided what a token *is*. What
two readers could understand differently is refused: base64 with stray bits, padding or spaces, a member that
stands twice, a number that is no plain integer where a moment is meant, an algorithm that is not the key's.

The signature itself is verified by the JWT library. Nothing of a payload is returned before that, except by
`claimed`, whose result must only be used to look up the key.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jwt.algorithms import Algorithm, ECAlgorithm, OKPAlgorithm, get_default_algorithms
from jwt.exceptions import PyJWTError

from mestore.lib import canonical, crypto

PublicKey = Ed25519PublicKey | EllipticCurvePublicKey

MAX_LENGTH: Final = 4_096
"""Longest token that is looked at, in characters."""
ALGORITHMS: Final = ("EdDSA", "ES256")
"""What programs and people may sign with: Ed25519 (RFC 8037) and ECDSA on P-256 (RFC 7518)."""

_PARTS = 3
_LATEST = 253_402_300_799  # the last second of the year 9999: no moment of ours is later
_implementations = get_default_algorithms()
_REQUIRED: dict[str, tuple[str, ...]] = {"EdDSA": ("kty", "crv", "x"), "ES256": ("kty", "crv", "x", "y")}
_CURVES = {("OKP", "Ed25519"): "EdDSA", ("EC", "P-256"): "ES256"}
_HARMLESS = frozenset({"alg", "use", "kid", "key_ops", "ext"})  # what libraries add to a public key


class Malformed(ValueError):
    """This is no token: too long, not three canonical parts, not two plain objects."""


class BadSignature(ValueError):
    """The signature is not the key's."""


class BadKey(ValueError):
    """This is no public key of an algorithm in use, or it carries more than a public key."""


@dataclass(frozen=True, slots=True)
class Unverified:
    """A token whose form is right and whose signature nobody has looked at yet."""

    header: Mapping[str, Any]
    _signed: bytes
    _payload: bytes
    _signature: bytes

    def verified(self, key: Any, algorithm: str) -> dict[str, Any]:
        """Return the payload, once `key` has proved to have signed it by `algorithm`.

        Raises `BadSignature`; `Malformed` when what was signed is not one plain object.
        """
        if self.header.get("alg") != algorithm:
            raise BadSignature
        try:
            # The library looks at the key's own kind: a public key is never taken for an HMAC secret.
            implementation: Algorithm = _implementations[algorithm]
            good = implementation.verify(self._signed, implementation.prepare_key(key), self._signature)
        except (PyJWTError, ValueError, TypeError):
            raise BadSignature from None
        if not good:
            raise BadSignature
        return _object(self._payload)

    def claimed(self) -> dict[str, Any]:
        """Return the payload as nobody has proved it yet, to look up the key by. Raises `Malformed`."""
        return _object(self._payload)


def split(token: str) -> Unverified:
    """Return the parts of `token`. Raises `Malformed`; a token that is too long costs no work at all."""
    if len(token) > MAX_LENGTH or not token.isascii():
        raise Malformed
    parts = token.split(".")
    if len(parts) != _PARTS or not all(parts):
        raise Malformed
    header, payload, signature = (_decoded(part) for part in parts)
    return Unverified(_object(header), f"{parts[0]}.{parts[1]}".encode(), payload, signature)


def moment(claims: Mapping[str, Any], name: str) -> int:
    """Return a claim that is a moment: whole seconds since 1970, as a plain integer. Raises `Malformed`.

    RFC 7519 also allows fractions; nobody who talks to us needs them, and texts and truths are no moments.
    """
    value = claims.get(name)
    if type(value) is not int or not 0 <= value <= _LATEST:
        raise Malformed
    return value


def public_key(jwk: object) -> tuple[PublicKey, str]:
    """Return the key and its algorithm of a public JWK (RFC 7517). Raises `BadKey`.

    Private or symmetric members, certificates and addresses of keys are refused, not ignored.
    """
    if not isinstance(jwk, Mapping):
        raise BadKey
    algorithm = _CURVES.get((str(jwk.get("kty")), str(jwk.get("crv"))))
    if algorithm is None or jwk.get("alg", algorithm) not in {algorithm, "Ed25519"}:
        raise BadKey
    names = _REQUIRED[algorithm]
    if not {*names} <= jwk.keys() <= {*names} | _HARMLESS or jwk.get("use", "sig") != "sig":
        raise BadKey
    if not all(isinstance(jwk[name], str) for name in names):
        raise BadKey
    reader = OKPAlgorithm if algorithm == "EdDSA" else ECAlgorithm
    try:
        key = reader.from_jwk({name: jwk[name] for name in names})
    except (PyJWTError, ValueError, binascii.Error):
        raise BadKey from None
    if not isinstance(key, Ed25519PublicKey | EllipticCurvePublicKey):
        raise BadKey
    return key, algorithm


def canonical_jwk(key: PublicKey) -> dict[str, str]:
    """Return the members of `key` that name it, and no others, written one way."""
    if isinstance(key, Ed25519PublicKey):
        written: dict[str, str] = OKPAlgorithm.to_jwk(key, as_dict=True)
        names = _REQUIRED["EdDSA"]
    else:
        written = ECAlgorithm.to_jwk(key, as_dict=True)
        names = _REQUIRED["ES256"]
    return {name: written[name] for name in names}


def thumbprint(key: PublicKey) -> bytes:
    """Return the 32 bytes that name `key` (RFC 7638, SHA-256)."""
    return crypto.digest(canonical.dumps(canonical_jwk(key)))


def base64url(data: bytes) -> str:
    """Return `data` in base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(part: str) -> bytes:
    """Return the bytes of one part. Raises `Malformed` unless this text is the one way to write them."""
    try:
        data = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Malformed from None
    if base64url(data) != part:
        raise Malformed
    return data


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Malformed from None
    if not isinstance(value, dict):
        raise Malformed
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed
    return found


def _no_constant(name: str) -> Any:
    raise Malformed(name)
