"""Dates as HTTP writes them: RFC 9110 §5.6.7, and RFC 6265 §4.1.1 for cookies.

The names of days and months are HTTP's own, whatever the locale says.
"""

from __future__ import annotations

import re
import time
from functools import cache

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBER = {name: number for number, name in enumerate(_MONTHS, 1)}
_MONTH_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

_DAY = f"(?:{'|'.join(_DAYS)})"
_LONG_DAY = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
# IMF-fixdate, then the two obsolete forms that a recipient must still read.
_FORMATS = (
    f"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
    f"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",
    f"{_DAY} {_MONTH} (?P<day>[0-9 ][0-9]) {_TIME} (?P<year>[0-9]{{4}})",
)


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    """Return the formats compiled: at the first date, not at import, where it takes 1 ms."""
    return tuple(re.compile(each) for each in _FORMATS)


def format_date(timestamp: float) -> str:
    """Return `timestamp` (seconds since 1970, UTC) as an IMF-fixdate (RFC 9110 §5.6.7).

    Raises ValueError for a time outside the years 1 to 9999, which the format cannot write.

    >>> format_date(784111777)
    'Sun, 06 Nov 1994 08:49:37 GMT'
    """
    try:
        year, month, day, hour, minute, second, weekday, *_ = time.gmtime(timestamp)
    except (OverflowError, OSError) as error:
        raise ValueError(f"{timestamp!r} is not a time that can be written as a date") from error
    if not 1 <= year <= 9999:
        raise ValueError(f"{timestamp!r} is in the year {year}: a date has the years 1 to 9999")
    return (
        f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04}"
        f" {hour:02}:{minute:02}:{second:02} GMT"
    )


def parse_date(text: str) -> float | None:
    """Return the time (seconds since 1970, UTC) that an HTTP-date tells, or None for anything else.

    Reads the three formats of RFC 9110 §5.6.7, case-sensitively as it demands. The day of the week
    must be one but need not be the right one.
    """
    for pattern in _patterns():
        match = pattern.fullmatch(text)
        if match is not None:
            break
    else:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year = _full_year(year)
    month, day = _MONTH_NUMBER[match["month"]], int(match["day"])
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"])
    # Second 60 is a leap second, which the grammar allows.
    if year == 0 or hour > 23 or minute > 59 or second > 60:
        return None
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= day <= _MONTH_LENGTHS[month - 1] + leap:
        return None
    return float(_days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second)


def _full_year(two_digits: int) -> int:
    """Return the year meant: one that looks more than 50 years ahead is past (§5.6.7)."""
    now = time.gmtime().tm_year
    year = now - now % 100 + two_digits
    return year - 100 if year > now + 50 else year


def _days_since_1970(year: int, month: int, day: int) -> int:
    """Return the days from 1970-01-01, in the Gregorian calendar carried backwards."""
    # The year is counted from March, so that the leap day is its last.
    if month < 3:
        year -= 1
        month += 12
    return (
        365 * year
        + year // 4
        - year // 100
        + year // 400
        + (153 * (month - 3) + 2) // 5
        + day
        - 719469
    )
