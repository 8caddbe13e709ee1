"""Messages: written with the change, sent after it, to stored addresses only."""

from __future__ import annotations

import datetime as dt
import json
from functools import partial
from smtplib import SMTPServerDisconnected
from typing import Any

import pytest
from django.core import mail as django_mail
from django.db import connection, transaction
from django.template import TemplateDoesNotExist
from django.utils import timezone, translation
from procrastinate.contrib.django.models import ProcrastinateJob

from accounts.models import User
from mestore.lib import actor
from monitoring import audit, delivery, events, sms, tasks
from monitoring.models import AuditEvent
from monitoring.outbox import OutboxMessage
from tests.factories.accounts import BuyerFactory, ImportedVendorFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
committed = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

BY = actor.system("test")
CODE = "481516"
CONTEXT = {"code": CODE, "minutes": 10}


def write(user: User, **options: Any) -> OutboxMessage:
    with transaction.atomic():
        (message_id,) = delivery.notify(user, "email_verification", CONTEXT, by=BY, **options)
    return OutboxMessage.objects.get(pk=message_id)


def recorded(event: str) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(type=event))


# Wrong cases


@committed
def test_message_outside_of_a_transaction_is_refused() -> None:
    user = BuyerFactory.create()

    with pytest.raises(audit.NotInTransaction):
        delivery.notify(user, "email_verification", CONTEXT, by=BY)

    assert not OutboxMessage.objects.exists()


@committed
def test_change_that_is_rolled_back_tells_nobody() -> None:
    user = BuyerFactory.create()

    def change_that_fails() -> None:
        with transaction.atomic():
            delivery.notify(user, "email_verification", CONTEXT, by=BY)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change_that_fails()

    assert not OutboxMessage.objects.exists()
    assert not ProcrastinateJob.objects.exists()


def test_unknown_template_is_an_error_of_the_caller() -> None:
    with pytest.raises(TemplateDoesNotExist):
        delivery.notify(BuyerFactory.create(), "no_such", {}, by=BY)


def test_account_without_an_address_is_told_nothing() -> None:
    assert delivery.notify(ImportedVendorFactory.create(), "email_verification", CONTEXT, by=BY) == []


def test_text_message_needs_a_number() -> None:
    with pytest.raises(ValueError, match="telephone"):
        delivery.sms(BuyerFactory.create(), "phone_verification", CONTEXT, by=BY)


def test_mail_server_away_keeps_the_message_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    message = write(BuyerFactory.create())
    now = timezone.now()

    def away(_self: object) -> int:
        raise SMTPServerDisconnected("550 <person@example.com> refused")

    with monkeypatch.context() as patched:
        patched.setattr(django_mail.EmailMessage, "send", away)
        assert delivery.send(message.pk, now=now) is False

    message.refresh_from_db()
    assert (message.attempts, message.last_error) == (1, "SMTPServerDisconnected")
    assert delivery.send(message.pk, now=now) is False, "not before the pause is over"
    assert delivery.send_due(now=message.next_attempt_at) == 1
    assert [sent.to for sent in django_mail.outbox] == [[message_address(message)]]
    assert not OutboxMessage.objects.exists()


def message_address(message: OutboxMessage) -> str:
    address: str = json.loads(message.payload or "{}")["to"]
    return address


def test_message_that_lost_its_use_is_never_sent() -> None:
    message = write(BuyerFactory.create(), expires_at=timezone.now() + dt.timedelta(minutes=10))
    late = message.expires_at

    assert delivery.send(message.pk, now=late) is False
    assert delivery.send_due(now=late) == 0

    assert not django_mail.outbox
    assert not OutboxMessage.objects.exists()
    assert len(recorded(events.MESSAGE_GIVEN_UP)) == 1


def test_message_whose_job_was_lost_is_due_again() -> None:
    message = write(BuyerFactory.create())

    assert delivery.send_due(now=message.created_at) == 0
    assert tasks.deliver_due(timestamp=0) == 0
    assert delivery.send_due(now=message.next_attempt_at) == 1


def test_worker_that_dies_while_sending_leaves_the_message_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = write(BuyerFactory.create())

    def killed(_self: object) -> int:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(django_mail.EmailMessage, "send", killed)
        with pytest.raises(SystemExit):
            delivery.send(message.pk)

    message.refresh_from_db()
    assert delivery.send_due(now=message.next_attempt_at) == 1
    assert len(django_mail.outbox) == 1


def test_payload_moved_to_another_row_is_not_sent() -> None:
    mine, other = write(BuyerFactory.create()), write(BuyerFactory.create())
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE monitoring_outboxmessage SET payload ="
            " (SELECT payload FROM monitoring_outboxmessage WHERE id = %s) WHERE id = %s",
            [other.pk, mine.pk],
        )

    assert delivery.send(mine.pk) is False

    assert OutboxMessage.objects.get(pk=mine.pk).last_error == "Unreadable"
    assert not django_mail.outbox


