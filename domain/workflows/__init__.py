"""Workflows and batches: jobs that were submitted together and have a status as a whole. Pure."""
