"""The catalogue: complete, unique, documented."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.utils import translation

from monitoring import events
from monitoring.management.commands import event_catalogue

PACKAGES = ("mestore", "accounts", "sessions_security", "finance", "monitoring", "tests")
USE = re.compile(r"\bevents\.([A-Z][A-Z0-9_]+)\b")


def _constants() -> dict[str, str]:
    return {name: value for name, value in vars(events).items() if name.isupper() and type(value) is str}


def test_unknown_code_is_refused() -> None:
    with pytest.raises(events.UnknownEvent, match=r"no\.such\.event"):
        events.get("no.such.event")


def test_code_cannot_be_taken_twice() -> None:
    with pytest.raises(ValueError, match="twice"):
        events._event(events.USER_CREATED, events.Category.AUDIT, events.Outcome.SUCCESS, "Again.")


@pytest.mark.parametrize("code", ["", "single", "Upper.case", "a.b.c.d.e", "a..b", "a.b ", "1a.b"])
def test_malformed_code_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match="well-formed"):
        events._event(code, events.Category.AUDIT, events.Outcome.SUCCESS, "Nothing.")


def test_every_entry_has_one_constant() -> None:
    assert sorted(_constants().values()) == [event.code for event in events.catalogue()]


def test_every_event_that_code_speaks_of_exists() -> None:
    known = set(_constants())
    missing = {
        f"{path}: events.{name}"
        for package in PACKAGES
        for path in (Path(settings.BASE_DIR) / package).rglob("*.py")
        for name in USE.findall(path.read_text(encoding="utf-8"))
        if name not in known
    }

    assert not missing


def test_every_entry_says_what_happened() -> None:
    assert all(event.description.endswith(".") and event.version >= 1 for event in events.catalogue())


def test_every_event_is_said_in_both_languages() -> None:
    with translation.override("es"):
        spanish = {event.code: translation.gettext(event.description) for event in events.catalogue()}
    with translation.override("en"):
        english = {event.code: translation.gettext(event.description) for event in events.catalogue()}

    assert english == {event.code: event.description for event in events.catalogue()}
    assert [code for code, said in spanish.items() if said == english[code]] == []


def test_document_lists_the_catalogue() -> None:
    call_command("event_catalogue", check=True)

    assert all(f"`{event.code}`" in event_catalogue.table() for event in events.catalogue())


def test_document_that_is_behind_is_noticed_and_rewritten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(event_catalogue, "DOCUMENT", tmp_path / "events.md")
    with pytest.raises(CommandError, match="out of date"):
        call_command("event_catalogue", check=True)

    call_command("event_catalogue", write=True, stdout=StringIO())

    call_command("event_catalogue", check=True)


def test_catalogue_can_be_printed() -> None:
    out = StringIO()

    call_command("event_catalogue", stdout=out)

    assert out.getvalue() == event_catalogue.table()
