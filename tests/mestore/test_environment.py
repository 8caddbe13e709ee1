"""What stops a start: each wrong variable is named, its value never is."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from mestore.environment import NO_MAIL_SERVER, Environment, MailServer, shannon_bits

GOOD_SECRET = secrets.token_urlsafe(48)
GOOD_KEY = base64.b64encode(secrets.token_bytes(32)).decode()
TLS = "sslmode=verify-full&sslrootcert=/ca.pem"


def environment(**values: str) -> Environment:
    return Environment(source=values)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("", "missing"),
        ("x7Qp", "too short"),
        ("ab" * 40, "low entropy"),
        ("django-insecure-" + GOOD_SECRET, "well-known"),
        ("dev-jwt-secret-" + GOOD_SECRET, "well-known"),
        (GOOD_SECRET + "-CHANGE-ME", "well-known"),
    ],
    ids=["missing", "short", "predictable", "framework-default", "old-default", "placeholder"],
)
def test_secret_is_refused_by_name_and_never_shown(value: str, word: str) -> None:
    env = environment(THE_SECRET=value)

    env.secret("THE_SECRET", "for the test")

    with pytest.raises(ImproperlyConfigured) as refusal:
        env.refuse_if_wrong()
    assert "THE_SECRET" in str(refusal.value)
    assert word in str(refusal.value)
    assert not value or value not in str(refusal.value)


def test_random_secret_is_accepted() -> None:
    env = environment(THE_SECRET=GOOD_SECRET)

    assert env.secret("THE_SECRET", "for the test") == GOOD_SECRET
    env.refuse_if_wrong()


def test_all_problems_are_reported_at_once() -> None:
    env = environment(NUMBER="many")

    env.secret("FIRST", "one")
    env.integer("NUMBER", "two", default=1, minimum=1, maximum=9)

    with pytest.raises(ImproperlyConfigured, match=r"(?s)FIRST.*NUMBER"):
        env.refuse_if_wrong()


def test_value_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(GOOD_SECRET + "\n")
    env = environment(THE_SECRET_FILE=str(file), THE_SECRET="ignored")

    assert env.secret("THE_SECRET", "for the test") == GOOD_SECRET
    env.refuse_if_wrong()


def test_unreadable_file_is_named_by_its_variable(tmp_path: Path) -> None:
    env = environment(THE_SECRET_FILE=str(tmp_path / "absent"))

    env.secret("THE_SECRET", "for the test")

    assert any("THE_SECRET_FILE" in problem for problem in env.problems)
    assert not any(str(tmp_path) in problem for problem in env.problems)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p4ss@db/name",
        "postgresql://u:p4ss@db/name?sslmode=require",
        "postgresql://u:p4ss@db/name?sslmode=verify-ca",
        "postgresql://u:p4ss@db:notaport/name?" + TLS,
        "mysql://u:p4ss@db/name?" + TLS,
        "postgresql://u:p4ss@db?" + TLS,
    ],
)
def test_unverified_database_url_is_refused(url: str) -> None:
    env = environment(DATABASE_URL=url)

    env.postgresql("DATABASE_URL", "the database")

    assert env.problems
    assert all("DATABASE_URL" in problem and "p4ss" not in problem for problem in env.problems)


def test_verified_database_url_is_taken_apart() -> None:
    env = environment(
        DATABASE_URL=f"postgresql://us%40er:p%2Fw@db.example:6432/shop?{TLS}&channel_binding=require"
    )

    url = env.postgresql("DATABASE_URL", "the database")

    assert (url.user, url.password, url.host, url.port, url.name) == (
        "us@er",
        "p/w",
        "db.example",
        "6432",
        "shop",
    )
    assert url.options["channel_binding"] == "require"
    assert env.problems == []


def test_plain_database_is_for_a_demo_on_this_machine_only() -> None:
    here = environment(DATABASE_URL="postgresql://u@/name?host=/run/demo")
    there = environment(DATABASE_URL="postgresql://u@db.example/name")

    here.postgresql("DATABASE_URL", "the database", plain_loopback=True)
    there.postgresql("DATABASE_URL", "the database", plain_loopback=True)

    assert here.problems == []
    assert there.problems


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:p4ss@cache:6379/0",
        "http://cache",
        "rediss://u:p4ss@cache/0?ssl_cert_reqs=none",
        "rediss://u:p4ss@cache/0?ssl_check_hostname=False",
        "redis://:p4ss@127.0.0.1/0",
    ],
)
def test_redis_without_verified_tls_is_refused(url: str) -> None:
    env = environment(REDIS_URL=url)

    env.redis("REDIS_URL", "the cache")

    assert env.problems
    assert all("REDIS_URL" in problem and "p4ss" not in problem for problem in env.problems)


def test_redis_may_be_absent_or_plain_in_the_demo_only() -> None:
    assert environment().redis("REDIS_URL", "the cache", plain_loopback=True) == ""
    plain = environment(REDIS_URL="redis://127.0.0.1:6379/0")
    assert plain.redis("REDIS_URL", "the cache", plain_loopback=True)
    assert plain.problems == []


@pytest.mark.parametrize(
    "ring",
    [
        "nocolon",
        "k1:not base64",
        "k1:" + base64.b64encode(b"short").decode(),
        "k1:" + base64.b64encode(bytes(32)).decode(),
        "k1:" + base64.b64encode(bytes(range(100, 132))).decode(),
        "k1:" + base64.b64encode(b"My very secret key 4 MeStore app").decode(),
        f"bad id:{GOOD_KEY}",
        f"k1:{GOOD_KEY},k1:{GOOD_KEY}",
    ],
    ids=["no-colon", "no-base64", "too-short", "not-random", "counted", "text", "bad-id", "twice"],
)
def test_bad_key_ring_is_refused(ring: str) -> None:
    env = environment(KEYS=ring)

    env.key_ring("KEYS", "keys")

    assert env.problems
    assert all(GOOD_KEY not in problem for problem in env.problems)


def test_key_ring_keeps_its_order() -> None:
    other = base64.b64encode(secrets.token_bytes(32)).decode()
    env = environment(KEYS=f"k2:{other},k1:{GOOD_KEY}")

    ring = env.key_ring("KEYS", "keys")

    assert list(ring) == ["k2", "k1"]
    assert ring["k1"] == base64.b64decode(GOOD_KEY)
    env.refuse_if_wrong()


@pytest.mark.parametrize("value", ["0", "10", "-1", "1.5", "٣", "9" * 30])
def test_number_outside_its_bounds_is_refused(value: str) -> None:
    env = environment(NUMBER=value)

    assert env.integer("NUMBER", "a number", default=3, minimum=1, maximum=9) == 3
    assert env.problems


def test_boolean_and_choice_take_only_their_words() -> None:
    env = environment(ON="Yes", OFF="no", ODD="maybe", MODE="staging", WRONG="prod")

    assert env.boolean("ON", "on", default=False) is True
    assert env.boolean("OFF", "off", default=True) is False
    assert env.choice("MODE", "mode", ("demo", "staging")) == "staging"
    assert env.problems == []
    env.boolean("ODD", "odd", default=False)
    env.choice("WRONG", "mode", ("demo", "staging"))
    assert len(env.problems) == 2


def test_addresses_hold_no_secret_and_are_of_a_kind_that_is_named() -> None:
    good = ["https://siem.example/in", "syslog+tls://collector.example:6514"]
    bad = [
        "http://siem.example", "syslog://collector.example", "https://", "siem.example", "https://u:p@siem.example",
        "https://siem.example/?token=x", "https://siem.example:port", "https://siem.example/#x",
    ]  # fmt: skip
    kinds = ("https", "syslog+tls")

    env = environment(GOOD=", ".join(good), BAD=",".join(bad))

    assert env.addresses("GOOD", "receivers", schemes=kinds) == good
    assert env.addresses("NONE", "receivers", schemes=kinds) == []
    assert env.problems == []
    env.addresses("BAD", "receivers", schemes=kinds)
    assert len(env.problems) == len(bad)


def test_one_of_takes_the_first_where_nothing_is_said() -> None:
    env = environment(SECOND="jsonl", WRONG="xml")

    assert env.one_of("FIRST", "form", ("ocsf", "jsonl")) == "ocsf"
    assert env.one_of("SECOND", "form", ("ocsf", "jsonl")) == "jsonl"
    assert env.problems == []
    env.one_of("WRONG", "form", ("ocsf", "jsonl"))
    assert len(env.problems) == 1


def test_every_question_is_remembered() -> None:
    env = environment(A="1", B="x,y")

    env.integer("A", "a number", default=1, minimum=1, maximum=2)
    assert env.listing("B", "a list") == ["x", "y"]

    assert env.asked == {"A": "a number", "B": "a list"}


def test_entropy_is_zero_for_nothing_and_for_one_letter() -> None:
    assert shannon_bits("") == 0.0
    assert shannon_bits("aaaa") == 0.0
    assert shannon_bits("ab") == 1.0


@pytest.mark.parametrize(
    "value",
    [
        "mail.example",
        "smtp://user:secretword@mail.example:25",
        "https://mail.example",
        "smtps://",
        "smtps://[::1",
    ],
)
def test_mail_server_without_tls_is_refused_and_never_shown(value: str) -> None:
    env = environment(MAIL=value)

    assert env.mail_server("MAIL", "for the test", required=True) == NO_MAIL_SERVER

    with pytest.raises(ImproperlyConfigured, match="MAIL") as refusal:
        env.refuse_if_wrong()
    assert "secretword" not in str(refusal.value)


def test_mail_server_is_demanded_only_where_mail_must_go() -> None:
    env = environment()
    assert env.mail_server("MAIL", "for the test", required=False) == NO_MAIL_SERVER
    env.refuse_if_wrong()

    env.mail_server("MAIL", "for the test", required=True)
    with pytest.raises(ImproperlyConfigured, match="MAIL is missing"):
        env.refuse_if_wrong()


@pytest.mark.parametrize(("scheme", "port"), [("smtps", 465), ("smtp+starttls", 587)])
def test_mail_server_is_taken_apart(scheme: str, port: int) -> None:
    env = environment(MAIL=f"{scheme}://me%40shop:p%2Fw@mail.example", OTHER=f"{scheme}://mail.example:2525")

    server = env.mail_server("MAIL", "for the test", required=True)

    assert server == MailServer("mail.example", port, "me@shop", "p/w", scheme)
    assert env.mail_server("OTHER", "for the test", required=True).port == 2525
    env.refuse_if_wrong()


@pytest.mark.parametrize(
    "value",
    ["1.000001", "-0.1", ".5", "5", "5%", "0,05", "1e-2", "0.1234567", "nan", "NaN", "inf", "\uff10.05", "0.",
     "00.05", "+0.05", "0. 05"],
)  # fmt: skip
def test_rate_that_is_none_is_refused(value: str) -> None:
    env = Environment(source={"RATE": value})

    assert env.parts_per_million("RATE", "a rate", default=7) == 7
    assert len(env.problems) == 1
    assert value not in env.problems[0].replace("0.05", "")


@pytest.mark.parametrize(("value", "expected"), [("0.05", 50_000), ("0", 0), ("1", 10**6), ("0.000001", 1)])
def test_rate_is_read_in_parts_per_million(value: str, expected: int) -> None:
    env = Environment(source={"RATE": value})

    assert (env.parts_per_million("RATE", "a rate", default=7), env.problems) == (expected, [])
