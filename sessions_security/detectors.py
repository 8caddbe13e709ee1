"""Attacks that no single lock sees: spraying, stuffing and guessing, found in the attempts to sign in.

The worker calls `run` each minute. Only networks, programs and accounts that were active since the last run
are looked at, each through its own index and for a bounded number of its newest rows: the work depends on
what happens, not on how much is kept. The thresholds are `settings.DETECTORS`, judged by `detector_rules`.

A network that sprays gets the worst reputation, which the next sign-in from it weighs; a sign-in that it
succeeded with is critical. Running is watched itself: a run that fails is logged as critical and raises a
signal, and so does the first run after a silence.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import structlog
from django.conf import settings
from django.db import Error as DatabaseError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from mestore.lib import sql
from monitoring import alerts
from monitoring.alerts import Rule, Severity, declare
from monitoring.signals import Watch
from sessions_security import detector_rules
from sessions_security.detector_rules import Everywhere, Source, Tried

WATCH = "sign-in detectors"
SERVICE = ("service", "sign-in")
# Bounds of one run: recent rows that name candidates, candidates of a kind, newest rows of each.
RECENT, CANDIDATES, ROWS_EACH = 20_000, 50, 2_000
ROWS_EVERYWHERE, ROWS_AN_HOUR = 50_000, 200
# A row is written a little before it can be read.
OVERLAP = dt.timedelta(seconds=10)
FIRST_LOOK = dt.timedelta(minutes=10)
LISTED = 20

SPRAY = declare(Rule("detector.spray", _("Many accounts tried from one network"), Severity.HIGH,
                     "many-accounts-from-one-network"))  # fmt: skip
SLOW_SPRAY = declare(Rule("detector.slow_spray", _("Many accounts tried slowly from one network"),
                          Severity.HIGH, "many-accounts-from-one-network"))  # fmt: skip
AGENT_SPRAY = declare(Rule("detector.agent_spray", _("Many accounts tried by one program"), Severity.HIGH,
                           "many-accounts-from-one-network"))  # fmt: skip
SPRAY_SUCCESS = declare(Rule("detector.spray_success", _("A spraying network got into an account"),
                             Severity.CRITICAL, "a-spraying-network-got-in"))  # fmt: skip
STUFFING = declare(Rule("detector.stuffing", _("Sign-ins fail from many networks on many accounts"),
                        Severity.HIGH, "stolen-passwords-are-tried"))  # fmt: skip
GUESSING = declare(Rule("detector.guessing", _("One account tried from many networks"), Severity.HIGH,
                        "one-account-from-many-networks"))  # fmt: skip
SILENT = declare(Rule("detector.silent", _("The detectors did not run"), Severity.CRITICAL,
                      "the-detectors-did-not-run"))  # fmt: skip

log = structlog.get_logger("mestore.detectors")

# Each statement: who was active lately, then what each of them did in the whole window. The inner LIMITs are
# what bounds it; `tried` has one row per account, so that shares are of accounts.
_OF_NETWORKS = """
WITH recent AS (
    SELECT network, account_key FROM (
        SELECT network, account_key, outcome FROM sessions_security_signinattempt
         WHERE at > %(since)s AND at <= %(now)s ORDER BY at DESC LIMIT %(recent)s) AS newest
     WHERE outcome <> 'accepted' AND network <> ''
), candidate AS (
    SELECT network AS name FROM recent GROUP BY network
     ORDER BY count(DISTINCT account_key) DESC LIMIT %(candidates)s
)
SELECT name, attempts, failures, accounts, failed_accounts, first_at, last_at, listed, accepted
  FROM candidate CROSS JOIN LATERAL (
      SELECT coalesce(sum(tries), 0)::int AS attempts, coalesce(sum(wrong), 0)::int AS failures,
             count(*)::int AS accounts, (count(*) FILTER (WHERE wrong = tries))::int AS failed_accounts,
             min(first_at) AS first_at, max(last_at) AS last_at,
             (array_agg(encode(account_key, 'hex') ORDER BY last_at DESC)
                 FILTER (WHERE wrong = tries))[:%(listed)s] AS listed,
             (count(*) FILTER (WHERE wrong < tries))::int AS accepted
        FROM (SELECT account_key, count(*) AS tries, count(*) FILTER (WHERE outcome <> 'accepted') AS wrong,
                     min(at) FILTER (WHERE outcome <> 'accepted') AS first_at, max(at) AS last_at
                FROM (SELECT account_key, outcome, at FROM sessions_security_signinattempt a
                       WHERE a.network = candidate.name AND a.at > %(start)s AND a.at <= %(now)s
                       ORDER BY a.at DESC LIMIT %(each)s) AS own
               GROUP BY account_key) AS tried) AS counted
