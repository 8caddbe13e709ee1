"""Processor time of process trees, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(root: int) -> float:
    """User and system time of a process and its descendants, ended children that were waited for included."""
    return sum(_own(pid) for pid in _tree(root)) / _TICKS


def exact_seconds(pid: int) -> float:
    """Processor time of one process with one thread, to the microsecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9


def children_seconds(root: int) -> dict[int, float]:
    """User and system time of each child of a process, its own descendants included, by process id."""
    children = [pid for pid in _tree(root) if (fields := _fields(pid)) and int(fields[1]) == root]
    return {pid: cpu_seconds(pid) for pid in children}


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _fields(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _own(pid: int) -> int:
    fields = _fields(pid)
    return sum(int(value) for value in fields[11:15]) if fields else 0


def _fields(pid: int) -> list[str]:
    """The fields of /proc/pid/stat from the state on; nothing when the process is gone."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return []
