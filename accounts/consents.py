"""What people agree to: recording it, taking it back, and what is still to be asked.

Ley 1581 de 2012, arts. 9, 12 and 17 b, and Decreto 1377 de 2013, arts. 5, 7 and 8: consent is given before
data are processed, by a clear act, for named purposes, and the controller can prove it. So each decision is
a row of its own with the digest of the text that was shown; from where it came is sealed in its audit event.
A new version of a text asks again: what was decided about an earlier one does not count for it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils import translation
from django.utils.translation import gettext_lazy as _

from accounts import consent_texts
from accounts.consent_texts import Document, Text
from accounts.models import Consent, User
from mestore.lib import errors, throttle
from mestore.lib.actor import Actor
from monitoring import audit, events

State = Literal["pending", "given", "refused"]

LIMIT: Final = throttle.Limit("consents", 30, 3_600)
SHOWN: Final = 100


class UnknownText(errors.NotFound):
    message = _("There is no such text.")


class TextChanged(errors.Conflict):
    """What was agreed to is not what is shown now: another version, or a digest of other words."""

    code = "CONSENT_TEXT_CHANGED"
    message = _("The text has changed. Read it again and decide about it.")


class NotOneself(errors.Forbidden):
    """Whoever looks through another person's eyes agrees to nothing for them."""

    message = _("Only the person can decide about this.")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one text stands with one person. `decided_at` and `version`: of the newest decision, if any."""

    document: Document
    text: Text
    state: State
    decided_at: dt.datetime | None
    version: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody says about a text: which words they saw (`text_sha256`), needed to agree."""

    document: str
    given: bool
    version: str = ""
    text_sha256: str = ""


def standing(user: User) -> list[Standing]:
    """Return where each text stands that is asked of `user`. One statement."""
    newest = {
        row.document: row
        for row in Consent.objects.filter(person_id=user.pk).order_by("document", "-id").distinct("document")
    }
    language = translation.get_language()
    return [
        _standing(document, newest.get(document.name), language)
        for document in consent_texts.asked_of(user.role)
    ]


def decisions(person_id: UUID) -> QuerySet[Consent]:
    """Return every decision of a person, newest first."""
    return Consent.objects.filter(person_id=person_id).order_by("-id")


def decide(user: User, decision: Decision, *, by: Actor) -> Consent:
    """Record that a person agrees to a text, or does not or no longer; return the decision in force.

    Saying again what is in force adds nothing. Taking back is never refused, whatever version was meant; to
    agree, version and digest must be those of a text as it is shown now. Raise UnknownText, TextChanged,
    NotOneself, errors.TooManyRequests.
    """
    if by.id != str(user.pk) or by.impersonator is not None:
        raise NotOneself
    document = consent_texts.find(decision.document)
    if document is None or user.role not in document.roles:
        raise UnknownText
    language = _language_of(document, decision)
    allowed = throttle.hit([(LIMIT, str(user.pk))])
    if not allowed.allowed:
        raise errors.TooManyRequests(retry_after=allowed.retry_after)
    with transaction.atomic():
        # One at a time, so that the same words sent twice are one decision.
        held = User.objects.select_for_update(no_key=True).filter(pk=user.pk, deleted_at=None).first()
        if held is None:
            raise NotOneself
        last = decisions(held.pk).filter(document=document.name).first()
        if last is not None and (last.given, last.version) == (decision.given, document.version):
            return last
        text = consent_texts.text_of(document, language)
        return _write(held.pk, document, text, given=decision.given, channel=Consent.Channel.API, by=by)


def record_registration(
    user: User, said: Mapping[str, bool], *, channel: Consent.Channel, by: Actor
) -> list[Consent]:
    """Record what somebody said about the texts while opening their account, in that transaction.

    `said` names texts; those that nobody said anything about stay to be asked. The words are those of the
    language in which the registration was made.
    """
    made = []
    language = translation.get_language()
    for document in consent_texts.asked_of(user.role):
        if document.name in said:
            text = consent_texts.text_of(document, language)
            given = said[document.name]
            made.append(_write(user.pk, document, text, given=given, channel=channel, by=by))
    return made


def _standing(document: Document, row: Consent | None, language: str | None) -> Standing:
    text = consent_texts.text_of(document, language)
    if row is None:
        return Standing(document, text, "pending", None, None)
    state: State = "given" if row.given else "refused"
    if row.version != document.version:
        state = "pending"
    return Standing(document, text, state, row.at, row.version)


def _language_of(document: Document, decision: Decision) -> str | None:
    """Return in which language the text was read. Raise TextChanged when it is not the current one."""
    for language, digest in document.digests.items():
        if decision.text_sha256 == digest and decision.version == document.version:
            return language
    if decision.given:
        raise TextChanged
    return translation.get_language()


def _write(
    person_id: UUID, document: Document, text: Text, *, given: bool, channel: Consent.Channel, by: Actor
) -> Consent:
    event = audit.record(
        events.CONSENT_GIVEN if given else events.CONSENT_REFUSED,
        by=by,
        target=("user", str(person_id)),
        subject=str(person_id),
        data={
            "document": document.name, "version": document.version, "language": text.language,
            "sha256": text.sha256, "purposes": list(document.purposes), "channel": channel.value,
        },
    )  # fmt: skip
    return Consent.objects.create(
        person_id=person_id, document=document.name, version=document.version, language=text.language,
        text_sha256=text.sha256, purposes=list(document.purposes), given=given, channel=channel,
        session_id=UUID(by.session_id) if by.session_id else None, event_id=event,
    )  # fmt: skip
