"""Very many sessions: made, ended and purged in the service's environment.

``python -m benchmarks.crowd live N`` adds N sessions, every second one ended; ``end N`` gives one account N
sessions with a refresh token each and ends them all; ``purge N`` adds N sessions whose time is long over and
purges. What was measured is printed as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import django

AT_ONCE = 500_000

# Ids as the service makes them (RFC 9562, version 7): in the order of their milliseconds.
_SESSIONS = """
    INSERT INTO sessions_security_usersession (
        id, user_id, kind, amr, created_at, last_seen_at, idle_expires_at, absolute_expires_at, address,
        network, agent, auth_epoch, risk, revoked_at, revoked_why, revoked_by)
    SELECT (lpad(to_hex((extract(epoch FROM made.at) * 1000)::bigint), 12, '0') || '7'
            || substr(md5(n::text), 1, 3) || 'a' || substr(md5(random()::text), 1, 15))::uuid,
        people.ids[1 + n %% array_length(people.ids, 1)], 'token', '{pwd}', made.at, made.at,
        made.at + interval '1 hour', made.at + interval '1 day', '198.51.100.7', '198.51.100.0/24', '',
        0, 0,
        CASE WHEN n %% %(ended)s = %(ended)s - 1 THEN made.at + interval '1 second' END,
        CASE WHEN n %% %(ended)s = %(ended)s - 1 THEN 'signed_out' ELSE '' END, ''
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n,
        LATERAL (SELECT statement_timestamp() - %(age)s::interval - n * interval '100 microseconds' AS at)
            AS made,
        (SELECT array_agg(id) AS ids FROM accounts_user WHERE email = ANY(%(people)s)) AS people
"""
_TOKENS = """
    INSERT INTO sessions_security_refreshtoken (id, session_id, token_hash, created_at, expires_at)
    SELECT gen_random_uuid(), s.id, sha256(uuid_send(s.id)), s.created_at, s.absolute_expires_at
    FROM sessions_security_usersession s JOIN accounts_user u ON u.id = s.user_id
    WHERE u.email = %s AND s.revoked_at IS NULL
"""
NEVER = 2**40  # "every so-manieth session has ended": none


def main() -> None:
    """Do what the arguments say and print the figures."""
    django.setup()
    what, count = sys.argv[1], int(sys.argv[2])
    done = {"live": _live, "end": _end, "purge": _purge}[what](count)
    sys.stdout.write(json.dumps(done) + "\n")


def _add(count: int, *, people: list[str], age: str, ended: int) -> None:
    from mestore.lib import sql

    for first in range(0, count, AT_ONCE):
        values = {"first": first, "last": min(first + AT_ONCE, count) - 1, "age": age, "people": people}
        sql.execute(_SESSIONS, values | {"ended": ended}, "owner")


def _live(count: int) -> dict[str, Any]:
    from mestore.lib import sql

    _add(count, people=[f"bench{number}@example.com" for number in range(1, 400)], age="1 second", ended=2)
    sql.execute("ANALYZE sessions_security_usersession", using="owner")
    return {"added": count}


def _end(count: int) -> dict[str, Any]:
    from accounts.models import User
    from mestore.lib import actor, sql
    from sessions_security import sessions

    _add(count, people=["bench0@example.com"], age="1 second", ended=NEVER)
    sql.execute(_TOKENS, ("bench0@example.com",), "owner")
    user = User.objects.get(email="bench0@example.com")
    began, processor = time.perf_counter(), time.process_time()
    ended = sessions.end_all(user, by=actor.system("bench"), why="administrator")
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    return {"rows": ended, "seconds": seconds, "cpu_seconds": processor}


def _purge(count: int) -> dict[str, Any]:
    from mestore.lib import sql
    from sessions_security import purging

    _add(count, people=["bench0@example.com"], age="40 days", ended=2)
    sql.execute("ANALYZE sessions_security_usersession", using="owner")
    began, processor = time.perf_counter(), time.process_time()
    done = next(kind for kind in purging.run() if kind.name == "sessions")
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    return {
        "rows": done.rows, "seconds": seconds, "cpu_seconds": processor,
        "longest_batch_ms": done.longest_batch_seconds * 1_000,
    }  # fmt: skip


if __name__ == "__main__":
    main()
