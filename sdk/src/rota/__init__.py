"""Tasks and client for Rota."""
