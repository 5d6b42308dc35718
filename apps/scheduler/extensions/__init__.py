"""What a leader does besides its core: one extension for each concept."""