"""
_OF_AGENTS = """
WITH recent AS (
    SELECT agent_key, account_key FROM (
        SELECT agent_key, account_key, outcome FROM sessions_security_signinattempt
         WHERE at > %(since)s AND at <= %(now)s ORDER BY at DESC LIMIT %(recent)s) AS newest
     WHERE outcome <> 'accepted'
), candidate AS (
    SELECT agent_key AS name FROM recent GROUP BY agent_key
     ORDER BY count(DISTINCT account_key) DESC LIMIT %(candidates)s
)
SELECT encode(name, 'hex'), attempts, failures, accounts, failed_accounts, first_at, last_at, listed, accepted
  FROM candidate CROSS JOIN LATERAL (
      SELECT coalesce(sum(tries), 0)::int AS attempts, coalesce(sum(wrong), 0)::int AS failures,
             count(*)::int AS accounts, (count(*) FILTER (WHERE wrong = tries))::int AS failed_accounts,
             min(first_at) AS first_at, max(last_at) AS last_at,
             (array_agg(encode(account_key, 'hex') ORDER BY last_at DESC)
                 FILTER (WHERE wrong = tries))[:%(listed)s] AS listed,
             (count(*) FILTER (WHERE wrong < tries))::int AS accepted
        FROM (SELECT account_key, count(*) AS tries, count(*) FILTER (WHERE outcome <> 'accepted') AS wrong,
                     min(at) FILTER (WHERE outcome <> 'accepted') AS first_at, max(at) AS last_at
                FROM (SELECT account_key, outcome, at FROM sessions_security_signinattempt a
                       WHERE a.agent_key = candidate.name AND a.at > %(start)s AND a.at <= %(now)s
                       ORDER BY a.at DESC LIMIT %(each)s) AS own
               GROUP BY account_key) AS tried) AS counted
"""
_OF_ACCOUNTS = """
WITH recent AS (
    SELECT account_key, network FROM (
        SELECT account_key, network, outcome FROM sessions_security_signinattempt
         WHERE at > %(since)s AND at <= %(now)s ORDER BY at DESC LIMIT %(recent)s) AS newest
     WHERE outcome <> 'accepted' AND network <> ''
), candidate AS (
    SELECT account_key FROM recent GROUP BY account_key
     ORDER BY count(DISTINCT network) DESC, count(*) DESC LIMIT %(candidates)s
)
SELECT encode(candidate.account_key, 'hex'), failures, failed_networks, first_at, last_at, listed, accepted
  FROM candidate CROSS JOIN LATERAL (
      SELECT coalesce(sum(wrong), 0)::int AS failures,
             (count(*) FILTER (WHERE wrong > 0))::int AS failed_networks,
             min(first_at) AS first_at, max(last_at) AS last_at,
             (array_agg(network ORDER BY last_at DESC) FILTER (WHERE wrong > 0))[:%(listed)s] AS listed,
             coalesce(sum(tries - wrong) FILTER (WHERE wrong > 0), 0)::int AS accepted
        FROM (SELECT network, count(*) AS tries, count(*) FILTER (WHERE outcome <> 'accepted') AS wrong,
                     min(at) FILTER (WHERE outcome <> 'accepted') AS first_at, max(at) AS last_at
                FROM (SELECT network, outcome, at FROM sessions_security_signinattempt a
                       WHERE a.account_key = candidate.account_key AND a.at > %(start)s AND a.at <= %(now)s
                         AND a.network <> ''
                       ORDER BY a.at DESC LIMIT %(each)s) AS own
               GROUP BY network) AS tried) AS counted
