"""Backup codes: once, by their owner, of the newest set; and nothing of them is in the database."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction

from accounts import backup_codes, factors, hashers, lockout
from accounts.backup_codes import MalformedBackupCode, WrongBackupCode
from accounts.models import BackupCode, BackupCodeSet, LockoutCounter, User
from mestore.lib import actor
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from monitoring.outbox import OutboxMessage
from tests.factories.accounts import AdminFactory, BuyerFactory, TotpDeviceFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
committed = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

BY = Actor(kind="anonymous", address="203.0.113.9")
SHAPE = re.compile(r"[A-Z2-7]{4}-[A-Z2-7]{4}-[A-Z2-7]{4}-[A-Z2-7]{5}")


@pytest.fixture
def user() -> User:
    made: User = TotpDeviceFactory.create().user
    return made


@pytest.fixture
def codes(user: User) -> list[str]:
    return backup_codes.regenerate(user, by=BY)


def use(user: User, code: str) -> str:
    """What a sign-in does with a code."""
    match = backup_codes.check(user, code, by=BY)
    with transaction.atomic():
        return match.use(by=BY)


def counters() -> set[str]:
    return set(LockoutCounter.objects.using("audit").values_list("kind", flat=True))


def altered(code: str) -> str:
    """The same selector with another verifier."""
    return code[:-1] + ("A" if code[-1] != "A" else "B")


# What is not a code


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "ABCD",
        "ABCD-EFGH-IJKL-MNOP",
        "ABCD-EFGH-IJKL-MNOPQR",
        "ABCD-EFGH-IJKL-MNOP9",
        "ABCD-EFGH-IJKL-MNOP\x00",
        "ＡBCD-EFGH-IJKL-MNOPQ",
        "ıBCD-EFGH-IJKL-MNOPQ",
        "ſBCD-EFGH-IJKL-MNOPQ",
        "ABCD_EFGH_IJKL_MNOPQ",
        "ABCDEFGHIJKLMNOPQ" + " " * 60,
        "٤BCD-EFGH-IJKL-MNOPQ",
        None,
        12345678901234567,
        b"ABCDEFGHIJKLMNOPQ",
        ["ABCDEFGHIJKLMNOPQ"],
    ],
)
def test_anything_else_is_malformed_and_costs_no_attempt(
    user: User, codes: list[str], malformed: Any
) -> None:
    with pytest.raises(MalformedBackupCode) as refused:
        backup_codes.check(user, malformed, by=BY)

    assert refused.value.status == 400
    assert counters() == set()


def test_wrong_code_is_refused_counted_and_recorded(user: User, codes: list[str]) -> None:
    with pytest.raises(WrongBackupCode) as refused:
        backup_codes.check(user, altered(codes[0]), by=BY)

    assert refused.value.status == 401
    assert counters() == {"backup_code:account", "backup_code:network", "backup_code:pair"}
    assert AuditEvent.objects.using("audit").filter(type="auth.factor.refused").count() == 1


def test_codes_have_a_budget_of_their_own(user: User, codes: list[str]) -> None:
    for _attempt in range(5):
        with pytest.raises(WrongBackupCode):
            backup_codes.check(user, altered(codes[0]), by=BY)

    with pytest.raises(lockout.LockedOut):
        backup_codes.check(user, codes[0], by=BY)
    factors.open_attempt(user, factors.TOTP, by=BY)


def test_account_without_codes_is_refused_like_a_wrong_code() -> None:
    with pytest.raises(WrongBackupCode):
        backup_codes.check(BuyerFactory.create(), "ABCDEFGHIJKLMNOPQ", by=BY)


def test_code_of_somebody_else_is_refused(codes: list[str]) -> None:
    other = AdminFactory.create()
    backup_codes.regenerate(other, by=BY)

    with pytest.raises(WrongBackupCode):
        backup_codes.check(other, codes[0], by=BY)
    assert backup_codes.find_right(other, codes[0]) is None
    assert backup_codes.find_right(None, codes[0]) is None


@pytest.mark.parametrize("copied", ["verifier", "verifier, selector", "verifier, selector, generation"])
def test_row_copied_to_another_account_opens_nothing(user: User, codes: list[str], copied: str) -> None:
    victim = AdminFactory.create()
    backup_codes.regenerate(victim, by=BY)
    mine = BackupCode.objects.get(code_set__user=user, selector=codes[0][:4])
    theirs = BackupCode.objects.filter(code_set__user=victim)[:1].get()
    for name in copied.split(", "):
        setattr(theirs, name, getattr(mine, name))
    theirs.save()
    if "generation" in copied:
        BackupCodeSet.objects.filter(user=victim).update(generation=mine.generation)
    code = theirs.selector + codes[0][4:]

    with pytest.raises(WrongBackupCode):
        backup_codes.check(victim, code, by=BY)


def test_set_handed_to_another_account_opens_nothing(user: User, codes: list[str]) -> None:
    victim = AdminFactory.create()
    BackupCodeSet.objects.filter(user=user).update(user=victim)

    with pytest.raises(WrongBackupCode):
        backup_codes.check(victim, codes[0], by=BY)


# Once


def test_code_works_once_and_a_replay_locks_nobody(user: User, codes: list[str]) -> None:
    use(user, codes[0])

    for _attempt in range(6):
        with pytest.raises(WrongBackupCode):
            backup_codes.check(user, codes[0], by=BY)

    assert counters() == set()
    assert use(user, codes[1])


def test_failed_use_leaves_the_code_good(user: User, codes: list[str]) -> None:
    match = backup_codes.check(user, codes[0], by=BY)

    def sign_in_that_fails() -> None:
        with transaction.atomic():
            match.use(by=BY)
            raise RuntimeError("the session could not be started")

    with pytest.raises(RuntimeError):
        sign_in_that_fails()

    assert backup_codes.remaining(user) == 10
    assert use(user, codes[0])


@committed
def test_one_of_twenty_at_once_uses_a_code(race: Callable[..., list[Any]]) -> None:
    user = AdminFactory.create()
    code = backup_codes.regenerate(user, by=BY)[0]
    matches = [backup_codes.check(user, code, by=BY) for _twin in range(20)]

    def use_up(match: backup_codes.Match) -> str:
        with transaction.atomic():
            return match.use(by=BY)

    outcomes = race([partial(use_up, match) for match in matches])

    assert sum(isinstance(outcome, str) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, WrongBackupCode) for outcome in outcomes) == 19
    assert backup_codes.remaining(user) == 10


@committed
def test_two_new_sets_at_once_leave_one(race: Callable[..., list[Any]]) -> None:
    user = AdminFactory.create()

    sets = race([partial(backup_codes.regenerate, user, by=BY)] * 2)

    assert backup_codes.remaining(user) == 10
    good = [backup_codes.find_right(user, made[0]) is not None for made in sets]
    assert sorted(good) == [False, True]


def test_each_use_brings_one_new_code(user: User, codes: list[str]) -> None:
    replacement = use(user, codes[0])

    assert SHAPE.fullmatch(replacement)
    assert replacement not in codes
    assert backup_codes.remaining(user) == 10
    assert use(user, replacement)
    event = AuditEvent.objects.filter(type="auth.backup_codes.used").first()
    assert event is not None
    assert replacement[5:].encode() not in bytes(event.canon)


def test_new_set_ends_the_old_one(user: User, codes: list[str]) -> None:
    match = backup_codes.check(user, codes[0], by=BY)
    fresh = backup_codes.regenerate(user, by=BY)

    with pytest.raises(WrongBackupCode), transaction.atomic():
        match.use(by=BY)
    with pytest.raises(WrongBackupCode):
        backup_codes.check(user, codes[1], by=BY)
    assert use(user, fresh[0])


def test_what_follows_is_prepared_for_this_code_of_this_account_only(user: User, codes: list[str]) -> None:
    other = TotpDeviceFactory.create().user
    backup_codes.regenerate(other, by=BY)
    foreign = BackupCode.objects.filter(code_set__user=other)[0]
    mine = BackupCode.objects.filter(code_set__user=user).exclude(selector=codes[0][:4])[0]
    stolen = {"next_selector": foreign.next_selector, "next_verifier": foreign.next_verifier}
    BackupCode.objects.filter(pk=mine.pk).update(**stolen)
    code = next(one for one in codes if one.startswith(mine.selector))

    following = use(user, code)

    with pytest.raises(WrongBackupCode):
        use(user, following)
    assert use(user, use(user, codes[0]))


def test_what_follows_opens_nothing_before_its_turn(user: User, codes: list[str]) -> None:
    row = BackupCode.objects.get(code_set__user=user, selector=codes[0][:4])
    match = backup_codes.check(user, codes[0], by=BY)

    with pytest.raises(WrongBackupCode):
        backup_codes.check(user, match.replacement.text, by=BY)

    assert row.next_selector == match.replacement.selector
    with transaction.atomic():
        assert backup_codes.find_right(user, match.use(by=BY))


def test_what_follows_a_code_without_its_pepper_key_is_made_anew(user: User, codes: list[str]) -> None:
    row = BackupCode.objects.get(code_set__user=user, selector=codes[0][:4])
    gone = row.next_verifier.replace(row.next_verifier.split("$")[1], "gone", 1)
    BackupCode.objects.filter(pk=row.pk).update(next_verifier=gone)

    assert use(user, use(user, codes[0]))


def test_sets_from_before_are_followed_too(user: User, codes: list[str]) -> None:
    BackupCode.objects.filter(code_set__user=user).update(next_selector="", next_verifier="")

    assert use(user, use(user, codes[0]))


def test_replacement_of_an_earlier_generation_is_dead(user: User, codes: list[str]) -> None:
    replacement = use(user, codes[0])
    row = BackupCode.objects.get(code_set__user=user, selector=replacement[:4])

    BackupCodeSet.objects.filter(user=user).update(generation="00000000-0000-7000-8000-000000000000")

    assert not row.exchange(BackupCode(selector="AAAA", verifier="x"))
    assert backup_codes.remaining(user) == 0
    with pytest.raises(WrongBackupCode):
        backup_codes.check(user, replacement, by=BY)


# What they are made of


def test_ten_codes_of_65_random_bits(codes: list[str]) -> None:
    assert len(set(codes)) == 10
    assert all(SHAPE.fullmatch(code) for code in codes)
    assert len(backup_codes.ALPHABET) ** backup_codes.VERIFIER_LENGTH >= 2**64
    assert len({code[:4] for code in codes}) == 10


@pytest.mark.parametrize(
    "write", [str.lower, lambda code: code.replace("-", " "), lambda code: f" {code.replace('-', '')} "]
)
def test_spelling_does_not_matter(user: User, codes: list[str], write: Callable[[str], str]) -> None:
    assert use(user, write(codes[0]))


def test_look_alikes_are_read_as_what_they_stand_for() -> None:
    assert backup_codes.parse("0BCD-1FGH-8JKL-MNOPQ") == backup_codes.parse("OBCD-IFGH-BJKL-MNOPQ")


def test_nothing_issued_is_in_the_database(user: User, codes: list[str]) -> None:
    issued = [*codes, use(user, codes[0])]
    with connection.cursor() as cursor:
        cursor.execute("SELECT c::text FROM accounts_backupcode c")
        dump = "".join(row[0] for row in cursor.fetchall())
        cursor.execute("SELECT m::text FROM monitoring_outboxmessage m")
        dump += "".join(row[0] for row in cursor.fetchall())
        cursor.execute("SELECT encode(canon, 'escape') FROM audit_event")
        dump += "".join(row[0] for row in cursor.fetchall())

    for code in issued:
        verifier = code.replace("-", "")[4:].encode()
        for form in (
            verifier,
            verifier.hex().encode(),
            base64.b64encode(verifier),
            base64.b32encode(verifier),
        ):
            assert form.decode().rstrip("=") not in dump
    for stored in BackupCode.objects.values_list("verifier", flat=True):
        assert stored.startswith("argon2id-peppered$")


def test_each_try_costs_one_hash_and_the_code_that_follows_none(
    user: User, codes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []
    derive = hashers._derive

    def counted(*given: Any) -> bytes:
        hashed.append(1)
        return derive(*given)

    monkeypatch.setattr(hashers, "_derive", counted)

    for wrong in (altered(codes[0]), "ABCDEFGHIJKLMNOPQ"):
        with pytest.raises(WrongBackupCode):
            backup_codes.check(user, wrong, by=BY)
    assert len(hashed) == 2
    assert backup_codes.find_right(None, codes[0]) is None
    assert len(hashed) == 3
    following = use(user, codes[0])
    assert len(hashed) == 4  # what takes its place was hashed with it
    use(user, following)
    assert len(hashed) == 6  # nothing was prepared for this one


def test_owner_is_told_of_new_codes_and_of_each_use(user: User, codes: list[str]) -> None:
    use(user, codes[0])

    names = list(OutboxMessage.objects.order_by("created_at").values_list("template", flat=True))
    assert names == ["backup_codes_made", "backup_code_used"]


def test_few_codes_left_are_called_low(user: User, codes: list[str]) -> None:
    assert not backup_codes.is_low(user)

    BackupCode.objects.filter(pk__in=BackupCode.objects.values("pk")[:7]).update(used_at="2026-01-01T00:00Z")

    assert backup_codes.remaining(user) == 3
    assert backup_codes.is_low(user)


def test_pepper_key_that_is_still_needed_is_counted(user: User, codes: list[str], settings: Any) -> None:
    (current, *_older) = settings.MESTORE_PEPPER_KEYS
    use(user, codes[0])

    assert backup_codes.count_under(current) == 10
    assert backup_codes.count_under("another") == 0


def test_codes_alone_are_no_second_factor() -> None:
    buyer = BuyerFactory.create()
    backup_codes.regenerate(buyer, by=actor.system("test"))

    assert factors.methods_of(buyer) == ("backup_code",)
    assert not factors.has_factor(buyer)
    assert str(BackupCodeSet.objects.get(user=buyer)).startswith("backup codes")
    assert str(BackupCode.objects.filter(code_set__user=buyer)[:1].get()).startswith("backup code")
