"""Lists the demo among the commands. manage.py runs it without Django: it makes the settings' environment."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from mestore.demo import command_line


class Command(BaseCommand):
    help = command_line.ABOUT

    def add_arguments(self, parser: ArgumentParser) -> None:
        command_line.add_arguments(parser)

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Refuse: inside a running Django there is an environment already, which is not the demo's."""
        raise CommandError("Start it as `python manage.py demo`: it needs a process of its own.")
