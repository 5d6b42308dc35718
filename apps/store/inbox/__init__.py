"""The inbox: moved into the log, and shown over HTTP."""
