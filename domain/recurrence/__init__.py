"""When a schedule's ticks are: rules, time zones, daylight saving, calendars, jitter. No clock and no I/O.

`rules` says what a rule is, `timing` what a schedule adds to it, `times` computes the nominal times, `calendars` what
is left out, `preview` shows it. The rest serves these. Nothing here may depend on "now": the same question has the same
answer forever, which is what makes a tick's identity survive a failover.
"""
