"""What people agree to: recorded as it was shown, asked again when it changes, never rewritten."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from accounts import consent_texts, consents, deletion, registration
from accounts.consents import Decision
from accounts.models import Consent, User
from accounts.registration import Registration, Shop
from accounts.roles import Role
from mestore.lib import actor, errors
from mestore.lib.actor import Actor
from monitoring import events, revealing
from monitoring.models import AuditEvent
from tests.factories.accounts import AdminFactory, BuyerFactory, MachineFactory, VendorFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
committing = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
STRANGER = Actor(kind="anonymous", address="203.0.113.5", agent="Firefox", request_id="r-1")
PASSWORD = "four blue lamps on the river"


def oneself(user: User, **changes: Any) -> Actor:
    by = Actor(
        kind="user", id=str(user.pk), label=user.email, role=user.user_type, address="203.0.113.5",
        agent="Firefox", session_id=str(uuid4()),
    )  # fmt: skip
    return dataclasses.replace(by, **changes)


def yes(name: str, language: str = "es", **changes: Any) -> Decision:
    document = consent_texts.find(name)
    assert document is not None
    text = consent_texts.text_of(document, language)
    return dataclasses.replace(Decision(name, True, document.version, text.sha256), **changes)


def states(user: User) -> dict[str, str]:
    return {row.document.name: row.state for row in consents.standing(user)}


def next_version(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As if a new version had been published: the same words under another name."""
    old = consent_texts.find(name)
    assert old is not None
    made = dataclasses.replace(old, version="2027-01")
    files = {language: consent_texts.file_of(old, language) for language in old.digests}
    real = consent_texts.file_of
    monkeypatch.setattr(
        consent_texts, "file_of",
        lambda document, language: files[language] if document == made else real(document, language),
    )  # fmt: skip
    monkeypatch.setattr(
        consent_texts, "CURRENT", tuple(made if one is old else one for one in consent_texts.CURRENT)
    )
    consent_texts._read.cache_clear()


# --- The texts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", consent_texts.CURRENT, ids=lambda one: one.name)
def test_every_text_stands_in_both_languages_as_it_was_pinned(document: consent_texts.Document) -> None:
    assert set(document.digests) == {"es", "en"}
    for language, digest in document.digests.items():
        content = consent_texts.file_of(document, language).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
        text = consent_texts.text_of(document, language)
        assert (text.language, text.sha256) == (language, digest)
        assert text.title
        assert len(text.body) > 100
    assert consent_texts.text_of(document, "es-co").language == "es"
    assert consent_texts.text_of(document, "fr").language == "es"
    assert consent_texts.text_of(document, None).language == "es"


def test_a_text_that_was_changed_under_its_version_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    other = tmp_path / "text"
    other.write_text("Something else\nthat nobody agreed to")
    monkeypatch.setattr(consent_texts, "file_of", lambda *_which: other)
    consent_texts._read.cache_clear()

    with pytest.raises(ImproperlyConfigured, match="another version"):
        consent_texts.text_of(consent_texts.CURRENT[0], "es")


# --- Deciding ---------------------------------------------------------------------------------------------


def test_nothing_is_agreed_to_until_somebody_says_so() -> None:
    assert states(BuyerFactory.create()) == {"habeas_data": "pending", "data_processing": "pending"}
    assert set(states(VendorFactory.create())) == {"habeas_data", "data_processing", "vendor_terms"}
    assert states(MachineFactory.create()) == {}


def test_agreeing_and_taking_back_are_kept_side_by_side() -> None:
    user = BuyerFactory.create()
    by = oneself(user)

    first = consents.decide(user, yes("data_processing", "en"), by=by)
    assert states(user)["data_processing"] == "given"
    second = consents.decide(user, Decision("data_processing", False), by=by)

    assert states(user) == {"habeas_data": "pending", "data_processing": "refused"}
    assert [row.pk for row in consents.decisions(user.pk)] == [second.pk, first.pk]
    assert (first.language, first.given, first.channel) == ("en", True, "api")
    assert first.purposes == ["commercial_messages", "statistics"]
    assert str(first.session_id) == by.session_id
    given, refused = (AuditEvent.objects.get(pk=row.event_id) for row in (first, second))
    assert (given.type, refused.type) == (events.CONSENT_GIVEN, events.CONSENT_REFUSED)


