"""How Rota is looked into: logs, metrics, traces. Imported by apps and adapters, never by the rules."""
