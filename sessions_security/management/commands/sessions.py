"""`manage.py sessions`: who is signed in, and ending that, from the command line."""

from __future__ import annotations

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from accounts import grants, hierarchy
from accounts.models import User
from mestore.lib import actor, errors
from sessions_security import everyone, selectors, sessions
from sessions_security.models import UserSession

BY = actor.system("sessions command")
PAGE = 500
_EXAMPLES = """
examples:
  manage.py sessions list --live --user ana@example.com
  manage.py sessions list --json --limit 1000 --after 0197f0c2-... >> sessions.jsonl
      one JSON object per line, newest first; goes on after the last id of an earlier list
  manage.py sessions revoke 0197f0c2-... --reason "Found in a log of the front end."
  manage.py sessions revoke --user ana@example.com --reason "Telephone was stolen." --dry-run
  manage.py sessions revoke --everyone --asked-by ana@example.com --approved-by leo@example.com \\
      --yes-everyone --reason "The backup of Monday was stolen."
      ends every session of everybody with their next request. Both people must be staff who hold what the
      console asks for; a command cannot prove that they agreed, so both are told by mail.

exit codes: 0 done (or nothing to do), 1 refused or unknown, 2 wrong arguments
"""


class Command(BaseCommand):
    help = "List sessions, or end some, all of an account, or everybody's."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_subparsers(dest="what", required=True, parser_class=ArgumentParser)
        _add_list(what.add_parser("list", help="newest first"))
        _add_revoke(what.add_parser("revoke", help="with the very next request, tokens included"))

    def handle(self, *_args: Any, **options: Any) -> None:
        """List or end. Raises CommandError: 1 refused or unknown, 2 wrong arguments."""
        try:
            self._list(options) if options["what"] == "list" else self._revoke(options)
        except errors.MeStoreError as error:
            raise CommandError(str(error)) from error

    def _list(self, options: dict[str, Any]) -> None:
        found = selectors.live() if options["live"] else UserSession.objects.all()
        if options["user"]:
            found = found.filter(user=_account(options["user"]))
        if options["kind"]:
            found = found.filter(kind=options["kind"])
        for session, is_live in _pages(found, options["after"], options["limit"]):
            shown = _shown(session, is_live)
            self.stdout.write(json.dumps(shown) if options["json"] else _line(shown))

    def _revoke(self, options: dict[str, Any]) -> None:
        hierarchy.demand_reason(options["reason"])
        named = [bool(options["ids"]), bool(options["user"]), options["everyone"]]
        if sum(named) != 1:
            raise CommandError(_("Name sessions, or --user, or --everyone: one of the three."), returncode=2)
        if options["everyone"]:
            done = _end_everyone(options)
        elif options["user"]:
            done = _end_of_account(_account(options["user"]), options)
        else:
            done = _end_some(options["ids"], options)
        if options["json"]:
            self.stdout.write(json.dumps(done | {"dry_run": options["dry_run"]}))
        else:
            words = _("Would end: %d") if options["dry_run"] else _("Ended: %d")
            self.stdout.write(words % done["sessions"])
        if done.get("unknown"):
            unknown = ", ".join(done["unknown"])
            raise CommandError(_("Unknown or ended already: %s") % unknown, returncode=1)


def _add_list(parser: ArgumentParser) -> None:
    parser.add_argument("--user", help="of this account: e-mail address or id")
    parser.add_argument("--live", action="store_true", help="only those that have not ended")
    parser.add_argument("--kind", choices=UserSession.Kind.values, help="browsers or tokens")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--limit", type=_positive, default=100, help="at most so many (default 100)")
    parser.add_argument("--after", type=UUID, help="go on after this id")


def _add_revoke(parser: ArgumentParser) -> None:
    parser.add_argument("ids", nargs="*", type=UUID, metavar="ID", help="sessions")
    parser.add_argument("--user", help="all of this account: e-mail address or id")
    parser.add_argument("--everyone", action="store_true", help="all of everybody")
    parser.add_argument("--asked-by", help="with --everyone: who asked for it, e-mail address or id")
    parser.add_argument("--approved-by", help="with --everyone: the second person")
    parser.add_argument("--yes-everyone", action="store_true", help="with --everyone: do not only say so")
    parser.add_argument("--reason", required=True, help="why, in at least ten characters; kept in the trail")
    parser.add_argument("--dry-run", action="store_true", help="only say how many would end")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _account(name: str) -> User:
    try:
        return User.objects.get(pk=UUID(name)) if _is_id(name) else User.objects.by_email(name)
    except User.DoesNotExist:
        raise CommandError(_("There is no such account."), returncode=1) from None


