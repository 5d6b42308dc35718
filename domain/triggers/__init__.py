"""Triggers: which jobs published events make. Pure."""
