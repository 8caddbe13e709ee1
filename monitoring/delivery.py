"""Telling people: messages written in the transaction of what they tell about, and sent after it.

`notify`, `mail` and `sms` render the message in the reader's language, seal it into one row and enqueue a
job whose only argument is the row's id; all of it is part of the caller's transaction. So a change that is
rolled back tells nobody, and a change that stands is told even when the mail server is away: the worker tries
again, for three days or until the message has no use.

Messages go only to addresses that a row of ours holds, never to one that came with the request. A template
is `templates/mail/<name>.txt` (its first line is the subject) or `templates/sms/<name>.txt`, without markup
or escaping; English texts go through gettext. Every template knows `site`, the address of the front end.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from smtplib import SMTPException
from typing import Any, Protocol
from uuid import UUID

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.template import Context, engines
from django.utils import timezone, translation
from procrastinate.contrib.django import app

from mestore.lib import actor, crypto
from mestore.lib.actor import Actor
from monitoring import audit, events
from monitoring import sms as text_messages
from monitoring.outbox import Channel, OutboxMessage

KEEP = dt.timedelta(days=3)
"""How long a message is tried, when nothing in it ends earlier."""
# The first job comes at once; should it be lost with its worker, the message is due again after this.
GRACE = dt.timedelta(minutes=2)
LONGEST_PAUSE = dt.timedelta(hours=1)
JOB = "monitoring.deliver"

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_CANNOT_SEND = (SMTPException, OSError, ValueError, text_messages.NotSent, crypto.Unreadable)

log = structlog.get_logger("mestore.delivery")


class Reader(Protocol):
    """An account, as far as a message needs to know it."""

    @property
    def pk(self) -> Any: ...
    @property
    def email(self) -> Any: ...
    @property
    def telefono(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address that a row of ours holds beside the account's own: a former one, one to be confirmed."""

    owner: str  # the account's id
    address: str
    language: str = ""


def notify(
    user: Reader,
    template: str,
    context: Mapping[str, Any],
    *,
    by: Actor,
    second_address: bool = False,
    expires_at: dt.datetime | None = None,
    at_once: bool = True,
) -> list[UUID]:
    """Mail `user` about something, with `second_address` at the recovery address too; return the ids.

    Without `at_once` the message has no job of its own: the next run of `send_due` takes it, within a minute.

    An account without an address (imported, a machine) is told nothing. Belongs inside the transaction of
    the change: raises `audit.NotInTransaction` outside of one, `TemplateDoesNotExist` for an unknown name.
    """
    addresses = [user.email, getattr(user, "recovery_email", "") if second_address else ""]
    boxes = [
        Mailbox(str(user.pk), address, _language(user)) for address in dict.fromkeys(addresses) if address
    ]
    return [mail(box, template, context, by=by, expires_at=expires_at, at_once=at_once) for box in boxes]


def notify_many(told: Sequence[tuple[Reader, Mapping[str, Any]]], template: str, *, by: Actor) -> None:
    """Mail each of these accounts with its own context, as `notify` does without `at_once`.

    As many statements for many as for one. Raises as `notify` does.
    """
    messages = []
    with audit.together():
        for user, context in told:
            if user.email:
                box = Mailbox(str(user.pk), user.email, _language(user))
                payload = _mail(box, template, context)
                messages.append(
                    _message(
                        Channel.MAIL, template, box.owner, payload, by=by, expires_at=None, at_once=False
                    )
                )
    OutboxMessage.objects.bulk_create(messages)


def mail(
    to: Mailbox,
    template: str,
    context: Mapping[str, Any],
    *,
    by: Actor,
    expires_at: dt.datetime | None = None,
    at_once: bool = True,
) -> UUID:
    """Mail one stored address; return the message's id. Raises as `notify` does."""
    payload = _mail(to, template, context)
    return _put(Channel.MAIL, template, to.owner, payload, by=by, expires_at=expires_at, at_once=at_once)


def _mail(to: Mailbox, template: str, context: Mapping[str, Any]) -> dict[str, str]:
    subject, _newline, body = _render(f"mail/{template}.txt", context, to.language).partition("\n")
    return {"to": to.address, "subject": subject.strip(), "text": body.strip() + "\n"}


def sms(
    user: Reader,
    template: str,
    context: Mapping[str, Any],
    *,
    by: Actor,
    expires_at: dt.datetime | None = None,
) -> UUID:
    """Send a text message to the account's telephone; return its id. Raises as `notify` does, and
    ValueError for an account without a number: ask before.
    """
    if not user.telefono:
        raise ValueError("the account has no telephone number")
    text = " ".join(_render(f"sms/{template}.txt", context, _language(user)).split())
    payload = {"to": user.telefono, "text": text}
    return _put(Channel.SMS, template, str(user.pk), payload, by=by, expires_at=expires_at)


