"""Who may start next: lines of waiting jobs, limits of queues and keys, and turns among keys. Pure."""