"""
# What is usual is taken from some of the newest attempts of each hour of the day before.
_EVERYWHERE = """
WITH lately AS MATERIALIZED (
    SELECT network, account_key, outcome, at FROM sessions_security_signinattempt
     WHERE at > %(start)s AND at <= %(now)s ORDER BY at DESC LIMIT %(rows)s
), usual AS (
    SELECT count(*) AS attempts, count(*) FILTER (WHERE sample.outcome <> 'accepted') AS failures
      FROM generate_series(0, 23) AS back CROSS JOIN LATERAL (
          SELECT outcome FROM sessions_security_signinattempt
           WHERE at <= %(start)s - back * interval '1 hour'
             AND at > %(start)s - (back + 1) * interval '1 hour'
           ORDER BY at DESC LIMIT %(hourly)s) AS sample
)
SELECT (SELECT count(*) FROM lately), count(*), count(DISTINCT account_key),
       count(DISTINCT network) FILTER (WHERE network <> ''), min(at), max(at),
       (SELECT attempts FROM usual), (SELECT failures FROM usual),
       (SELECT array_agg(network) FROM (
            SELECT network FROM lately WHERE outcome <> 'accepted' AND network <> ''
             GROUP BY network ORDER BY count(*) DESC LIMIT %(listed)s) AS most)
  FROM lately WHERE outcome <> 'accepted'
"""
# Accounts that a network got into after it had begun to fail; by id where the sign-in was completed.
_OPENED = """
SELECT coalesce(max(user_id::text), encode(account_key, 'hex')), max(at)
  FROM (SELECT user_id, account_key, at FROM sessions_security_signinattempt
         WHERE network = %(network)s AND at >= %(start)s AND at <= %(now)s AND outcome = 'accepted'
         ORDER BY at DESC LIMIT %(each)s) AS own
 GROUP BY account_key ORDER BY 2 DESC LIMIT %(listed)s
"""
_DISTRUST = """
INSERT INTO sessions_security_networkreputation AS known (network, score, updated_at, expires_at)
VALUES (%(network)s, 100, %(now)s, %(end)s)
ON CONFLICT (network) DO UPDATE
   SET score = 100, updated_at = %(now)s, expires_at = greatest(known.expires_at, EXCLUDED.expires_at)
"""


@dataclass(frozen=True, slots=True)
class Look:
    """One run: when it is, and since when candidates are taken."""

    now: dt.datetime
    since: dt.datetime


@dataclass(frozen=True, slots=True)
class Finding:
    """What a detector says: a signal about `entity` with `evidence`; `severity` None is the rule's own."""

    rule: Rule
    entity: tuple[str, str]
    evidence: dict[str, Any]
    severity: Severity | None = None


def run(*, now: dt.datetime | None = None) -> int:
    """Look once and raise what was found; return how many signals. Raises what the database raises."""
    now, started = now or timezone.now(), time.monotonic()
    try:
        look = _begin(now)
        found = list(_findings(look))
        for finding in found:
            alerts.raise_signal(
                finding.rule, entity=finding.entity, severity=finding.severity, evidence=finding.evidence
            )
        _done(now, started)
    except Exception as error:
        _failed(now, error)
        raise
    return len(found)


def last_ran() -> dt.datetime | None:
    """Return when the detectors last ran to their end; None when they never did."""
    return Watch.objects.filter(name=WATCH).values_list("last_ran_at", flat=True).first()


def _begin(now: dt.datetime) -> Look:
    """Say since when to look, and that there was a silence if there was one."""
    before = last_ran()
    if before is None:
        return Look(now, now - FIRST_LOOK)
    silent = (now - before).total_seconds()
    if silent > settings.DETECTORS_SILENT_SECONDS:
        evidence = {"from": before, "to": now, "seconds": int(silent)}
        alerts.raise_signal(SILENT, entity=SERVICE, evidence=evidence)
    return Look(now, max(before - OVERLAP, now - dt.timedelta(days=1)))


def _findings(look: Look) -> Iterator[Finding]:
    sprayed: set[str] = set()
    for rule, name in ((SPRAY, "spray"), (SLOW_SPRAY, "slow_spray")):
        for network, seen, evidence in _sources(_OF_NETWORKS, look, name):
            # What is seen in minutes is not told again as what is seen in a day.
            if network in sprayed or not detector_rules.is_spray(seen, settings.DETECTORS[name]):
                continue
            sprayed.add(network)
            yield Finding(rule, ("network", network), evidence)
            yield from _spraying(network, evidence, look)
    for agent, seen, evidence in _sources(_OF_AGENTS, look, "spray"):
        if detector_rules.is_spray(seen, settings.DETECTORS["spray"]):
            yield Finding(AGENT_SPRAY, ("agent", agent), evidence)
    yield from _guessing(look)
    yield from _stuffing(look)


