"""Spanish and English: every text has its translation, and the compiled catalogue is up to date."""

from __future__ import annotations

import gettext
import re

import polib
import pytest
from django.utils import translation

from tests.harness.messages import CATALOGUE, asked_for

PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%[sd]|\{\w*\}")


@pytest.fixture(scope="module")
def catalogue() -> polib.POFile:
    return polib.pofile(str(CATALOGUE))


def test_every_text_is_translated(catalogue: polib.POFile) -> None:
    known = {(entry.msgid, entry.msgid_plural or None) for entry in catalogue if entry.translated()}

    missing = {message: file for message, file in asked_for().items() if message not in known}

    assert missing == {}


def test_nothing_is_translated_that_nobody_asks_for(catalogue: polib.POFile) -> None:
    asked = set(asked_for())

    assert [
        entry.msgid for entry in catalogue if (entry.msgid, entry.msgid_plural or None) not in asked
    ] == []


def test_translations_keep_the_placeholders(catalogue: polib.POFile) -> None:
    for entry in catalogue:
        wanted = sorted(PLACEHOLDER.findall(entry.msgid_plural or entry.msgid))
        for text in entry.msgstr_plural.values() if entry.msgid_plural else [entry.msgstr]:
            found = sorted(PLACEHOLDER.findall(text))
            assert set(found) <= set(wanted), entry.msgid
            assert entry.msgid_plural or found == wanted, entry.msgid


def test_compiled_catalogue_is_up_to_date(catalogue: polib.POFile) -> None:
    with CATALOGUE.with_suffix(".mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)

    for entry in catalogue:
        if entry.msgid_plural:
            assert compiled.ngettext(entry.msgid, entry.msgid_plural, 2) == entry.msgstr_plural[1]
        else:
            assert compiled.gettext(entry.msgid) == entry.msgstr


def test_spanish_is_the_default() -> None:
    with translation.override(None):
        assert translation.gettext("Not found") != ""
    from django.conf import settings

    assert settings.LANGUAGE_CODE == "es"
