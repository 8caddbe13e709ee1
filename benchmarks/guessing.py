"""How long others wait while passwords are guessed: wrong sign-ins at a steady pace beside the reads."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from benchmarks import load
from benchmarks.house import HOST, House
from benchmarks.points import Point
from benchmarks.report import Figures, Sample

NAMES = ("read, quiet", "read, guessed at")
PER_SECOND = 50
GUESSERS = 25
READERS = 4


def measure(house: House, figures: Figures, read: Point, people: list[str], *, seconds: float) -> None:
    """Add the read's figures without and with guesses beside it, in turn."""
    for _ in range(3):
        figures.add("read, quiet", _sample(house, read, seconds))
        with _guesses(house.ports[read.service], people) as told:
            sample = _sample(house, read, seconds)
        figures.add("read, guessed at", sample | {"guesses_per_second": told() / seconds})


def _sample(house: House, read: Point, seconds: float) -> Sample:
    port = house.ports[read.service]
    result = load.run(port, read.requests, clients=READERS, seconds=seconds, expect=read.expect)
    return {
        "requests": result.requests,
        "per_second": result.per_second,
        "p50_ms": result.percentile(50),
        "p99_ms": result.percentile(99),
    }


@contextlib.contextmanager
def _guesses(port: int, people: list[str]) -> Iterator[Any]:
    """Let a process of its own guess until the end of the block; gives how many were answered so far."""
    context = multiprocessing.get_context("fork")
    stop, answered = context.Event(), context.Value("i", 0)
    process = context.Process(target=_guess, args=(port, people, stop, answered), daemon=True)
    process.start()
    time.sleep(0.5)  # the pace is reached before anything is measured
    answered.value = 0
    try:
        yield lambda: answered.value
    finally:
        stop.set()
        process.join(30)
        process.kill()


def _guess(port: int, people: list[str], stop: Any, answered: Any) -> None:
    threads = [
        threading.Thread(target=_guesser, args=(port, people, number, stop, answered), daemon=True)
        for number in range(GUESSERS)
    ]
    for thread in threads:
        thread.start()
        time.sleep(1 / PER_SECOND)
    for thread in threads:
        thread.join()


def _guesser(port: int, people: list[str], number: int, stop: Any, answered: Any) -> None:
    """One guess each half second, whatever the answer; a connection that was closed is opened again."""
    pause, turn = GUESSERS / PER_SECOND, 0
    while not stop.is_set():
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=load.TIMEOUT_SECONDS) as connection,
        ):
            while not stop.wait(pause):
                connection.sendall(_wrong(people, number, turn))
                load.answer(connection)
                turn += 1
                with answered.get_lock():
                    answered.value += 1


def _wrong(people: list[str], number: int, turn: int) -> bytes:
    guess = turn * GUESSERS + number
    body = json.dumps(
        {"email": people[guess % len(people)], "password": f"not the password {guess}"}
    ).encode()
    headers = {
        "Host": HOST,
        "Accept": "application/json",
        "Content-Type": "application/json",
        "X-Forwarded-For": f"100.{64 + guess // 62_500 % 64}.{guess // 250 % 250}.{guess % 250 + 1}",
        "X-Forwarded-Proto": "https",
    }
    return load.request("POST", "/api/v1/auth/login", headers, body)
