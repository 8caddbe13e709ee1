"""The figures of a run: medians with their spread, ratios against the baselines, a table and a file."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).with_name("results")

Sample = dict[str, float]


@dataclass
class Figures:
    """Everything measured: name of a point -> one sample per round."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    statements: dict[str, float] = field(default_factory=dict)
    scale: str = ""
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, sample: Sample) -> None:
        """Keep one sample."""
        self.samples.setdefault(name, []).append(sample)

    def median(self, name: str, what: str) -> float:
        """The median over the rounds."""
        return statistics.median(sample[what] for sample in self.samples[name])

    def spread(self, name: str, what: str) -> str:
        """Median with least and greatest."""
        values = [sample[what] for sample in self.samples[name]]
        return f"{statistics.median(values):,.2f} ({min(values):,.2f} - {max(values):,.2f})"


@dataclass(frozen=True, slots=True)
class Criterion:
    """One ratio and its bound."""

    name: str
    value: Callable[[Figures], float]
    bound: float
    at_least: bool = False
    needs: Sequence[str] = ()

    def is_measured(self, figures: Figures) -> bool:
        """Whether everything that it compares was measured."""
        return all(name in figures.samples for name in self.needs)

    def is_met(self, figures: Figures) -> bool:
        """Whether the ratio is on the right side of its bound."""
        value = self.value(figures)
        return value >= self.bound if self.at_least else value <= self.bound


def _against_peer(
    point: str, title: str, *, times: float = 2.0, share: float = 0.5
) -> tuple[Criterion, Criterion]:
    """So many times the requests per second of the peer, at such a share of its CPU per request."""
    other = f"peer: {point}"
    return (
        Criterion(
            f"{title}: per second / peer",
            lambda f: f.median(point, "per_second") / f.median(other, "per_second"),
            times, at_least=True, needs=(point, other),
        ),
        Criterion(
            f"{title}: CPU in all / peer", lambda f: _cpu_in_all(f, point) / _cpu_in_all(f, other),
            share, needs=(point, other),
        ),
    )  # fmt: skip


def _ratio(name: str, point: str, other: str, bound: float, *, what: str = "per_second") -> Criterion:
    """A point at least at such a share of another one's rate."""
    return Criterion(
        name, lambda f: f.median(point, what) / f.median(other, what), bound, at_least=True,
        needs=(point, other),
    )  # fmt: skip


def _flat(point: str) -> tuple[Criterion]:
    """A list over very many rows takes no longer than over a thousand, or hardly."""
    few, many = f"{point}, few", f"{point}, many"
    return (
        Criterion(
            f"{point} of sessions: p50 at many / at a thousand",
            lambda f: f.median(many, "p50_ms") / f.median(few, "p50_ms"), 2.0, needs=(few, many),
        ),
    )  # fmt: skip


CRITERIA: Sequence[Criterion] = (
    *_against_peer("token read", "token read"),
    *_against_peer("cookie read", "cookie read"),
    *_against_peer("POST /orders/", "POST /orders/", times=2.5, share=0.4),
    _ratio("POST /orders/: all in one book / in 100 books", "POST /orders/, one book", "POST /orders/", 0.8),
    Criterion(
        "token read: CPU / bare view",
        lambda f: _cpu(f, "token read") / _cpu(f, "bare view"),
        2.0,
        needs=("token read", "bare view"),
    ),
    Criterion(
        "POST /orders/: CPU / bare view",
        lambda f: _cpu(f, "POST /orders/") / _cpu(f, "bare view"),
        8.0,
        needs=("POST /orders/", "bare view"),
    ),
    Criterion(
        "POST /orders/: per second / pgbench",
        lambda f: f.median("POST /orders/", "per_second") / f.median("pgbench", "per_second"),
        1 / 8,
        at_least=True,
        needs=("POST /orders/", "pgbench"),
    ),
    _ratio("settlement: sales per second / plain SQL", "settlement", "settlement, plain SQL", 0.5),
    _ratio("sale: 200 rules in force / none", "place, rules", "place, no rules", 0.8),
    Criterion(
        "balance of very many transfers, milliseconds",
        lambda f: f.median("balance, snapshot", "p50_ms"),
        20.0,
        needs=("balance, snapshot",),
    ),
    Criterion(
        "statement as CSV: memory beyond that at rest, MiB",
        lambda f: f.median("statement, CSV", "peak_mib") - f.median("statement, CSV", "at_rest_mib"),
        32.0,
        needs=("statement, CSV",),
    ),
    Criterion(
        "login: CPU / the hash alone",
        lambda f: _cpu(f, "login") / _cpu(f, "hash"),
        1.10,
        needs=("login", "hash"),
    ),
    *_flat("console list"),
    *_flat("list by API"),
    Criterion(
        "read: p99 while passwords are guessed / quiet",
        lambda f: f.median("read, guessed at", "p99_ms") / f.median("read, quiet", "p99_ms"),
        3.0,
        needs=("read, quiet", "read, guessed at"),
    ),
    Criterion(
        "purge: longest batch, seconds",
        lambda f: f.median("purge of sessions", "longest_batch_ms") / 1_000,
        1.0,
        needs=("purge of sessions",),
    ),
    Criterion(
        "import: orders per second / pgbench",
        lambda f: f.median("import", "per_second") / f.median("pgbench", "per_second"),
        1 / 2,
        at_least=True,
        needs=("import", "pgbench"),
    ),
)