def test_from_where_it_came_is_sealed_in_the_event_not_in_the_row() -> None:
    user = BuyerFactory.create()
    made = consents.decide(user, yes("habeas_data"), by=oneself(user))

    event = revealing.find(made.event_id)
    assert event is not None
    with transaction.atomic():
        shown = dict(revealing.reveal(event, reason="asked for in writing", by=actor.system("test")).values)
    assert (shown["address"], shown["agent"]) == ("203.0.113.5", "Firefox")
    row = Consent.objects.values().get(pk=made.pk)
    assert not {"203.0.113.5", "Firefox", user.email} & {str(value) for value in row.values()}


def test_the_same_words_twice_are_one_decision() -> None:
    user = BuyerFactory.create()

    first = consents.decide(user, yes("habeas_data"), by=oneself(user))
    again = consents.decide(user, yes("habeas_data", "en"), by=oneself(user))

    assert again.pk == first.pk
    assert Consent.objects.count() == 1


@committing
def test_the_same_words_at_the_same_moment_are_one_decision(race: Callable[..., list[Any]]) -> None:
    user = BuyerFactory.create()

    answers = race([partial(consents.decide, user, yes("habeas_data"), by=oneself(user))] * 6)

    assert len({row.pk for row in answers}) == 1
    assert Consent.objects.count() == 1


@pytest.mark.parametrize(
    "changes",
    [{"text_sha256": "0" * 64}, {"text_sha256": ""}, {"version": ""}, {"version": "1999-01"}],
)  # fmt: skip
def test_nobody_agrees_to_what_they_were_not_shown(changes: dict[str, str]) -> None:
    user = BuyerFactory.create()

    with pytest.raises(consents.TextChanged):
        consents.decide(user, yes("habeas_data", **changes), by=oneself(user))

    assert Consent.objects.count() == 0


def test_taking_back_is_never_refused_for_its_version() -> None:
    user = BuyerFactory.create()
    consents.decide(user, yes("habeas_data"), by=oneself(user))

    consents.decide(user, Decision("habeas_data", False, "1999-01", "f" * 64), by=oneself(user))

    assert states(user)["habeas_data"] == "refused"


def test_a_new_version_asks_again_and_what_was_said_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    user = BuyerFactory.create()
    consents.decide(user, yes("habeas_data"), by=oneself(user))
    old = yes("habeas_data")

    next_version(monkeypatch, "habeas_data")

    assert states(user)["habeas_data"] == "pending"
    assert [row.version for row in consents.decisions(user.pk)] == ["2026-11"]
    with pytest.raises(consents.TextChanged):
        consents.decide(user, old, by=oneself(user))
    consents.decide(user, yes("habeas_data"), by=oneself(user))
    assert states(user)["habeas_data"] == "given"
    assert [row.version for row in consents.decisions(user.pk)] == ["2027-01", "2026-11"]


def test_nobody_decides_for_somebody_else() -> None:
    user, other = BuyerFactory.create(), AdminFactory.create()

    for by in (oneself(other), oneself(user, impersonator=str(other.pk)), STRANGER, actor.system("x")):
        with pytest.raises(consents.NotOneself):
            consents.decide(user, yes("habeas_data"), by=by)

    assert Consent.objects.count() == 0


def test_a_text_for_others_or_for_nobody_is_not_found() -> None:
    user = BuyerFactory.create()

    for name in ("vendor_terms", "nothing", ""):
        with pytest.raises(consents.UnknownText):
            consents.decide(user, Decision(name, True), by=oneself(user))


def test_an_account_that_was_deleted_meanwhile_decides_nothing() -> None:
    user = BuyerFactory.create()
    User.objects.filter(pk=user.pk).update(deleted_at=timezone.now(), is_active=False)

    with pytest.raises(consents.NotOneself):
        consents.decide(user, yes("habeas_data"), by=oneself(user))


def test_deciding_without_end_is_limited() -> None:
    user = BuyerFactory.create()

    def change_their_mind() -> None:
        for number in range(2 * consents.LIMIT.limit):
            given = yes("data_processing") if number % 2 else Decision("data_processing", False)
            consents.decide(user, given, by=oneself(user))

    with pytest.raises(errors.TooManyRequests):
        change_their_mind()


