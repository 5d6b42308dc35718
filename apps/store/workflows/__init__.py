"""Workflows and batches over HTTP."""
