"""The texts for people: what the code asks for, compared with what the Spanish catalogue has.

`python -m tests.harness.messages` adds what is missing to locale/es (empty, to be translated by a person),
drops what nothing asks for any more and compiles the catalogue. English is the language of the source: it
needs none.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import polib
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = ROOT / "locale" / "es" / "LC_MESSAGES" / "django.po"
PACKAGES = ("mestore", "accounts", "sessions_security", "finance", "monitoring")
SINGULAR = {"_", "gettext", "gettext_lazy", "gettext_noop"}
PLURAL = {"ngettext", "ngettext_lazy"}
CONTEXT = {"pgettext", "pgettext_lazy"}
CONTEXT_PLURAL = {"npgettext", "npgettext_lazy"}
EVENT = "_event"  # an entry of the catalogue of events: people read its description

Message = tuple[str, str | None, str | None]  # msgid, plural, context


def asked_for() -> dict[Message, str]:
    """Return every message of code and templates with the file that asks for it first."""
    found: dict[Message, str] = {}
    for file in sorted(_files()):
        text = file.read_text(encoding="utf-8")
        for message in messages_in(text, is_template=file.suffix != ".py"):
            found.setdefault(message, str(file.relative_to(ROOT)))
    return found


def message_of(entry: polib.POEntry) -> Message:
    """Return what an entry of a catalogue translates."""
    return entry.msgid, entry.msgid_plural or None, entry.msgctxt


def _files() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (file for file in (ROOT / package).rglob("*.py") if "migrations" not in file.parts)
        yield from (ROOT / package).rglob("templates/**/*.html")
    yield from (ROOT / "templates").rglob("*.html")
    yield from (ROOT / "templates").rglob("*.txt")  # mail and text messages


def messages_in(text: str, *, is_template: bool) -> Iterator[Message]:
    """Yield the messages of one template or module."""
    if not is_template:
        yield from _calls(ast.parse(text))
        return
    # templatize leaves ` gettext("…") ` and ` ngettext("…","…",count) ` between other characters.
    for line in _template_calls(templatize(text)):
        yield from _calls(ast.parse(line, mode="eval"))


def _template_calls(source: str) -> Iterator[str]:
    position = 0
    while True:
        starts = [at for name in ("gettext(", "_(") if (at := source.find(name, position)) >= 0]
        if not starts:
            return
        start = min(starts)
        while start > 0 and (source[start - 1].isalpha() or source[start - 1] == "_"):
            start -= 1  # ngettext, pgettext
        for end in range(source.find(")", start), len(source) + 1):
            piece = source[start:end]
            if piece.endswith(")") and _parses(piece):
                yield piece
                position = end
                break
        else:
            position = start + 8


def _parses(piece: str) -> bool:
    try:
        ast.parse(piece, mode="eval")
    except SyntaxError:
        return False
    return True


def _calls(tree: ast.AST) -> Iterator[Message]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        texts = [
            arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
        ]
        if name in SINGULAR and texts:
            yield texts[0], None, None
        elif name == EVENT and len(texts) == 2:  # its code and what it means
            yield texts[1], None, None
        elif name in PLURAL and len(texts) >= 2:
            yield texts[0], texts[1], None
        elif name in CONTEXT and len(texts) >= 2:
            yield texts[1], None, texts[0]
        elif name in CONTEXT_PLURAL and len(texts) >= 3:
            yield texts[1], texts[2], texts[0]


def update() -> int:
    """Bring the catalogue in step with the code, compile it, return how many messages are not translated."""
    CATALOGUE.parent.mkdir(parents=True, exist_ok=True)
    old = polib.pofile(str(CATALOGUE), wrapwidth=110) if CATALOGUE.exists() else polib.POFile()
    known = {message_of(entry): entry for entry in old}
    new = polib.POFile(wrapwidth=110)
    new.metadata = {
        "Language": "es",
        "Content-Type": "text/plain; charset=utf-8",
        "Plural-Forms": "nplurals=2; plural=(n != 1);",
    }
    wanted = sorted(asked_for().items(), key=lambda item: (item[1], item[0][0], item[0][2] or ""))
    for (msgid, plural, context), file in wanted:
        before = known.get((msgid, plural, context))
        entry = polib.POEntry(msgid=msgid, msgctxt=context, occurrences=[(file, "")])
        if plural is not None:
            entry.msgid_plural = plural
            entry.msgstr_plural = before.msgstr_plural if before else {0: "", 1: ""}
        else:
            entry.msgstr = before.msgstr if before else ""
        if "%(" in msgid or "%s" in msgid:
            entry.flags = ["python-format"]
        new.append(entry)
    new.save(str(CATALOGUE))
    new.save_as_mofile(str(CATALOGUE.with_suffix(".mo")))
    return len(new.untranslated_entries())


if __name__ == "__main__":
    missing = update()
    sys.stdout.write(f"{missing} messages lack a translation in {CATALOGUE.relative_to(ROOT)}\n")