def _is_id(name: str) -> bool:
    try:
        UUID(name)
    except ValueError:
        return False
    return True


def _pages(
    found: QuerySet[UserSession], after: UUID | None, limit: int
) -> Iterator[tuple[UserSession, bool]]:
    """Yield up to `limit` sessions, newest first, a page at a time: memory does not grow with the list."""
    left = limit
    while left:
        rows = found.filter(pk__lt=after) if after else found
        page = list(rows.select_related("user").order_by("-pk")[: min(left, PAGE)])
        if not page:
            return
        ids = [session.pk for session in page]
        alive = set(selectors.live().filter(pk__in=ids).values_list("pk", flat=True))
        yield from ((session, session.pk in alive) for session in page)
        after, left = page[-1].pk, left - len(page)


def _shown(session: UserSession, is_live: bool) -> dict[str, Any]:
    ends = [moment for moment in (session.idle_expires_at, session.absolute_expires_at) if moment]
    return {
        "id": str(session.pk),
        "user_id": str(session.user_id),
        "email": session.user.email,
        "role": session.user.user_type,
        "kind": session.kind,
        "live": is_live,
        "amr": session.amr,
        "address": session.address,
        "country": session.country,
        "agent": session.agent,
        "created_at": session.created_at.isoformat(),
        "last_seen_at": session.last_seen_at.isoformat(),
        "ends_at": min(ends).isoformat(),
        "ended_at": session.revoked_at.isoformat() if session.revoked_at else None,
        "ended_why": session.revoked_why,
    }


def _line(shown: dict[str, Any]) -> str:
    state = _("live") if shown["live"] else shown["ended_why"] or _("ended")
    # Control characters of an agent never reach a terminal: they were taken out when the request came in.
    parts = (
        shown["id"], state, shown["kind"], shown["role"], shown["email"], shown["address"],
        shown["created_at"][:19], shown["agent"][:60],
    )  # fmt: skip
    return "  ".join(str(part) for part in parts)


def _end_some(ids: list[UUID], options: dict[str, Any]) -> dict[str, Any]:
    found = {session.pk: session for session in selectors.live().filter(pk__in=ids).select_related("user")}
    unknown = [str(pk) for pk in ids if pk not in found]
    ended = len(found)
    if not options["dry_run"]:
        ended = sum(
            sessions.end(session, by=BY, why="command", reason=options["reason"])
            for session in found.values()
        )
    return {"sessions": ended, "unknown": unknown}


def _end_of_account(user: User, options: dict[str, Any]) -> dict[str, Any]:
    if options["dry_run"]:
        return {"sessions": sessions.live(user).count()}
    return {"sessions": sessions.end_all(user, by=BY, why="command", reason=options["reason"])}


def _end_everyone(options: dict[str, Any]) -> dict[str, Any]:
    asker = _staff(options["asked_by"], "--asked-by", everyone.ASKING)
    second = _staff(options["approved_by"], "--approved-by", everyone.APPROVING)
    if asker.pk == second.pk:
        raise CommandError(_("The second person must be another one."), returncode=2)
    count = selectors.live().count()
    if options["dry_run"]:
        return {"sessions": count}
    if not options["yes_everyone"]:
        raise CommandError(_("This ends everybody's sessions. Say --yes-everyone."), returncode=2)
    everyone.end_by_command(asker, second, reason=options["reason"], by=BY)
    return {"sessions": count}


def _staff(name: str | None, option: str, permission: str) -> User:
    if not name:
        raise CommandError(_("--everyone needs %s.") % option, returncode=2)
    user = _account(name)
    if not user.is_staff or not user.may_sign_in or not grants.has_perm(user, permission):
        raise CommandError(_("%s may not decide this.") % name, returncode=1)
    return user
