"""Patterns and templates over published events. Pure."""
