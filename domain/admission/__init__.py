"""Limits of queues and keys: which waiting job may be dispatched next. Pure."""
