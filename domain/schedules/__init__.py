"""Schedules: what they are, what happens to them, and when their jobs are made. No clock and no I/O.

`events` are what stands in the log, `schedule` the state that they fold into, `changes` what people do to a schedule,
`ticking` what the leader does with its nominal times, `backfill` the past that is made up for, `calendars` what is left
out. When the nominal times are, `domain.recurrence` says.
"""
