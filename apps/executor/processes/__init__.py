"""Task processes: starting them, speaking with them, running attempts in them."""
