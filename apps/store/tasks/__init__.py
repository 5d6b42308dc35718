"""Tasks that executors have announced: their names, parameters and options."""
