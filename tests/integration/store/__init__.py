"""The store over a real PostgreSQL."""