@committed
def test_two_workers_send_a_message_once(race: Any) -> None:
    message = write(BuyerFactory.create())

    outcomes = race([partial(delivery.send, message.pk)] * 8)

    assert sorted(outcomes) == [False] * 7 + [True]
    assert len(django_mail.outbox) == 1


@pytest.mark.parametrize(
    "value", ["a\r\nBcc: thief@example.com", "a\u2028b", "x\x00y\n\nhttps://evil.example"]
)
def test_no_value_adds_a_line_or_a_header(value: str) -> None:
    with transaction.atomic():
        delivery.notify(BuyerFactory.create(), "email_verification", {"code": value, "minutes": 1}, by=BY)
        (plain,) = delivery.notify(BuyerFactory.create(), "email_verification", CONTEXT, by=BY)
    delivery.send(plain)
    delivery.send_due(now=timezone.now() + delivery.GRACE)

    lines = [sent.body.count("\n") for sent in django_mail.outbox]
    assert lines[0] == lines[1]
    assert all(
        sent.subject and sent.extra_headers.keys() == {"Auto-Submitted"} for sent in django_mail.outbox
    )


def test_nothing_of_a_waiting_message_is_readable_in_the_database() -> None:
    user = BuyerFactory.create()
    write(user)

    with connection.cursor() as cursor:
        for table in ("monitoring_outboxmessage", "procrastinate_jobs", "audit_event"):
            cursor.execute(f"SELECT string_agg(t::text, '') FROM {table} t")  # noqa: S608 # names from above
            held = cursor.fetchone()[0]
            for secret in (CODE, user.email):
                assert secret not in held
                assert secret.encode().hex() not in held


# What it is for


def test_job_carries_the_id_alone_and_sends() -> None:
    message = write(BuyerFactory.create(email="ana@example.com"))

    job = ProcrastinateJob.objects.get(task_name=delivery.JOB)
    assert job.args == {"message_id": str(message.pk)}
    assert tasks.deliver(**job.args) is True

    (sent,) = django_mail.outbox
    assert sent.to == ["ana@example.com"]
    assert CODE in sent.body
    assert sent.extra_headers == {"Auto-Submitted": "auto-generated"}
    assert tasks.deliver(**job.args) is False
    assert [event.target_id for event in recorded(events.MESSAGE_SENT)] == [message.subject]


def test_language_of_the_reader_is_spanish_unless_they_chose_english() -> None:
    spanish, english = BuyerFactory.create(), BuyerFactory.create(language="en")
    for user in (spanish, english):
        delivery.send(write(user).pk)

    subject = "Your MeStore verification code"
    with translation.override("es"):
        spanish_subject = translation.gettext(subject)
    assert [sent.subject for sent in django_mail.outbox] == [spanish_subject, subject]


def test_second_address_is_told_too_and_once() -> None:
    user = BuyerFactory.build(email="ana@example.com")
    user.recovery_email = "second@example.com"

    with transaction.atomic():
        both = delivery.notify(user, "email_verification", CONTEXT, by=BY, second_address=True)
        user.recovery_email = user.email
        one = delivery.notify(user, "email_verification", CONTEXT, by=BY, second_address=True)

    assert (len(both), len(one)) == (2, 1)
    for message_id in both:
        delivery.send(message_id)
    assert [sent.to for sent in django_mail.outbox] == [["ana@example.com"], ["second@example.com"]]


def test_text_message_goes_through_the_port(capsys: pytest.CaptureFixture[str]) -> None:
    user = BuyerFactory.create(telefono="+573001234567")
    with transaction.atomic():
        message_id = delivery.sms(user, "phone_verification", CONTEXT, by=BY)

    assert delivery.send(message_id) is True

    printed = capsys.readouterr().out
    assert "+573001234567" in printed
    assert CODE in printed


def test_text_message_without_a_provider_waits(settings: Any) -> None:
    settings.SMS_BACKEND = ""
    user = BuyerFactory.create(telefono="+573001234567")
    with transaction.atomic():
        message_id = delivery.sms(user, "phone_verification", CONTEXT, by=BY)

    assert not sms.is_available()
    assert delivery.send(message_id) is False
    assert OutboxMessage.objects.get(pk=message_id).last_error == "NotSent"


def test_decoy_costs_the_same_statements_and_sends_nothing(django_assert_num_queries: Any) -> None:
    user = BuyerFactory.create()
    with transaction.atomic():
        with django_assert_num_queries(3):
            delivery.notify(user, "email_verification", CONTEXT, by=BY)
        with django_assert_num_queries(3):
            decoy = delivery.decoy("email_verification", CONTEXT, by=BY)

    assert delivery.send(decoy) is True
    assert not django_mail.outbox
    assert not OutboxMessage.objects.filter(pk=decoy).exists()
    assert len(recorded(events.MESSAGE_NOT_DUE)) == 1
    assert not recorded(events.MESSAGE_SENT)
