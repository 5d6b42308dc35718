"""The scheduler's process."""
