"""A software authenticator: makes passkeys and signs with them, byte by byte as WebAuthn says.

It is written from the standard and shares no code with the library that the application verifies with. Its
knobs are what an attacker would turn: flags, counter, origin, domain, challenge, signature.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import secrets
import struct
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

USER_PRESENT, USER_VERIFIED = 0x01, 0x04
BACKUP_ELIGIBLE, BACKED_UP = 0x08, 0x10
ATTESTED, EXTENSIONS = 0x40, 0x80
ES256, EDDSA, RS256 = -7, -8, -257
AAGUID = UUID("6d657374-6f72-4520-8474-657374696e67")

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
Json = dict[str, Any]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def cbor(value: Any) -> bytes:
    """The few kinds of CBOR that an authenticator needs (RFC 8949)."""
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        return _head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(map(cbor, value))
    if isinstance(value, dict):
        return _head(5, len(value)) + b"".join(cbor(key) + cbor(item) for key, item in value.items())
    raise TypeError(type(value).__name__)


def _head(major: int, size: int) -> bytes:
    if size < 24:
        return bytes([major << 5 | size])
    if size < 256:
        return bytes([major << 5 | 24, size])
    return bytes([major << 5 | 25]) + struct.pack(">H", size)


@dataclass
class Key:
    """One credential."""

    id: bytes
    private: PrivateKey
    algorithm: int
    user_handle: bytes
    counter: int = 0

    def cose(self) -> dict[int, Any]:
        public: Any = self.private.public_key()
        if self.algorithm == EDDSA:
            return {1: 1, 3: EDDSA, -1: 6, -2: public.public_bytes_raw()}
        numbers = public.public_numbers()
        if self.algorithm == RS256:
            size = (numbers.n.bit_length() + 7) // 8
            return {1: 3, 3: RS256, -1: numbers.n.to_bytes(size, "big"), -2: b"\x01\x00\x01"}
        return {1: 2, 3: ES256, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}

    def sign(self, data: bytes) -> bytes:
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return self.private.sign(data)
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return self.private.sign(data, ec.ECDSA(hashes.SHA256()))


@dataclass
class Authenticator:
    """What sits between browser and key. Change a field, and every later answer lies in that respect."""

    origin: str = "https://testserver"
    rp_id: str = "testserver"
    flags: int = USER_PRESENT | USER_VERIFIED
    counts: bool = True
    algorithm: int = ES256
    rsa_bits: int = 2_048
    attestation: str = "none"
    cross_origin: bool = False
    names_user: bool = True
    keys: list[Key] = field(default_factory=list)

    def create(self, options: Json, **client_data: Any) -> Json:
        """Answer `navigator.credentials.create` with `credential.toJSON()`."""
        key = Key(secrets.token_bytes(32), self._new_private(), self.algorithm, unb64(options["user"]["id"]))
        self.keys.append(key)
        attested = AAGUID.bytes + struct.pack(">H", len(key.id)) + key.id + cbor(key.cose())
        data = self._authenticator_data(key, ATTESTED) + attested
        client = self._client_data("webauthn.create", options, client_data)
        statement: Json = {}
        if self.attestation == "packed":
            statement = {"alg": self.algorithm, "sig": key.sign(data + hashlib.sha256(client).digest())}
        made = cbor({"fmt": self.attestation, "attStmt": statement, "authData": data})
        return self._credential(
            key,
            {
                "clientDataJSON": b64(client),
                "attestationObject": b64(made),
                "transports": ["internal", "telepathy"],
            },
        )

    def get(self, options: Json, *, key: Key | None = None, **client_data: Any) -> Json:
        """Answer `navigator.credentials.get` with the newest key that the options allow."""
        key = key or self._allowed(options)
        data = self._authenticator_data(key)
        client = self._client_data("webauthn.get", options, client_data)
        response = {
            "clientDataJSON": b64(client),
            "authenticatorData": b64(data),
            "signature": b64(key.sign(data + hashlib.sha256(client).digest())),
        }
        if self.names_user:
            response["userHandle"] = b64(key.user_handle)
        return self._credential(key, response)

    def copied(self) -> Authenticator:
        """A clone, with the counters of now."""
        return Authenticator(**{**vars(self), "keys": [copy.copy(key) for key in self.keys]})

    def _allowed(self, options: Json) -> Key:
        allowed = {unb64(one["id"]) for one in options.get("allowCredentials", [])}
        return next(key for key in reversed(self.keys) if not allowed or key.id in allowed)

    def _new_private(self) -> PrivateKey:
        if self.algorithm == EDDSA:
            return ed25519.Ed25519PrivateKey.generate()
        if self.algorithm == RS256:
            return rsa.generate_private_key(65_537, self.rsa_bits)
        return ec.generate_private_key(ec.SECP256R1())

    def _authenticator_data(self, key: Key, flags: int = 0) -> bytes:
        key.counter += int(self.counts)
        domain = hashlib.sha256(self.rp_id.encode()).digest()
        return domain + bytes([self.flags | flags]) + struct.pack(">I", key.counter)

    def _client_data(self, kind: str, options: Json, changes: Json) -> bytes:
        said = {
            "type": kind,
            "challenge": options["challenge"],
            "origin": self.origin,
            "crossOrigin": self.cross_origin,
        }
        return json.dumps(said | changes).encode()

    def _credential(self, key: Key, response: Json) -> Json:
        return {
            "id": b64(key.id),
            "rawId": b64(key.id),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": response,
        }
