"""The log over HTTP: read it, follow it, publish into it."""
