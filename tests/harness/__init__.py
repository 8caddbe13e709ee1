"""What stands behind the fixtures of tests/conftest.py."""
