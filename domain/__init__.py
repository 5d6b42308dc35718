"""Rota's rules: what may happen to a job, in which order, and why.

Everything here is pure. No I/O, no clock, no random numbers: `now` and ids are arguments.
"""
