"""The settings as the type checker sees them: the real ones, with made-up secrets and addresses."""

from __future__ import annotations

import os

from tests.harness.begin import placeholder_environment

for _name, _value in placeholder_environment().items():
    os.environ.setdefault(_name, _value)

from mestore.settings import *  # noqa: E402, F403 - the variables had to be there first
