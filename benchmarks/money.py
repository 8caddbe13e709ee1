"""Points about money beyond the sale: rules, refunds, payouts, settlement, statements, balances, reports.

Rules, refunds, payouts and settlements run in one process, one after the other; statements are read through
the service. What is compared (rules or none, our settlement or plain SQL) takes turns.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from benchmarks import money_sql, points
from benchmarks.house import House
from benchmarks.report import Figures, Sample

RULES = 200
NAMES = (
    "commission alone", "place, no rules", "place, rules", "refund", "payout request", "payout approval",
    "settlement", "settlement, plain SQL", "statement, JSON pages", "statement, CSV", "balance, no snapshot",
    "taking snapshots", "balance, snapshot", "reconciliation import", "reconciliation", "COPY of a report",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of each; `settled` sales in each of `rounds` settlements, twice over: ours and plain SQL."""

    rounds: int
    charges: int
    placed: int
    refunds: int
    payouts: int
    settled: int
    statement_lines: int
    transfers: int
    report_lines: int


# A report's lines are payments of the sales that were settled: no more of them than twice settled x rounds.
AMOUNTS = {
    "smoke": Amounts(1, 200, 5, 5, 5, 300, 1_500, 2_000, 600),
    "sample": Amounts(3, 20_000, 300, 200, 100, 8_000, 100_000, 400_000, 48_000),
    "full": Amounts(1, 20_000, 1_000, 500, 200, 1_000_000, 100_000, 4_000_000, 100_000),
}


PARTS = (NAMES[:3], NAMES[3:4], NAMES[4:6], NAMES[6:8], NAMES[8:10], NAMES[10:13], NAMES[13:])


def measure(
    house: House, figures: Figures, folder: Path, vendors: Sequence[dict[str, str]], amounts: Amounts,
    *, only: str = "",
) -> None:  # fmt: skip
    """Add the figures, with `only` those of the parts that have a point whose name holds that text.

    `vendors` have a token each; the last ones' statements are read.
    """
    rules, refund, payout, settled, statement, balance, reported = (
        not only or any(only in name for name in names) for names in PARTS
    )
    server = house.servers.control("resume", "postgresql") or 0  # which only asks, for one that runs
    with house.admin() as connection:
        for _ in range(amounts.rounds):
            if rules:
                _rules(house, figures, connection, server, amounts)
            if refund:
                _add(figures, _work(house, "refund", amounts.refunds, server))
            if payout:
                _add(figures, _work(house, "payout", amounts.payouts, server))
        if settled or reported:  # a report's lines are payments of the sales that were settled
            _settlements(house, figures, connection, server, amounts)
        if statement:
            _statement(house, figures, connection, vendors, amounts)
        if balance:
            _balance(house, figures, connection, server, amounts)
        if reported:
            _report(house, figures, connection, folder, server, amounts)


def _add(figures: Figures, found: dict[str, Sample], **names: str) -> None:
    for name, sample in found.items():
        figures.add(names.get(name, name), sample)


def _work(house: House, what: str, count: int, server: int, *more: str) -> dict[str, Sample]:
    printed = house.python("-m", "benchmarks.money_work", what, str(count), str(server), *more)
    found: dict[str, Sample] = json.loads(printed.splitlines()[-1])
    return found


def _rules(
    house: House, figures: Figures, connection: money_sql.Connection, server: int, amounts: Amounts
) -> None:
    """The engine alone, and sales with no rule in force and with two hundred."""
    _add(figures, _work(house, "charge", amounts.charges, server))
    for count, name in ((0, "place, no rules"), (RULES, "place, rules")):
        money_sql.set_rules(connection, count)
        _add(figures, _work(house, "place", amounts.placed, server), place=name)
    money_sql.set_rules(connection, 0)


def _settlements(
    house: House, figures: Figures, connection: money_sql.Connection, server: int, amounts: Amounts
) -> None:
    """Ours and plain SQL in turn, over equally many sales that were made for it."""
    _work(house, "settle", 0, server)  # what was imported and is due: out of the way
    found = connection.execute(
        "SELECT user_id::text FROM accounts_vendorprofile WHERE vendor_status = 'approved' LIMIT 500"
    )
    books = [book for (book,) in found]
    for number in range(amounts.rounds):
        for name in ("settlement", "settlement, plain SQL"):
            money_sql.fill_sales(connection, f"settled{len(name)}-{number}", books, amounts.settled)
            connection.execute("VACUUM (ANALYZE)")
            if name == "settlement":
                _add(figures, _work(house, "settle", amounts.settled, server))
            else:
                figures.add(name, _plain_settlement(house, amounts.settled))


def _plain_settlement(house: House, count: int) -> Sample:
    before, began = house.cpu()["postgresql"], time.perf_counter()
    with psycopg.connect(house.servers.owner_database_url()) as connection:
        connection.execute(money_sql.PLAIN_SETTLEMENT.encode())
    seconds, processor = time.perf_counter() - began, house.cpu()["postgresql"] - before
    with house.admin() as connection:
        left = connection.execute(
            "SELECT count(*) FROM finance_commission c JOIN finance_order o ON o.id = c.order_id"
            " WHERE o.source = 'bench' AND c.status <> 'PAID'"
        ).fetchone()
    if left != (0,):
        raise RuntimeError(f"plain SQL left commissions unsettled: {left}")
    return {
        "requests": count, "per_second": count / seconds, "postgresql_ms": processor * 1_000 / count,
        "cpu_ms": 0.0,
    }  # fmt: skip


