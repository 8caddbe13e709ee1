"""The part "sales" of `make soak`: the service is killed at random moments while people buy.

Orders under idempotency keys, payments of orders that wait for one, refunds and payout requests are sent over
HTTP to granian with several workers, a settlement runs beside them. In each round the service (or one of its
workers) is killed by SIGKILL after a drawn number of answers; in some rounds a backend of PostgreSQL, all of
PostgreSQL (an immediate shutdown) or the settlement besides. Clients repeat what was not answered under the
same key. Then: `finance_verify` is good, everything that was told is in the books once, nothing else is, and
each request that is sent again gets the answer that it got.

What is drawn follows from the seed that is printed; what the machine makes of it does not.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import psycopg

from benchmarks import points, processes, shoppers
from benchmarks.house import ROOT, House
from benchmarks.seed import ADDRESS
from benchmarks.shoppers import Line, Market, Shopper, Told

Victim = Literal["service", "worker", "backend", "postgresql", "settlement"]

SERVICE: Final = "sales"
CLIENTS: Final = 8
#: Answers between a start and the next kill.
ANSWERS: Final = (5, 60)
#: Then so long, so that the kill meets requests anywhere on their way.
DELAY_SECONDS: Final = 0.05
VERIFIED_EVERY: Final = 5
TOKENS_EVERY: Final = 20
BACK_SECONDS: Final = 300
_BACKENDS: Final = """
SELECT pid FROM pg_stat_activity WHERE usename = 'mestore_app' AND backend_type = 'client backend'
ORDER BY state = 'idle', pid"""


@dataclass
class Scene:
    """What one soak goes on with."""

    house: House
    market: Market
    draw: random.Random
    settling: subprocess.Popen[bytes] | None = None
    shoppers: list[Shopper] = field(default_factory=list)
    killed: Counter[str] = field(default_factory=Counter)
    verified: int = 0
    wrong: list[str] = field(default_factory=list)


def sales(house: House, kills: int, seed: int | None, say: Callable[[str], object]) -> dict[str, Any]:
    """Kill the service so many times; what was told, what was killed, and what is wrong."""
    seed = random.SystemRandom().randrange(10**9) if seed is None else seed
    say(f"seed {seed}")
    house.environment |= {"MESTORE_SETTLEMENT_HOLD_DAYS": "0", "MESTORE_ACCESS_TOKEN_SECONDS": "3600"}
    scene = Scene(house, _market(house, _people(house, "make")), random.Random(seed))
    began, stop = time.monotonic(), threading.Event()
    _serve(scene)
    scene.shoppers = shoppers.start(scene.market, str(seed), CLIENTS, stop)
    try:
        for number in range(1, kills + 1):
            _round(scene, number)
            say(f"{number} of {kills}: {dict(scene.killed)}, {_count(scene):,} answers, {scene.wrong[:3]}")
            if scene.wrong or any(one.wrong for one in scene.shoppers):
                break
    finally:
        stop.set()
        for shopper in scene.shoppers:
            shopper.join()
        _end(scene.settling)
    return _judged(scene, kills, seed, time.monotonic() - began)


def _judged(scene: Scene, kills: int, seed: int, seconds: float) -> dict[str, Any]:
    """Look at everything once nothing runs any more but the service."""
    told = [one for shopper in scene.shoppers for one in shopper.told]
    wrong = scene.wrong + [one for shopper in scene.shoppers for one in shopper.wrong]
    line = Line(scene.market)
    again = [one for number, one in enumerate(told) if one.sends > 1 or number % 10 == 0]
    for one in again:
        wrong += shoppers.ask_again(line, one)
    line.close()
    with scene.house.admin() as connection:
        wrong += shoppers.told_and_booked(connection, told, list(scene.market.accounts))
    _verify(scene)
    wrong += scene.wrong
    return {
        "kept": not wrong and scene.killed["service"] + scene.killed["worker"] == kills, "seed": seed,
        "killed": dict(scene.killed), "seconds": round(seconds), "answers": _outcomes(told),
        "sent_more_than_once": sum(one.sends > 1 for one in told),
        "done_before_the_answer_was_lost": sum(one.sends > 1 and one.was_replayed for one in told),
        "passing": dict(scene.market.answers), "asked_again_at_the_end": len(again),
        "verifications": scene.verified, "wrong": wrong[:20],
    }  # fmt: skip


def _outcomes(told: list[Told]) -> dict[str, int]:
    return dict(sorted(Counter(f"{one.asked.kind} {one.status}" for one in told).items()))


def _round(scene: Scene, number: int) -> None:
    """Some answers, a kill of something else in some rounds, more answers, the service killed and back."""
    if scene.settling is None or scene.settling.poll() is not None:
        scene.settling = _settling(scene.house)
    _confirm(scene.house)
    chance = scene.draw.random()
    if chance < 0.35:
        _wait(scene)
        _kill(scene, "settlement" if chance < 0.1 else "backend" if chance < 0.25 else "postgresql")
    _wait(scene)
    _kill(scene, scene.draw.choice(("service", "service", "worker")))
    _serve(scene)
    if number % VERIFIED_EVERY == 0:
        _verify(scene)
    if number % TOKENS_EVERY == 0:
        scene.market.tokens |= _tokens(_people(scene.house, "tokens"))


def _wait(scene: Scene) -> None:
    scene.market.wait_for(scene.draw.randint(*ANSWERS), among=scene.shoppers)
    time.sleep(scene.draw.uniform(0, DELAY_SECONDS))


def _kill(scene: Scene, victim: Victim) -> None:
    """SIGKILL, and for all of PostgreSQL an immediate shutdown; what has no other keeper is started again."""
    if victim in {"service", "worker"}:
        _kill_service(scene, whole=victim == "service")
    elif victim == "settlement" and scene.settling is not None:
        scene.settling.kill()
        scene.settling.wait()
    elif victim == "backend":
        with scene.house.admin() as connection:
            pids = [pid for (pid,) in connection.execute(_BACKENDS).fetchall()]
        os.kill(scene.draw.choice(pids[:CLIENTS]), signal.SIGKILL)
        _until(lambda: _answers(scene.house), "PostgreSQL did not recover")
    else:
        servers = scene.house.servers
        os.kill(servers.control("status", "postgresql") or 0, signal.SIGQUIT)
        _until(lambda: servers.control("status", "postgresql") is None, "PostgreSQL did not end")
        servers.control("start", "postgresql")
    scene.killed[victim] += 1


def _kill_service(scene: Scene, *, whole: bool) -> None:
    """Kill every process of the service, or one worker, after which the others end by themselves."""
    main = scene.house.services[SERVICE]
    workers = sorted(processes.children_seconds(main.pid))
    victims = [main.pid, *workers] if whole else [scene.draw.choice(workers)]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    try:
        main.wait(60)
    except subprocess.TimeoutExpired:
        scene.wrong.append("the service went on without one of its workers for a minute")
        main.kill()
        main.wait()


def _serve(scene: Scene) -> None:
    scene.house.serve(SERVICE, "mestore.wsgi:application")


def _verify(scene: Scene) -> None:
    try:
        said = json.loads(scene.house.manage("finance_verify", "--json").splitlines()[-1])
    except RuntimeError as error:
        scene.wrong.append(f"finance_verify: {error}"[-2_000:])
        return
    scene.verified += 1
    if not said["good"]:
        scene.wrong.append(f"finance_verify: {said['broken']}")


def _market(house: House, people: dict[str, Any]) -> Market:
    return Market(
        port=lambda: house.ports[SERVICE], headers=points.proxied(ADDRESS), tokens=_tokens(people),
        accounts=people["accounts"], confirm_again=lambda: _confirm(house),
    )  # fmt: skip


def _tokens(people: dict[str, Any]) -> dict[str, str]:
    return {shoppers.STOREFRONT: people["storefront"], **people["sellers"]}


def _people(house: House, what: str) -> dict[str, Any]:
    said = house.python("-m", "benchmarks.soak_people", what).splitlines()[-1]
    found: dict[str, Any] = json.loads(said)
    return found


def _confirm(house: House) -> None:
    """Let every seller have proved a factor just now."""
    try:
        with house.admin() as connection:
            connection.execute(shoppers.PROVED_NOW)
    except psycopg.OperationalError:
        return  # away at the moment: whoever needs it asks again


def _settling(house: House) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.soak_people", "settle"], cwd=ROOT, env=house.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.kill()
        process.wait()


def _answers(house: House) -> bool:
    try:
        house.admin().close()
    except psycopg.OperationalError:
        return False
    return True


def _until(is_so: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + BACK_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(otherwise)
        time.sleep(0.05)


def _count(scene: Scene) -> int:
    return sum(len(one.told) for one in scene.shoppers)
