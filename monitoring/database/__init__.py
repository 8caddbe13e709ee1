"""Django's PostgreSQL backend with its waits, checkouts and new connections measured."""
