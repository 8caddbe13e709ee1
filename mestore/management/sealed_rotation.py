"""`manage.py rotate_keys --purpose session`: move every sealed value to the current master key."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from django.conf import settings
from django.core.management.base import CommandError
from django.db import transaction
from django.utils.translation import gettext as _

from mestore.lib import actor, resealing
from mestore.lib.resealing import Resealed, Standing
from monitoring import audit, events

Write = Callable[[str], Any]
_ID: Final = re.compile(r"[A-Za-z0-9]{1,32}", re.ASCII)


def run(options: Mapping[str, Any], *, write: Write, tell: Write) -> None:
    """Reseal (or with `dry_run` only count), print what stands under which key; `tell` takes the progress.

    Raises CommandError: 1 when an older key is still needed, 2 when a value does not open or names a key that
    is not in the ring.
    """
    if options["new"] is not None:
        write(_new_entry(options["new"], as_json=options["json"]))
        return
    done = [] if options["dry_run"] else _reseal(tell)
    standing = resealing.census()
    if options["json"]:
        write(
            json.dumps({"resealed": [asdict(one) for one in done], "keys": [asdict(one) for one in standing]})
        )
    else:
        for line in _lines(done, standing):
            write(line)
    if any(one.unreadable for one in done) or not all(one.is_held for one in standing):
        raise CommandError(_("Some values do not open with any key of the ring."), returncode=2)
    if not all(one.is_current for one in standing):
        raise CommandError(_("An older key is still needed."), returncode=1)


def _reseal(tell: Write) -> list[Resealed]:
    done = [
        resealing.reseal(place, progress=lambda name, moved: tell(f"{name}: {moved}"))
        for place in resealing.places()
    ]
    moved = {one.place: one.moved for one in done if one.moved}
    unreadable = {one.place: one.unreadable for one in done if one.unreadable}
    if moved or unreadable:
        with transaction.atomic():
            audit.record(
                events.VALUES_RESEALED,
                by=actor.system("rotate_keys"),
                target=("master_key", next(iter(settings.MESTORE_MASTER_KEYS))),
                data={"moved": moved, "unreadable": unreadable},
            )
    return done


def _new_entry(key_id: str, *, as_json: bool) -> str:
    if not _ID.fullmatch(key_id) or key_id in settings.MESTORE_MASTER_KEYS:
        raise CommandError(
            _("The id must be new: up to 32 letters and digits that no key has."), returncode=2
        )
    entry = f"{key_id}:{base64.b64encode(secrets.token_bytes(32)).decode('ascii')}"
    return json.dumps({"entry": entry}) if as_json else entry


def _lines(done: list[Resealed], standing: list[Standing]) -> list[str]:
    lines = [
        _("%(place)s: %(moved)d moved, %(unreadable)d do not open")
        % {"place": one.place, "moved": one.moved, "unreadable": one.unreadable}
        for one in done
        if one.moved or one.unreadable
    ]
    for one in standing:
        state = _("current") if one.is_current else _("older") if one.is_held else _("MISSING")
        lines.append(
            _("%(id)s (%(state)s): %(values)d in %(place)s")
            % {"id": one.key_id, "state": state, "values": one.values, "place": one.place}
        )
    return lines or [_("Nothing is sealed.")]
