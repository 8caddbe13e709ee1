"""Importing a marketplace's files: orders, items, payments and sellers (described in docs/import.md)."""
