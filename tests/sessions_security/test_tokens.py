from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.db.models import F
from django.utils import timezone

from accounts.models import User
from mestore.lib import crypto
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from sessions_security import keys, sessions, tokens
from sessions_security.models import RefreshToken, SigningKey, UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made

DATABASES = ["default", "audit"]
pytestmark = pytest.mark.django_db(databases=DATABASES)
racing = pytest.mark.django_db(transaction=True, databases=[*DATABASES, "owner"])

Race = Callable[[Sequence[Callable[[], Any]]], list[Any]]
DAY = 86_400  # tests are collected long before the last of them runs: what is ahead is ahead by a day


@pytest.fixture(autouse=True)
def _fresh_keys() -> None:
    keys.forget()


@pytest.fixture
def session() -> UserSession:
    return made.session_of(people.BuyerFactory.create())


def payload_of(session: UserSession, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    return {
        "sub": str(session.user_id),
        "sid": str(session.pk),
        "iat": now,
        "exp": now + 60,
        "jti": "j",
        "iss": settings.TOKEN_ISSUER,
        "aud": settings.TOKEN_AUDIENCE,
    } | changes


def signed(payload: dict[str, Any], *, key: Any = None, alg: str = "EdDSA", **header: Any) -> str:
    ring = keys.ring()
    return jwt.encode(
        payload,
        key or ring.private_key,
        algorithm=alg,
        headers={"typ": "at+jwt", "kid": ring.current_kid} | header,
    )


def encoded(part: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def refused(token: str) -> tokens.InvalidToken:
    with pytest.raises(tokens.InvalidToken) as caught:
        tokens.verify_access(token)
    return caught.value


# Access tokens that must not open anything


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b.c", "mock-token", "e30.e30.e30", "[].a.b", "\x00.\x00.\x00"]
)
def test_nonsense_is_refused(token: str) -> None:
    assert refused(token).forged


def test_huge_token_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    worked: list[str] = []
    monkeypatch.setattr(crypto, "digest", worked.append)
    monkeypatch.setattr(tokens, "_verify", worked.append)

    assert refused("a" * 5_000_000).forged
    assert refused("a" * (tokens.MAX_LENGTH + 1)).forged
    assert worked == []


def test_token_that_is_not_ascii_is_refused() -> None:
    assert refused("é" * 40).forged


@pytest.mark.parametrize("alg", ["none", "None", "NONE"])
def test_unsigned_token_is_refused(session: UserSession, alg: str) -> None:
    header = {"alg": alg, "typ": "at+jwt", "kid": keys.ring().current_kid}

    assert refused(f"{encoded(header)}.{encoded(payload_of(session))}.").forged


def test_token_without_its_signature_is_refused(session: UserSession) -> None:
    token = tokens.issue_access(session).access_token

    assert refused(token.rsplit(".", 1)[0] + ".").forged


def test_hmac_with_the_public_key_is_refused(session: UserSession) -> None:
    public = keys.ring().public_keys[keys.ring().current_kid]
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)

    assert refused(signed(payload_of(session), key=raw, alg="HS256")).forged


def test_key_of_somebody_else_under_our_key_id_is_refused(session: UserSession) -> None:
    assert refused(signed(payload_of(session), key=Ed25519PrivateKey.generate())).forged


def test_unknown_key_id_is_refused(session: UserSession) -> None:
    assert not refused(signed(payload_of(session), kid="unknown")).forged


@pytest.mark.parametrize("kid", ["../../etc/passwd", "' OR 1=1 --", "", "\x00"])
def test_key_id_is_only_ever_compared(session: UserSession, kid: str) -> None:
    refused(signed(payload_of(session), kid=kid))


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": "AT+JWT"},
        {"typ": "refresh"},
        {"kid": 7},
        {"kid": None},
        {"kid": ["a"]},
        {"crit": ["exp"]},
        {"b64": False},
        {"jwk": {"kty": "OKP"}},
        {"jku": "https://attacker.example/keys"},
        {"x5u": "https://attacker.example/cert"},
        {"x5c": ["MII"]},
        {"zip": "DEF"},
        {"cty": "JWT"},
    ],
)
def test_header_that_we_did_not_write_is_refused(session: UserSession, header: dict[str, Any]) -> None:
    base = {"alg": "EdDSA", "typ": "at+jwt", "kid": keys.ring().current_kid} | header
    message = f"{encoded(base)}.{encoded(payload_of(session))}"
    signature = keys.ring().private_key.sign(message.encode())

    token = f"{message}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"

    assert refused(token).forged


@pytest.mark.parametrize(
    "change",
    [
        {"aud": [settings.TOKEN_AUDIENCE]},
        {"aud": [settings.TOKEN_AUDIENCE, "other"]},
        {"aud": "other"},
        {"aud": None},
        {"iss": "other"},
        {"exp": str(int(time.time()) + DAY)},
        {"exp": time.time() + DAY + 0.5},
        {"exp": True},
        {"exp": None},
        {"iat": str(int(time.time()))},
        {"iat": time.time() - 1.5},
        {"iat": int(time.time()) + DAY},
        {"nbf": int(time.time()) + DAY},
        {"jti": 5},
        {"sub": "not a uuid"},
        {"sub": 1},
        {"sid": "not a uuid"},
        {"sid": None},
        {"sid": ["x"]},
    ],
)
def test_claim_of_the_wrong_kind_is_refused(session: UserSession, change: dict[str, Any]) -> None:
    refused(signed(payload_of(session, **change)))


