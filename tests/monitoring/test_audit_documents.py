"""Every signal and alert about the audit trail is documented, with what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring import (
    alerts,
    cosigning,
    guards_seen,
    metrics,
    overdue,
    pipeline,
    receipt_matching,
    row_reconciliation,
    sequencer,
)

ROOT = Path(__file__).resolve().parents[2]
RULES = [
    sequencer.DAMAGED, sequencer.UNEXPLAINED, cosigning.SHRANK, receipt_matching.WITHOUT_LEAF,
    receipt_matching.AROUND, pipeline.BEHIND, pipeline.UNSIGNED, pipeline.SILENT, pipeline.UNWATCHED,
    pipeline.SPOOLED, row_reconciliation.UNTOLD, overdue.RECONCILIATION, overdue.VERIFICATION,
    guards_seen.UNSEEN,
]  # fmt: skip
WORDS = {alerts.Severity.INFO: "information"}


def document(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def runbooks() -> set[str]:
    """Anchors of the headings in the runbook."""
    titles = re.findall(r"^#+ (.+)$", document("operations.md"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


def prometheus_rules() -> list[dict[str, Any]]:
    text = (ROOT / "deploy" / "alerts.yml").read_text(encoding="utf-8")
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_signal_is_in_the_policy_and_has_its_runbook(rule: alerts.Rule) -> None:
    word = WORDS.get(rule.severity, rule.severity.name.lower())

    assert f"| `{rule.code}` | {word} |" in document("security-policy.md")
    assert rule.runbook in runbooks()


@pytest.mark.parametrize("rule", prometheus_rules(), ids=lambda rule: rule["alert"])
def test_alert_says_for_how_long_how_bad_and_what_to_do(rule: dict[str, Any]) -> None:
    metrics.scrape()
    address, _hash, anchor = rule["annotations"]["runbook_url"].partition("#")

    assert re.fullmatch(r"\d+m", rule["for"])
    assert rule["labels"]["severity"] in {"high", "critical"}
    assert rule["annotations"]["summary"].endswith(".")
    assert address == "docs/operations.md"
    assert anchor in runbooks()
    for name in re.findall(r"mestore_\w+", rule["expr"]):
        assert f"# HELP {name} " in metrics.scrape().decode()
