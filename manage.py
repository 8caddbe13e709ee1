#!/usr/bin/env python3
"""Django's command line for MeStore: `manage.py help` lists every command."""

from __future__ import annotations

import os
import sys


def main() -> None:
    # The demo starts where nothing is set, and settings refuse to load there: it makes its own environment
    # first.
    if sys.argv[1:2] == ["demo"]:
        from mestore.demo import command_line

        sys.exit(command_line.main(sys.argv[2:]))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mestore.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
