"""The relay's process."""