def _sources(query: Any, look: Look, name: str) -> Iterator[tuple[str, Source, dict[str, Any]]]:
    """The networks or programs that failed lately: name, counts, evidence."""
    rows = sql.fetch_all(query, _bounds(look, settings.DETECTORS[name]["window"]))
    for source, attempts, failures, accounts, failed, first_at, last_at, listed, accepted in rows:
        yield source, Source(attempts, failures, accounts, failed), {
            "window_seconds": settings.DETECTORS[name]["window"],
            "attempts": attempts, "failures": failures, "accounts": accounts, "failed_accounts": failed,
            "opened_accounts": accepted, "first": first_at, "last": last_at, "account_macs": listed or [],
            "cut": attempts >= ROWS_EACH,
        }  # fmt: skip


def _spraying(network: str, evidence: dict[str, Any], look: Look) -> Iterator[Finding]:
    """Distrust the network, and say which accounts it got into."""
    end = look.now + dt.timedelta(days=1)
    sql.execute(_DISTRUST, {"network": network, "now": look.now, "end": end})
    opened = sql.fetch_all(
        _OPENED,
        {
            "network": network,
            "start": evidence["first"],
            "now": look.now,
            "each": ROWS_EACH,
            "listed": LISTED,
        },
    )
    if opened:
        yield Finding(
            SPRAY_SUCCESS,
            ("network", network),
            {
                "opened": [account for account, _at in opened], "last_opened": opened[0][1],
                "failed_accounts": evidence["failed_accounts"], "first": evidence["first"],
            },
        )  # fmt: skip


def _guessing(look: Look) -> Iterator[Finding]:
    limits = settings.DETECTORS["guessing"]
    for account, failures, networks, first_at, last_at, listed, accepted in sql.fetch_all(
        _OF_ACCOUNTS, _bounds(look, limits["window"])
    ):
        if not detector_rules.is_guessing(Tried(failures, networks), limits):
            continue
        yield Finding(
            GUESSING,
            ("account_mac", account),
            {
                "window_seconds": limits["window"], "failures": failures, "failed_networks": networks,
                "opened_from_them": accepted, "first": first_at, "last": last_at, "networks": listed or [],
            },
            Severity.CRITICAL if accepted else None,
        )  # fmt: skip


def _stuffing(look: Look) -> Iterator[Finding]:
    for name in ("stuffing", "stuffing_hour"):
        limits = settings.DETECTORS[name]
        start = look.now - dt.timedelta(seconds=limits["window"])
        bounds = {"rows": ROWS_EVERYWHERE, "hourly": ROWS_AN_HOUR, "listed": LISTED}
        (row,) = sql.fetch_all(_EVERYWHERE, {"start": start, "now": look.now, **bounds})
        attempts, failures, accounts, networks, first_at, last_at, usual, usual_failed, listed = row
        seen = Everywhere(attempts, failures, accounts, networks, usual, usual_failed)
        if detector_rules.is_stuffing(seen, limits):
            yield Finding(
                STUFFING,
                SERVICE,
                {
                    "window_seconds": limits["window"], "attempts": attempts, "failures": failures,
                    "failed_accounts": accounts, "failed_networks": networks,
                    "usual_failed_percent": detector_rules.usual_percent(seen),
                    "first": first_at, "last": last_at, "networks": listed or [],
                    "cut": attempts >= ROWS_EVERYWHERE,
                },
            )  # fmt: skip
            return


def _bounds(look: Look, window: int) -> dict[str, Any]:
    return {
        "now": look.now,
        "since": max(look.since, look.now - dt.timedelta(seconds=window)),
        "start": look.now - dt.timedelta(seconds=window),
        "recent": RECENT, "candidates": CANDIDATES, "each": ROWS_EACH, "listed": LISTED,
    }  # fmt: skip


def _done(now: dt.datetime, started: float) -> None:
    took = int((time.monotonic() - started) * 1000)
    Watch.objects.update_or_create(name=WATCH, defaults={"last_ran_at": now, "took_ms": took})


def _failed(now: dt.datetime, error: Exception) -> None:
    """Leave what can be left of a run that failed: the log, a signal, a mark."""
    log.critical("detectors_failed", error=type(error).__name__)
    evidence = {"failed": now, "error": type(error).__name__}
    alerts.raise_signal(SILENT, entity=SERVICE, evidence=evidence, using="audit")
    try:
        Watch.objects.using("audit").update_or_create(name=WATCH, defaults={"last_failed_at": now})
    except DatabaseError as again:
        log.critical("detectors_failure_not_kept", error=type(again).__name__)