def test_where_everything_stands_costs_one_statement() -> None:
    user = VendorFactory.create()
    for name in ("habeas_data", "vendor_terms"):
        consents.decide(user, yes(name), by=oneself(user))

    with CaptureQueriesContext(connection) as statements:
        assert states(user) == {
            "habeas_data": "given", "data_processing": "pending", "vendor_terms": "given",
        }  # fmt: skip

    assert len(statements) == 1


# --- Registration -----------------------------------------------------------------------------------------


def register(role: Role, shop: Shop | None = None, **said: bool) -> User:
    given = Registration(
        "ana@example.com", PASSWORD, role, {"nombre": "Ana"}, shop=shop or Shop(), consents=said
    )
    user = registration.register(given, by=STRANGER)
    assert user is not None
    return user


def test_what_a_registration_says_is_recorded_in_the_language_it_was_read_in() -> None:
    with translation.override("en"):
        user = register(Role.BUYER, habeas_data=True, data_processing=False)

    rows = {row.document: row for row in consents.decisions(user.pk)}
    assert {name: row.given for name, row in rows.items()} == {"habeas_data": True, "data_processing": False}
    assert {row.channel for row in rows.values()} == {"registration"}
    assert {row.language for row in rows.values()} == {"en"}
    assert states(user) == {"habeas_data": "given", "data_processing": "refused"}


def test_what_it_does_not_say_is_asked_later() -> None:
    assert states(register(Role.BUYER)) == {"habeas_data": "pending", "data_processing": "pending"}


def test_terms_of_vendors_are_a_consent_too() -> None:
    user = register(Role.VENDOR, Shop("Tienda", terms_accepted=True))

    made = consents.decisions(user.pk).get()
    assert (made.document, made.given, made.channel) == ("vendor_terms", True, "vendor_registration")


def test_a_registration_that_is_refused_leaves_no_consent() -> None:
    BuyerFactory.create(email="ana@example.com")

    with pytest.raises(registration.EmailRegistered):
        register(Role.BUYER, habeas_data=True)

    assert Consent.objects.count() == 0


# --- The rows ---------------------------------------------------------------------------------------------

CHANGES = [
    "UPDATE accounts_consent SET given = false",
    "DELETE FROM accounts_consent",
    "TRUNCATE accounts_consent",
]
INSERT = """
    INSERT INTO accounts_consent (id, person_id, document, version, language, text_sha256, purposes, given,
                                  at, channel, event_id)
    VALUES (gen_random_uuid(), gen_random_uuid(), 'habeas_data', '1', 'es', repeat('0', 64), '{}', true,
            now(), 'api', gen_random_uuid())
"""


@pytest.mark.parametrize("change", CHANGES)
def test_no_consent_is_changed_by_the_service_the_owner_or_a_superuser(
    change: str, app_dsn: str, owner_dsn: str, superuser_dsn: str
) -> None:
    with psycopg.connect(app_dsn) as runtime:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            runtime.execute(change)
        runtime.rollback()
    for dsn, before in ((owner_dsn, ""), (superuser_dsn, "SET session_replication_role = replica")):
        with psycopg.connect(dsn) as connected:
            if before:
                connected.execute(before)
            connected.execute(INSERT)
            with pytest.raises(psycopg.errors.RestrictViolation, match="decide anew"):
                connected.execute(change)
            connected.rollback()


@committing
def test_who_is_erased_leaves_what_they_agreed_to_and_nothing_personal() -> None:
    user = BuyerFactory.create()
    made = consents.decide(user, yes("habeas_data"), by=oneself(user))
    deletion.delete(user, reason="asked for in writing", by=actor.system("test"))

    deletion.erase(user.pk, reason="asked for in writing", confirmed=True, by=actor.system("test"))

    assert Consent.objects.get(pk=made.pk).given
    event = revealing.find(made.event_id)
    assert event is not None
    with transaction.atomic():
        revealed = revealing.reveal(event, reason="asked for in writing", by=actor.system("test"))
    assert (revealed.state, revealed.values) == ("erased", [])