@pytest.mark.parametrize("claim", tokens.CLAIMS)
def test_missing_claim_is_refused(session: UserSession, claim: str) -> None:
    payload = payload_of(session)
    del payload[claim]

    refused(signed(payload))


def test_expired_token_is_refused_without_crying_forgery(session: UserSession) -> None:
    now = int(time.time())

    assert not refused(signed(payload_of(session, iat=now - 900, exp=now - 1))).forged


def test_remembered_token_still_expires(session: UserSession, monkeypatch: pytest.MonkeyPatch) -> None:
    token = signed(payload_of(session))
    tokens.verify_access(token)
    later = time.time() + 61

    monkeypatch.setattr("sessions_security.tokens.time.time", lambda: later)

    refused(token)


def test_remembered_token_dies_with_its_key(session: UserSession) -> None:
    token = signed(payload_of(session))
    tokens.verify_access(token)

    SigningKey.objects.all().delete()
    keys.forget()

    refused(token)


def test_what_is_remembered_is_bounded() -> None:
    memory = tokens._VerifiedTokens(2)
    claims = tokens.Claims(UserSession().pk, UserSession().pk, "j", "k", 0, "a")

    for name in (b"a", b"b"):
        memory.put(name, claims)
    memory.get(b"a")
    memory.put(b"c", claims)

    assert [memory.get(name) is not None for name in (b"a", b"b", b"c")] == [True, False, True]


# Access tokens that are good


def test_token_names_account_and_session_and_nothing_that_must_be_trusted(session: UserSession) -> None:
    issued = tokens.issue_access(session)

    claims = tokens.verify_access(issued.access_token)

    assert (claims.user_id, claims.session_id) == (session.user_id, session.pk)
    assert tokens.session_of(claims, address="127.0.0.1") == session
    assert set(jwt.decode(issued.access_token, options={"verify_signature": False})) == set(tokens.CLAIMS)
    assert jwt.get_unverified_header(issued.access_token)["alg"] == "EdDSA"


def test_expires_in_tells_the_truth_near_the_end_of_a_session(session: UserSession) -> None:
    assert tokens.issue_access(session).expires_in == settings.ACCESS_TOKEN_SECONDS

    session.absolute_expires_at = timezone.now() + timedelta(seconds=100)

    assert 40 < tokens.issue_access(session).expires_in <= 100


# Keys


def test_private_key_is_sealed_for_its_own_row() -> None:
    kid = keys.ring().current_kid
    row = SigningKey.objects.get(kid=kid)

    assert keys.ring().private_key.private_bytes_raw() not in bytes(row.sealed_private_key)
    assert kid in str(row)
    assert AuditEvent.objects.filter(type="key.signing.created", target_id=kid).count() == 1


def test_rotation_keeps_the_previous_key_for_verifying_until_its_tokens_expire(session: UserSession) -> None:
    old_kid, token = keys.ring().current_kid, tokens.issue_access(session).access_token

    new_kid = keys.rotate(by=made.HERE)

    assert keys.ring().current_kid == new_kid != old_kid
    assert tokens.verify_access(token).kid == old_kid
    assert {key["kid"] for key in keys.public_jwks()["keys"]} == {old_kid, new_kid}

    SigningKey.objects.filter(kid=old_kid).update(verify_until=timezone.now())
    keys.forget()
    refused(token)


@racing
def test_first_use_by_many_makes_one_key(race: Race) -> None:
    SigningKey.objects.all().delete()

    rings = race([keys.ring] * 6)

    assert len({ring.current_kid for ring in rings}) == 1
    assert SigningKey.objects.count() == 1


@racing
def test_ring_is_remembered_and_read_again_for_a_newer_key(monkeypatch: pytest.MonkeyPatch) -> None:
    first = keys.ring()
    clock = [first.read_at + keys.REREAD_SECONDS - 0.01]
    monkeypatch.setattr("sessions_security.keys.time.monotonic", lambda: clock[0])
    assert keys.ring() is first
    assert keys.ring(wanted="invented") is first  # not again within a second: invented ids cannot load us

    clock[0] = first.read_at + keys.REREAD_SECONDS
    assert keys.ring(wanted=first.current_kid) is first
    assert keys.ring(wanted="newer") is not first


# Refresh tokens


def age(token: str, seconds: int) -> None:
    RefreshToken.objects.filter(token_hash=crypto.digest(token.encode())).update(
        used_at=F("used_at") - timedelta(seconds=seconds)
    )


def rotate(token: str, by: Actor = made.HERE) -> tokens.TokenPair:
    return tokens.rotate(token, by=by)


@pytest.mark.parametrize("token", ["", "x", "é", "a" * 43, "a" * 129, "a" * 100_000])
def test_unknown_refresh_token_is_refused(token: str) -> None:
    with pytest.raises(tokens.InvalidToken):
        rotate(token)


