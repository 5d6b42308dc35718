"""The outbox: the event log's tail on its way to the message broker."""
