"""`manage.py demo`: everything MeStore needs, started and filled on a machine where nothing is set."""
