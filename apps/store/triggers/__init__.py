"""Triggers over HTTP."""