def decoy(
    template: str, context: Mapping[str, Any], *, by: Actor, expires_at: dt.datetime | None = None
) -> UUID:
    """Do the work of `mail` for nobody, where an answer must not tell whether there is an account.

    The same rendering and the same statements; the worker deletes the row and sends nothing.
    """
    subject, _newline, body = _render(f"mail/{template}.txt", context, "").partition("\n")
    payload = {"to": "nobody@invalid", "subject": subject.strip(), "text": body.strip() + "\n"}
    return _put(Channel.NONE, template, "", payload, by=by, expires_at=expires_at)


def send(message_id: UUID, *, now: dt.datetime | None = None) -> bool:
    """Try to send one message; return whether it is sent. A failure is kept with the row, for later.

    Two workers with the same message: one of them sends. A worker that dies between sending and deleting
    leads to a second copy, never to none.
    """
    now = now or timezone.now()
    message = OutboxMessage.objects.filter(pk=message_id, expires_at__gt=now).first()
    if message is None or not message.claim(now, _pause(message.attempts)):
        return False
    try:
        _hand_over(message)
    except _CANNOT_SEND as error:
        # The text of such an error quotes addresses and what the server said: its name is enough.
        name = type(error).__name__
        OutboxMessage.objects.filter(pk=message.pk).update(last_error=name)
        log.warning("message_not_sent", message_id=str(message.pk), template=message.template, error=name)
        return False
    _finish(message, events.MESSAGE_SENT)
    return True


def send_due(*, now: dt.datetime | None = None, batch: int = 100) -> int:
    """Try messages whose time has come, give up those that are too late; return how many were sent."""
    now = now or timezone.now()
    for late in OutboxMessage.objects.filter(expires_at__lte=now).order_by("expires_at")[:batch]:
        log.error("message_given_up", message_id=str(late.pk), template=late.template, error=late.last_error)
        _finish(late, events.MESSAGE_GIVEN_UP)
    due = OutboxMessage.objects.filter(next_attempt_at__lte=now, expires_at__gt=now)
    ids = due.order_by("next_attempt_at").values_list("pk", flat=True)[:batch]
    return sum(send(message_id, now=now) for message_id in list(ids))


def _language(user: Reader) -> str:
    return str(getattr(user, "language", "") or "")


def _render(name: str, context: Mapping[str, Any], language: str) -> str:
    """Return the text of a template in `language`, else in the default one."""
    values = {key: _one_line(value) for key, value in context.items()}
    with translation.override(language or settings.LANGUAGE_CODE):
        template = engines["django"].get_template(name)
        # Plain text: nothing is escaped, and no value can add a line.
        rendered: str = template.template.render(  # type: ignore[attr-defined] # of this engine's templates
            Context({"site": settings.FRONTEND_URL, **values}, autoescape=False)
        )
    return rendered.strip()


def _one_line(value: Any) -> Any:
    return _CONTROL.sub(" ", value) if isinstance(value, str) else value


def _put(
    channel: Channel,
    template: str,
    owner: str,
    payload: Mapping[str, str],
    *,
    by: Actor,
    expires_at: dt.datetime | None,
    at_once: bool = True,
) -> UUID:
    message = _message(channel, template, owner, payload, by=by, expires_at=expires_at, at_once=at_once)
    message.save(force_insert=True)
    if at_once:
        app.configure_task(JOB).defer(message_id=str(message.pk))
    return message.pk


def _message(
    channel: Channel, template: str, owner: str, payload: Mapping[str, str], *, by: Actor,
    expires_at: dt.datetime | None, at_once: bool,
) -> OutboxMessage:  # fmt: skip
    """Record that somebody is told, and return the row that says what; the caller saves it."""
    now = timezone.now()
    audit.record(
        events.MESSAGE_NOT_DUE if channel is Channel.NONE else events.MESSAGE_QUEUED,
        by=by,
        target=("user", owner) if owner else None,
        data={"channel": channel.value, "template": template},
    )
    return OutboxMessage(
        channel=channel,
        template=template,
        subject=owner,
        payload=json.dumps(payload),
        created_at=now,
        expires_at=min(expires_at or now + KEEP, now + KEEP),
        next_attempt_at=now + GRACE if at_once else now,
    )


def _hand_over(message: OutboxMessage) -> None:
    given: dict[str, str] = json.loads(message.payload or "{}")
    if message.channel == Channel.MAIL:
        EmailMessage(
            given["subject"], given["text"], to=[given["to"]], headers={"Auto-Submitted": "auto-generated"}
        ).send()
    elif message.channel == Channel.SMS:
        text_messages.send(given["to"], given["text"])


def _finish(message: OutboxMessage, event: str) -> None:
    with transaction.atomic():
        gone, _tables = OutboxMessage.objects.filter(pk=message.pk).delete()
        if gone and message.channel != Channel.NONE:
            audit.record(
                event,
                by=actor.system("worker"),
                target=("user", message.subject) if message.subject else None,
                data={"channel": message.channel, "template": message.template, "attempts": message.attempts},
            )


def _pause(attempts: int) -> dt.timedelta:
    """Two minutes, then four, eight, … to an hour; longer than any attempt takes."""
    doubled: dt.timedelta = GRACE * (1 << min(attempts, 10))
    return min(doubled, LONGEST_PAUSE)
