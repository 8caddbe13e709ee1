"""Spanish and English: every text has its translation, and the compiled catalogue is up to date."""

from __future__ import annotations

import gettext
import re

import polib
import pytest
from django.utils import translation

from tests.harness.messages import CATALOGUE, Message, asked_for, message_of, messages_in

PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%[sd]|\{\w*\}")


@pytest.fixture(scope="module")
def catalogue() -> polib.POFile:
    return polib.pofile(str(CATALOGUE))


def test_every_text_is_translated(catalogue: polib.POFile) -> None:
    known = {message_of(entry) for entry in catalogue if entry.translated()}

    missing = {message: file for message, file in asked_for().items() if message not in known}

    assert missing == {}


def test_nothing_is_translated_that_nobody_asks_for(catalogue: polib.POFile) -> None:
    asked = set(asked_for())

    assert [entry.msgid for entry in catalogue if message_of(entry) not in asked] == []


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
        context = entry.msgctxt
        if entry.msgid_plural and context:
            found = compiled.npgettext(context, entry.msgid, entry.msgid_plural, 2)
        elif entry.msgid_plural:
            found = compiled.ngettext(entry.msgid, entry.msgid_plural, 2)
        else:
            found = compiled.pgettext(context, entry.msgid) if context else compiled.gettext(entry.msgid)
        assert found == (entry.msgstr_plural[1] if entry.msgid_plural else entry.msgstr)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% translate 'Order' %}", ("Order", None, None)),
        ("{% translate 'Order' as word %}{{ word }}", ("Order", None, None)),
        ("{% translate 'Order' context 'sorting' %}", ("Order", None, "sorting")),
        ("{{ text|default:_('Search') }}", ("Search", None, None)),
        (
            "{% blocktranslate trimmed with n=rows %}\n {{ n }} rows\nof 100 %{% endblocktranslate %}",
            ("%(n)s rows of 100 %%", None, None),
        ),
        (
            "{% blocktranslate count n=n %}{{ n }} row{% plural %}{{ n }} rows{% endblocktranslate %}",
            ("%(n)s row", "%(n)s rows", None),
        ),
        (
            "{% blocktranslate context 'c' count n=n %}a ({{ n }}){% plural %}b{% endblocktranslate %}",
            ("a (%(n)s)", "b", "c"),
        ),
    ],
)
def test_templates_are_read(source: str, message: Message) -> None:
    assert set(messages_in("{% load i18n %}<p>" + source + "</p>", is_template=True)) == {message}


def test_code_is_read() -> None:
    source = """
_("one " "text"); gettext_lazy("lazy"); ngettext("%d row", "%d rows", n)
pgettext("sorting", "Order"); npgettext_lazy("c", "a", "b", n); _(variable)
"""

    assert set(messages_in(source, is_template=False)) == {
        ("one text", None, None),
        ("lazy", None, None),
        ("%d row", "%d rows", None),
        ("Order", None, "sorting"),
        ("a", "b", "c"),
    }


def test_spanish_is_the_default() -> None:
    with translation.override(None):
        assert translation.gettext("Not found") != ""
    from django.conf import settings

    assert settings.LANGUAGE_CODE == "es"