def test_access_token_is_no_refresh_token(session: UserSession) -> None:
    with pytest.raises(tokens.InvalidToken):
        rotate(tokens.issue_access(session).access_token)


def test_refresh_token_is_stored_as_a_hash_only() -> None:
    _session, pair = made.tokens_of(people.BuyerFactory.create())
    row = RefreshToken.objects.get()

    assert pair.refresh_token is not None
    assert bytes(row.token_hash) == crypto.digest(pair.refresh_token.encode())
    assert str(row.pk) in str(row)


def test_reuse_within_the_grace_is_a_conflict_and_changes_nothing(settings: Any) -> None:
    assert settings.REFRESH_REUSE_GRACE_SECONDS == 10
    settings.REFRESH_REUSE_GRACE_SECONDS = 600
    session, pair = made.tokens_of(people.BuyerFactory.create())
    child = rotate(str(pair.refresh_token))
    age(str(pair.refresh_token), 300)

    with pytest.raises(tokens.RefreshTokenJustUsed):
        rotate(str(pair.refresh_token))

    assert RefreshToken.objects.filter(session=session).count() == 2
    assert rotate(str(child.refresh_token)).refresh_token


def test_later_reuse_ends_the_family_and_its_session() -> None:
    session, pair = made.tokens_of(people.BuyerFactory.create())
    child = rotate(str(pair.refresh_token))
    age(str(pair.refresh_token), 11)
    thief = Actor(kind="anonymous", address="203.0.113.9", agent="other")

    with pytest.raises(tokens.InvalidToken):
        rotate(str(pair.refresh_token), thief)

    session.refresh_from_db()
    assert session.revoked_why == "refresh_reused"
    with pytest.raises(tokens.InvalidToken):
        rotate(str(child.refresh_token))
    with pytest.raises(tokens.InvalidToken):
        tokens.session_of(tokens.verify_access(child.access_token), address="127.0.0.1")
    reuse = AuditEvent.objects.get(type="auth.token.reused")
    assert json.loads(bytes(reuse.canon))["data"]["same_place"] is False


def test_reuse_after_the_session_ended_is_simply_refused() -> None:
    session, pair = made.tokens_of(people.BuyerFactory.create())
    rotate(str(pair.refresh_token))
    sessions.end(session, by=made.HERE, why="sign_out")

    with pytest.raises(tokens.InvalidToken):
        rotate(str(pair.refresh_token))

    assert not AuditEvent.objects.filter(type="auth.token.reused").exists()


@pytest.mark.parametrize("end", ["idle_expires_at", "absolute_expires_at"])
def test_refresh_token_does_not_outlive_its_session(end: str) -> None:
    session, pair = made.tokens_of(people.BuyerFactory.create())
    past = timezone.now() - timedelta(seconds=1)
    UserSession.objects.filter(pk=session.pk).update(
        **{"created_at": past - timedelta(days=1), "idle_expires_at": past, end: past}
    )

    with pytest.raises(tokens.InvalidToken):
        rotate(str(pair.refresh_token))


def test_refresh_token_dies_with_the_account() -> None:
    user = people.BuyerFactory.create()
    _session, pair = made.tokens_of(user)
    User.objects.filter(pk=user.pk).update(is_active=False)

    with pytest.raises(tokens.InvalidToken):
        rotate(str(pair.refresh_token))


def test_family_ends_when_its_sign_in_does_however_often_it_is_exchanged() -> None:
    session, pair = made.tokens_of(people.BuyerFactory.create())

    child = rotate(str(pair.refresh_token))
    rotate(str(child.refresh_token))

    assert {row.expires_at for row in RefreshToken.objects.all()} == {session.absolute_expires_at}
    assert AuditEvent.objects.filter(type="auth.token.refreshed", target_id=str(session.pk)).count() == 2


def test_exchange_counts_as_use_of_the_session() -> None:
    session, pair = made.tokens_of(people.BuyerFactory.create())
    long_ago = timezone.now() - timedelta(minutes=30)
    UserSession.objects.filter(pk=session.pk).update(last_seen_at=long_ago)

    rotate(str(pair.refresh_token))

    session.refresh_from_db()
    assert session.last_seen_at > long_ago


@racing
def test_twenty_simultaneous_exchanges_have_one_winner(race: Race, settings: Any) -> None:
    settings.REFRESH_REUSE_GRACE_SECONDS = 600  # twenty threads of a busy machine need more than ten
    session, pair = made.tokens_of(people.BuyerFactory.create())

    outcomes = race([partial(rotate, str(pair.refresh_token))] * 20)

    winners = [outcome for outcome in outcomes if isinstance(outcome, tokens.TokenPair)]
    assert len(winners) == 1
    assert all(isinstance(outcome, tokens.TokenPair | tokens.RefreshTokenJustUsed) for outcome in outcomes), (
        outcomes
    )
    assert RefreshToken.objects.filter(session=session).count() == 2
    assert rotate(str(winners[0].refresh_token)).refresh_token
