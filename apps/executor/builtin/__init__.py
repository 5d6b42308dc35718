"""The tasks that every executor brings: HTTP, shell, e-mail, events."""
