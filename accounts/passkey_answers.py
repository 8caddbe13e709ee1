"""What a browser hands over for a passkey, and whether it proves what it says. No table is touched here.

`read` takes the JSON apart without believing any of it; `registration` and `assertion` let the library check
it against the settings' domain and origins. All that can be wrong ends in `MalformedPasskey` (not even the
right form) or `Disproved`.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any, Final

import webauthn
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from django.conf import settings
from django.utils.translation import gettext_lazy as _
from webauthn.authentication.verify_authentication_response import VerifiedAuthentication
from webauthn.helpers import (
    decode_credential_public_key,
    decoded_public_key_to_cryptography,
    parse_attestation_object,
)
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import AuthenticatorTransport
from webauthn.registration.verify_registration_response import VerifiedRegistration

from mestore.lib import errors, http

ALGORITHMS: Final = [
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
]
# We ask for no attestation; authenticators that attest to themselves all the same do it in the second form.
_ATTESTATIONS: Final = frozenset({"none", "packed"})
_TRANSPORTS: Final = frozenset(transport.value for transport in AuthenticatorTransport)
_RSA_BITS: Final = range(2_048, 4_097)
_LONGEST_TEXT: Final = 16_384
_LONGEST_CREDENTIAL_ID: Final = 1_023
_BASE64URL = re.compile(r"([A-Za-z0-9_-]*)={0,2}", re.ASCII)
# What the library lets out for bytes that are not what they claim to be: each of them means "no".
_HOSTILE = (
    WebAuthnException, InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError, LookupError,
    AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip


class MalformedPasskey(errors.BadRequest):
    """Not what a browser gives for a passkey. Costs no attempt."""

    message = _("The answer of the passkey could not be read.")


class Disproved(Exception):
    """The answer does not prove what it says; why is nobody's business."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a browser gave, as far as it can be read without believing it."""

    credential: dict[str, Any]
    credential_id: bytes
    challenge: bytes
    user_handle: bytes | None  # whom the authenticator takes for the owner of the key
    is_embedded: bool  # asked for inside of another site's page

    @property
    def transports(self) -> list[str]:
        """Ways to reach the authenticator, as far as the standard knows them."""
        given = self.credential["response"].get("transports")
        known = given if isinstance(given, list) else []
        return sorted({way for way in known if isinstance(way, str) and way in _TRANSPORTS})


def read(given: object) -> Answer:
    """Return the answer in a credential's JSON, parsed or as text. Raises MalformedPasskey."""
    try:
        credential = http.parse_json(_short(given).encode()) if isinstance(given, str) else given
        if not isinstance(credential, dict) or not isinstance(credential["response"], dict):
            raise MalformedPasskey
        response = credential["response"]
        client_data = http.parse_json(_decoded(response["clientDataJSON"]))
        handle = response.get("userHandle")
        return Answer(
            credential=credential,
            credential_id=_decoded(credential["rawId"]),
            challenge=_decoded(client_data["challenge"]),
            user_handle=None if handle is None else _decoded(handle),
            is_embedded=client_data.get("crossOrigin", False) is not False or "topOrigin" in client_data,
        )
    except (KeyError, TypeError, AttributeError, ValueError, http.MalformedJSON):
        raise MalformedPasskey from None


def registration(answer: Answer) -> VerifiedRegistration:
    """Return the key that `answer` registers. Raises Disproved."""
    if answer.is_embedded or len(answer.credential_id) > _LONGEST_CREDENTIAL_ID:
        raise Disproved
    try:
        attested = parse_attestation_object(_decoded(answer.credential["response"]["attestationObject"]))
        if attested.fmt not in _ATTESTATIONS:
            raise Disproved
        verified = webauthn.verify_registration_response(
            credential=answer.credential,
            expected_challenge=answer.challenge,
            expected_rp_id=settings.WEBAUTHN_RP_ID,
            expected_origin=list(settings.WEBAUTHN_ORIGINS),
            require_user_verification=True,
            supported_pub_key_algs=ALGORITHMS,
        )
        key = decoded_public_key_to_cryptography(decode_credential_public_key(verified.credential_public_key))
    except _HOSTILE:
        raise Disproved from None
    if isinstance(key, RSAPublicKey) and key.key_size not in _RSA_BITS:
        raise Disproved
    if verified.credential_id != answer.credential_id:
        raise Disproved
    return verified


def assertion(answer: Answer, *, public_key: bytes, owner: bytes) -> VerifiedAuthentication:
    """Return what the signature proves. Raises Disproved.

    The counter is left to the caller: it means something only now that the signature is known to be right.
    The library would look at it before, and anybody could then make a key look copied.
    """
    if answer.is_embedded or answer.user_handle not in {None, owner}:
        raise Disproved
    try:
        return webauthn.verify_authentication_response(
            credential=answer.credential,
            expected_challenge=answer.challenge,
            expected_rp_id=settings.WEBAUTHN_RP_ID,
            expected_origin=list(settings.WEBAUTHN_ORIGINS),
            credential_public_key=public_key,
            credential_current_sign_count=0,
            require_user_verification=True,
        )
    except _HOSTILE:
        raise Disproved from None


def _short(text: str) -> str:
    if len(text) > _LONGEST_TEXT:
        raise ValueError("too long for the answer of a passkey")
    return text


def _decoded(text: Any) -> bytes:
    """Raises ValueError and TypeError."""
    match = _BASE64URL.fullmatch(text)
    if match is None:
        raise ValueError("not base64url")
    return base64.urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4))
