"""Subscriptions and the order in which their events are delivered. Pure."""
