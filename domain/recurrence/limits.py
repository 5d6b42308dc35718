"""The limits of what a rule may ask for; each is refused by name one above."""

from __future__ import annotations

FIRST_YEAR = 2000
"""No nominal time lies before this year."""
LAST_YEAR = 2200
"""No nominal time lies after this year: a rule ends with it."""

CRON_TEXT_MAXIMUM = 512
"""Characters of a cron expression."""
CRON_TERMS_MAXIMUM = 100
"""Terms in one field's list."""

RRULE_TEXT_MAXIMUM = 16_384
"""Characters of a recurrence rule with its DTSTART and EXDATE lines."""
RRULE_INTERVAL_MAXIMUM = 1_000_000
"""Periods from one occurrence to the next."""
RRULE_COUNT_MAXIMUM = 20_000
"""Occurrences of a recurrence rule that ends by counting; the rule is walked once to find its end."""
EXDATES_MAXIMUM = 1_000
"""Dates that one recurrence rule leaves out, and as many that it adds."""
RULES_MAXIMUM = 16
"""Rules of one schedule: lines of `cron`, or RRULEs and EXRULEs."""

EVERY_SECONDS_MINIMUM = 0.5
EVERY_SECONDS_MAXIMUM = 10 * 366 * 86_400

AT_INSTANTS_MAXIMUM = 10_000
"""Instants of one list."""

COUNT_MAXIMUM = 1_000_000_000
"""Nominal times after which a schedule may be told to end."""
JITTER_SECONDS_MAXIMUM = 86_400
PREVIEW_MAXIMUM = 1_000
"""Nominal times in one preview."""

CALENDARS_MAXIMUM = 16
"""Calendars of one schedule."""
CALENDAR_DATES_MAXIMUM = 10_000
CALENDAR_WINDOWS_MAXIMUM = 200
CALENDAR_INTERVALS_MAXIMUM = 10_000
CALENDAR_EVENTS_MAXIMUM = 10_000
CALENDAR_RECURRING_MAXIMUM = 200
"""Events with a rule in one calendar: each is asked at each tick."""
CALENDAR_COUNT_MAXIMUM = 20_000
"""All COUNTs of one calendar together: each is walked once to find its end."""
ICALENDAR_TEXT_MAXIMUM = 1_048_576
"""Characters of an iCalendar file."""
EVENT_DAYS_MAXIMUM = 366
"""Length of one event."""
