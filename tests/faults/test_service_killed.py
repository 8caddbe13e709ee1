"""The service is killed while people buy (`make soak` does it fifty times): nothing is lost or doubled."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings as live_settings

from benchmarks import shoppers
from benchmarks.shoppers import STOREFRONT, Line, Market, Shopper
from finance import settlement, verification
from mestore.lib import actor
from mestore.servers import ports
from tests.factories import administration
from tests.factories.sessions_security import machine, machine_bearer
from tests.finance.payout_house import vendor_with

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

BY = actor.system("test")
KILLS, CLIENTS, SELLERS = 3, 4, 4
#: Answers before each kill: the same share of a run, however fast the machine is.
ANSWERS = (6, 9, 12)
_AT_WORK = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND usename = %s AND state <> 'idle'"""


class Service:
    """granian with the application, as the units of the deployment start it, on the test's own servers."""

    def __init__(self, folder: Path) -> None:
        self.port = 0
        self._environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "mestore.settings", "PROMETHEUS_MULTIPROC_DIR": str(folder),
            "MESTORE_MACHINE_REQUESTS_PER_MINUTE": "10000000",
        }  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start it; on another port where somebody took the one that was free a moment ago."""
        for _attempt in range(20):
            port = ports.free()
            self._main = subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("granian")), "--interface", "wsgi",
                    "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
                    "--blocking-threads", str(CLIENTS), "mestore.wsgi:application",
                ],
                cwd=live_settings.BASE_DIR, env=self._environment, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            while self._main.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                except OSError:
                    threading.Event().wait(0.05)
                else:
                    self.port = port
                    return
        raise RuntimeError("the service ends as soon as it is started")

    def kill(self) -> int:
        """Kill all of its processes at once; what the system says of the end of the first."""
        os.killpg(self._main.pid, signal.SIGKILL)
        return self._main.wait()


def _market(service: Service, superuser_dsn: str) -> Market:
    sellers = [vendor_with("900000") for _ in range(SELLERS)]
    bearers = {str(vendor.pk): administration.header(vendor) for vendor, _where in sellers}
    bearers[STOREFRONT] = machine_bearer(machine()[0])

    def confirm_again() -> None:
        with psycopg.connect(superuser_dsn, autocommit=True) as superuser:
            superuser.execute(shoppers.PROVED_NOW)

    return Market(
        port=lambda: service.port, headers={"Host": "testserver", "X-Forwarded-Proto": "https"},
        tokens={who: one["Authorization"].removeprefix("Bearer ") for who, one in bearers.items()},
        accounts={str(vendor.pk): str(where.pk) for vendor, where in sellers}, confirm_again=confirm_again,
    )  # fmt: skip


def _answered_through(
    market: Market, service: Service, stop: threading.Event
) -> tuple[list[int], list[Shopper]]:
    """Let shoppers buy while the service is killed again and again; how it ended, and the shoppers."""
    buying = shoppers.start(market, "killed", CLIENTS, stop)
    ends = []
    try:
        for answers in ANSWERS:
            market.wait_for(answers, among=buying)
            ends.append(service.kill())
            settlement.settle(by=BY)
            service.start()
        market.wait_for(CLIENTS, among=buying)
    finally:
        stop.set()
        for one in buying:
            one.join()
    return ends, buying


def _wait_until_nobody_is_at_work(superuser_dsn: str) -> None:
    """Return when what the killed ones had begun in the database is over."""
    runtime = live_settings.DATABASES["default"]["USER"]
    with psycopg.connect(superuser_dsn, autocommit=True) as superuser:
        while superuser.execute(_AT_WORK, [runtime]).fetchone() != (0,):
            threading.Event().wait(0.05)


def test_everything_told_is_in_the_books_once_after_kills(
    superuser_dsn: str, settings: Any, tmp_path: Path
) -> None:
    settings.SETTLEMENT_HOLD_DAYS = 0
    settings.ACCESS_TOKEN_SECONDS = 3_600
    service = Service(tmp_path)
    try:
        market = _market(service, superuser_dsn)
        ends, buying = _answered_through(market, service, threading.Event())
        told = [one for shopper in buying for one in shopper.told]
        line = Line(market)
        differing = [one for each in told for one in shoppers.ask_again(line, each)]
        made = next(one for one in told if one.status == 201)
        seen = shoppers.ask_again(line, replace(made, body=b"{}"))
        line.close()
    finally:
        service.kill()
    _wait_until_nobody_is_at_work(superuser_dsn)

    assert ends == [-signal.SIGKILL] * KILLS
    assert [one for shopper in buying for one in shopper.wrong] == []
    assert differing == []
    assert seen, "another answer than before would not have been seen"
    assert len(told) >= sum(ANSWERS)
    with psycopg.connect(superuser_dsn, autocommit=True) as superuser:
        assert shoppers.told_and_booked(superuser, told, list(market.accounts)) == []
        forgotten = [one for one in told if one is not made]
        invented = [*told, replace(made, asked=replace(made.asked, key="never"))]
        for wrong in (forgotten, invented):
            assert shoppers.told_and_booked(superuser, wrong, list(market.accounts))
    report = verification.verify(by=BY)
    assert (report.broken, report.entries > 0) == ([], True)
