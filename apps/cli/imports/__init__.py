"""`rota import ...`: turns what other schedulers run by into schedules. Only `--apply` changes anything."""