def _statement(
    house: House, figures: Figures, connection: money_sql.Connection, vendors: Sequence[dict[str, str]],
    amounts: Amounts,
) -> None:  # fmt: skip
    """A vendor reads a long statement: all pages of it, then as CSV. Another one each round: a rate limit."""
    for number in range(amounts.rounds):
        vendor = vendors[-1 - number]
        money_sql.fill_statement(connection, vendor["id"], amounts.statement_lines)
        connection.execute("VACUUM (ANALYZE) ledger_statement_line, ledger_entry")
        for name, read in (("statement, JSON pages", _pages), ("statement, CSV", _csv)):
            figures.add(name, _read_statement(house, vendor, amounts.statement_lines, read))


def _read_statement(house: House, vendor: dict[str, str], lines: int, read: Any) -> Sample:
    workers = list(house.shares("mestore"))
    for pid in workers:
        _forget_peak(pid)
    before, began = house.cpu(), time.perf_counter()
    at_rest = max(_peak_mib(pid) for pid in workers)
    found, sent = read(house, vendor)
    seconds, after = time.perf_counter() - began, house.cpu()
    if found != lines:
        raise RuntimeError(f"{found} lines of {lines} were read")
    return {
        "requests": lines, "per_second": lines / seconds, "seconds": seconds, "bytes": sent,
        "cpu_ms": (after["mestore"] - before["mestore"]) * 1_000 / lines,
        "postgresql_ms": (after["postgresql"] - before["postgresql"]) * 1_000 / lines,
        "peak_mib": max(_peak_mib(pid) for pid in workers), "at_rest_mib": at_rest,
    }  # fmt: skip


def _pages(house: House, vendor: dict[str, str]) -> tuple[int, int]:
    """Read every page; lines and bytes."""
    lines = sent = 0
    cursor = "0"
    connection = http.client.HTTPConnection("127.0.0.1", house.ports["mestore"], timeout=60)
    while cursor:
        body = _get(connection, vendor, f"format=json&currency=USD&limit=500&cursor={cursor}").read()
        page = json.loads(body)
        lines, sent, cursor = lines + len(page["results"]), sent + len(body), page["next"] or ""
    connection.close()
    return lines, sent


def _csv(house: House, vendor: dict[str, str]) -> tuple[int, int]:
    """Read the file as it is written; lines and bytes. Heading, opening and closing are no lines."""
    connection = http.client.HTTPConnection("127.0.0.1", house.ports["mestore"], timeout=600)
    answer = _get(connection, vendor, "format=csv&currency=USD")
    lines = sent = 0
    while chunk := answer.read(1 << 16):
        lines, sent = lines + chunk.count(b"\n"), sent + len(chunk)
    connection.close()
    return lines - 3, sent


def _get(
    connection: http.client.HTTPConnection, vendor: dict[str, str], query: str
) -> http.client.HTTPResponse:
    path = f"/api/v1/vendors/{vendor['id']}/statement?{query}"
    headers = points.proxied("203.0.113.7") | {"Authorization": f"Bearer {vendor['token']}", "Accept": "*/*"}
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    if answer.status != http.client.OK:
        raise RuntimeError(f"{answer.status}: {answer.read()[:500].decode(errors='replace')}")
    return answer


def _balance(
    house: House, figures: Figures, connection: money_sql.Connection, server: int, amounts: Amounts
) -> None:
    money_sql.fill_transfers(connection, str(UUID(int=amounts.transfers)), amounts.transfers)
    connection.execute("VACUUM (ANALYZE) ledger_transfer, ledger_entry")
    _add(figures, _work(house, "balance", amounts.transfers, server))


def _report(
    house: House, figures: Figures, connection: money_sql.Connection, folder: Path, server: int,
    amounts: Amounts,
) -> None:  # fmt: skip
    """A provider's report of sales that there are, each round with another fee so that it is another file."""
    found = connection.execute(
        "SELECT reference, amount_minor FROM finance_orderpayment WHERE provider = %s ORDER BY id LIMIT %s",
        [money_sql.PROVIDER, amounts.report_lines],
    )
    paid = [(str(reference), int(minor)) for reference, minor in found]
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    for number in range(amounts.rounds):
        path = folder / f"report{number}.csv"
        with path.open("w", encoding="utf-8") as stream:
            stream.write("reference,kind,amount,currency,occurred_at,fee\n")
            for reference, minor in paid:
                stream.write(f"{reference},payment,{minor // 100}.{minor % 100:02d},COP,{moment},{number}\n")
        _add(figures, _work(house, "reconcile", len(paid), server, str(path)))
        figures.add("COPY of a report", _copy_alone(house, paid, moment))


def _copy_alone(house: House, paid: Sequence[tuple[str, int]], moment: str) -> Sample:
    """The same rows into a table of the same columns and indexes, from memory."""
    rows = "".join(
        f"{line}\tpayment\t{reference}\tCOP\t{minor}\t0\t{moment}\n"
        for line, (reference, minor) in enumerate(paid, 2)
    ).encode()
    before, began = house.cpu()["postgresql"], time.perf_counter()
    with psycopg.connect(house.servers.owner_database_url()) as connection:
        connection.execute("CREATE TABLE bench_record (LIKE finance_providerrecord INCLUDING ALL)")
        connection.execute("ALTER TABLE bench_record ALTER COLUMN report_id SET DEFAULT gen_random_uuid()")
        cursor = connection.cursor()
        with cursor.copy(
            "COPY bench_record (line, kind, reference, currency, amount_minor, fee_minor, occurred_at)"
            " FROM STDIN"
        ) as copy:
            copy.write(rows)
        connection.commit()
        seconds, processor = time.perf_counter() - began, house.cpu()["postgresql"] - before
        connection.execute("DROP TABLE bench_record")
    count = len(paid)
    return {"requests": count, "per_second": count / seconds, "postgresql_ms": processor * 1_000 / count}


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def _peak_mib(pid: int) -> float:
    """The most memory that a process had since its peak was forgotten."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has no peak")
