"""What `manage.py rotate_keys --purpose signing` does: show, rotate, drop and seal again the signing keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.translation import gettext as _

from mestore.lib import actor, crypto
from sessions_security import keys

BATCH = 100
Write = Callable[[str], object]


def run(options: dict[str, Any], *, write: Write) -> None:
    """Do what the options ask for and print where the keys stand afterwards.

    Raises CommandError: 1 for a key that no master key opens, 2 for options that do not go together.
    """
    by = actor.system("rotate_keys")
    if options["compromised"] and not options["rotate"]:
        raise CommandError(_("--compromised goes with --rotate."), returncode=2)
    planned = options["rotate"] and options["dry_run"]
    done: dict[str, Any] = {"rotated": None, "rewrapped": 0, "dry_run": bool(options["dry_run"])}
    try:
        if options["rewrap"] and not options["dry_run"]:
            done["rewrapped"] = _rewrap()
        if options["rotate"] and not planned:
            done["rotated"] = keys.rotate(by=by, compromised=options["compromised"])
        elif not options["dry_run"]:
            keys.retire_old(by=by)
    except crypto.Unreadable:
        raise CommandError(
            _("A signing key is sealed under a master key that is not in the ring. Rotate it away."),
            returncode=1,
        ) from None
    found = keys.standing()
    if options["json"]:
        write(json.dumps(done | {"keys": [_plain(one) for one in found]}))
        return
    for one in found:
        write(_line(one))
    if planned:
        write(_("Nothing was changed."))
        if options["compromised"]:
            write(_("A new key would sign, and every former one would be dropped at once."))
        else:
            write(_("A new key would sign; the former one would verify until its last token has expired."))


def _rewrap() -> int:
    total = 0
    while done := keys.rewrap(BATCH):
        total += done
    return total


def _plain(one: keys.Standing) -> dict[str, Any]:
    return {
        "kid": one.kid,
        "state": one.state,
        "created_at": one.created_at.isoformat(),
        "age_seconds": int((timezone.now() - one.created_at).total_seconds()),
        "verify_until": one.verify_until.isoformat() if one.verify_until else None,
        "master_key": one.master_key,
    }


def _line(one: keys.Standing) -> str:
    facts = {
        "kid": one.kid,
        "days": (timezone.now() - one.created_at).days,
        "master": one.master_key,
        "until": f"{one.verify_until:%Y-%m-%d %H:%M} UTC" if one.verify_until else "",
    }
    if one.is_current:
        return _("%(kid)s: signs; %(days)d days old; under master key %(master)s") % facts
    return _("%(kid)s: verifies until %(until)s; %(days)d days old; under master key %(master)s") % facts