_COLUMNS = (
    ("per second", "per_second"),
    ("p50 ms", "p50_ms"),
    ("p99 ms", "p99_ms"),
    ("CPU ms", "cpu_ms"),
    ("PostgreSQL CPU ms", "postgresql_ms"),
    ("Redis CPU ms", "redis_ms"),
)


def show(figures: Figures, console: Console) -> None:
    """Print both tables."""
    table = Table(title="Median (least - greatest) of the rounds; CPU per request")
    table.add_column("point")
    for heading, _ in _COLUMNS:
        table.add_column(heading, justify="right")
    table.add_column("statements", justify="right")
    for name, samples in figures.samples.items():
        cells = [figures.spread(name, what) if what in samples[0] else "" for _, what in _COLUMNS]
        table.add_row(name, *cells, f"{figures.statements[name]:.2f}" if name in figures.statements else "")
    console.print(table)
    ratios = Table(title="Ratios")
    for heading in ("what", "measured", "bound", ""):
        ratios.add_column(heading)
    for criterion in CRITERIA:
        if not criterion.is_measured(figures):
            ratios.add_row(criterion.name, "-", "", "not measured")
            continue
        sign = ">=" if criterion.at_least else "<="
        met = "met" if criterion.is_met(figures) else "NOT MET"
        ratios.add_row(
            criterion.name, f"{criterion.value(figures):.2f}", f"{sign} {criterion.bound:.2f}", met
        )
    console.print(ratios)


def save(figures: Figures) -> Path:
    """Write the run to benchmarks/results; the file."""
    content = {
        "scale": figures.scale,
        "ratios": {
            criterion.name: {
                "value": round(criterion.value(figures), 3),
                "bound": criterion.bound,
                "met": criterion.is_met(figures),
            }
            for criterion in CRITERIA
            if criterion.is_measured(figures)
        },
        "left_out": figures.left_out,
        "statements": figures.statements,
        "samples": figures.samples,
    }
    return save_as("", content)


def save_as(name: str, content: Mapping[str, Any]) -> Path:
    """Write what was measured to benchmarks/results, with when and where; the file."""
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    path = RESULTS / f"{now:%Y%m%dT%H%M%SZ}{f'-{name}' if name else ''}.json"
    told = {
        "at": now.isoformat(timespec="seconds"),
        "machine": {
            "processors": os.cpu_count(),
            "load": os.getloadavg(),
            "python": platform.python_version(),
            "kernel": platform.release(),
        },
    }
    path.write_text(json.dumps(told | dict(content), indent=1) + "\n", encoding="utf-8")
    return path


def _cpu_in_all(figures: Figures, name: str) -> float:
    """Application, PostgreSQL and Redis."""
    return sum(figures.median(name, what) for what in ("cpu_ms", "postgresql_ms", "redis_ms"))


def _cpu(figures: Figures, name: str) -> float:
    return figures.median(name, "cpu_ms")
