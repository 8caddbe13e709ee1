"""What the documents claim can be looked up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings

from sessions_security.policy import CHANGES

ROOT = Path(settings.BASE_DIR)
NAMED_TEST = re.compile(r"`(test_\w+)`")
DEFINED_TEST = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")])


def existing_tests() -> set[str]:
    return {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in DEFINED_TEST.findall(file.read_text(encoding="utf-8"))
    }


@pytest.mark.parametrize("document", ["findings.md", "asvs.md"])
def test_every_named_test_exists(document: str) -> None:
    named = set(NAMED_TEST.findall((ROOT / "docs" / document).read_text(encoding="utf-8")))

    assert named
    assert named - existing_tests() == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


def test_every_finding_has_its_row() -> None:
    text = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    critical, review = text.split("## Twelve findings of the review")

    assert [f"CVE-00{number}" in critical for number in range(1, 8)] == [True] * 7
    assert len([line for line in review.splitlines() if line.startswith("| ")]) - 1 == 12


def test_policy_table_in_the_settings_is_the_documented_one() -> None:
    text = (ROOT / "docs" / "security-policy.md").read_text(encoding="utf-8")

    for role, policy in settings.SESSION_POLICY.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {role} |"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1:5] == [
            str(policy[name] or "–")
            for name in ("idle_seconds", "absolute_seconds", "max_sessions", "assurance")
        ]
        changes = settings.SESSION_CHANGE_POLICY[role]
        assert f"| {role} changes | {' | '.join(changes[name] for name in CHANGES)} |" in text
    for door, limits in settings.LOGIN_LIMITS.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{door}` |"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1:5] == [
            str(limits[name]) for name in ("network", "account", "window_seconds", "lock_seconds")
        ]
        assert cells[5] == str(limits.get("pair", "–"))
    numbers = {
        f"a lock within {settings.LOCK_MEMORY_SECONDS} s of the last one is longer, by": ", ".join(
            map(str, settings.LOCK_MULTIPLIERS)
        ),
        "locks of one network in a day until every door is closed to it": settings.NETWORK_VIOLATIONS,
        "days that it stays closed, the first time and after": ", ".join(
            map(str, settings.NETWORK_BLOCK_DAYS)
        ),
        "wrong answers in a row that suspend a kind of factor": settings.FACTOR_WRONG_IN_A_ROW,
        "known devices per account": settings.KNOWN_DEVICES,
        "life of a known device after its last sign-in (s)": settings.KNOWN_DEVICE_SECONDS,
    }
    for what, number in numbers.items():
        assert f"| {what} | {number} |" in text
    assert all(f"`{door}`" in text for door in settings.NEVER_ESCALATED)
    for who, windows in settings.RATE_LIMITS.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {who}: requests |"))
        assert ", ".join(f"{limit} in {seconds} s" for limit, seconds in windows) in row
