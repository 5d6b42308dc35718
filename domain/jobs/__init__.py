"""Jobs: what is asked of them, what is recorded of them, and the rules between the two. Pure."""
