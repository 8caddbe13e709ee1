"""Run a command as in production: `python -m tests.harness.production COMMAND…`, with made-up secrets.

What the deployment check sees is the settings' behaviour in production, not the demo's or the tests'. No
server answers at the addresses given.
"""

from __future__ import annotations

import os
import sys

from tests.harness.begin import placeholder_environment


def production_environment() -> dict[str, str]:
    """The variables of a production process."""
    variables = placeholder_environment() | {
        "MESTORE_ENV": "production",
        "MESTORE_PUBLIC_URL": "https://mestore.example",
        "MESTORE_ALLOWED_HOSTS": "mestore.example",
        "MESTORE_MAIL_URL": "smtps://nobody@127.0.0.1:1",
    }
    only_for_tests = (
        "MESTORE_ARGON2_TIME_COST",
        "MESTORE_ARGON2_MEMORY_KIB",
        "MESTORE_TOTP_DRIFT_STEPS",
        "MESTORE_DB_POOL_SIZE",
    )
    for name in only_for_tests:
        del variables[name]
    # Django asks the database for its migration history and says so when nobody answers.
    return variables | {"PYTHONWARNINGS": "ignore:Got an error checking a consistent migration history"}


if __name__ == "__main__":
    os.execvpe(sys.argv[1], sys.argv[1:], os.environ | production_environment())  # noqa: S606 - a developer's own
