"""The one error of this package."""


class ServersUnavailableError(Exception):
    """A private server cannot be had here; the sentence says what is missing or what to do."""
