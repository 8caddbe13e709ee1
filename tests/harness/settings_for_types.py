"""The settings as the type checker sees them: the real ones, with made-up secrets and addresses."""

from __future__ import annotations

import os

from tests.harness.begin import placeholder_environment

for _name, _value in placeholder_environment().items():
    os.environ.setdefault(_name, _value)

from mestore.settings import *  # noqa: E402, F403 - the variables had to be there first
from mestore.settings import INSTALLED_APPS as _INSTALLED  # noqa: E402 - as above

# The checker's plugin knows the framework's authentication by its own name only.
INSTALLED_APPS = [
    "django.contrib.auth" if name == "mestore.apps.CredentialsConfig" else name for name in _INSTALLED
]
