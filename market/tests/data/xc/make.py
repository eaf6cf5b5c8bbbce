"""Writes ID.csv: the sessions that exchange_calendars knows of an exchange, in a few kB.

    pip install exchange_calendars==4.13.2 pandas==2.3.3
    python make.py XPAR XAMS ...

With pandas 3 that release gets the Saturdays and the changed weeks of some exchanges wrong. Only facts are taken: dates and times.

The header says which hours are regular: from a date on, on these weekdays, on the exchange's wall clock; of two lines that
match a day the later holds, and a weekday without a line is closed. The rows are the days that differ: closed weekdays (no
times) and sessions at other hours or on other weekdays. So a session that is missing, one too many and one at a wrong time
all show, for every day of the range.
"""

import sys
from importlib.metadata import version
from pathlib import Path

import exchange_calendars
import pandas

WEEKDAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
CLOSED = ("", "", "", "")
A_NEW_REGIME_COSTS = 8  # exceptions of one weekday, so that a regime lasts two months at least


def sessions(calendar, first, last):
    """Date -> (open, break_start, break_end, close) on the wall clock, for every day."""

    def wall(instant, day):
        if pandas.isna(instant):
            return ""
        local = instant.tz_convert(calendar.tz)
        days = (local.date() - day.date()).days
        assert local.second == 0, f"{day}: {local} is no whole minute"
        return f"{local:%H:%M}" + (f"{days:+}d" if days else "")

    known = {
        row.Index: tuple(wall(t, row.Index) for t in (row.open, row.break_start, row.break_end, row.close))
        for row in calendar.schedule.itertuples()
    }
    return {day: known.get(day, CLOSED) for day in pandas.date_range(first, last)}


def regimes(days):
    """The fewest regular hours and exceptions that explain one weekday: [(first day, hours)]."""
    choices = sorted({hours for _, hours in days})
    cost = {choice: 0 for choice in choices}
    came_from = []
    for _, hours in days:
        best = min(choices, key=cost.get)
        came = {c: c if cost[c] <= cost[best] + A_NEW_REGIME_COSTS else best for c in choices}
        cost = {c: min(cost[c], cost[best] + A_NEW_REGIME_COSTS) + (hours != c) for c in choices}
        came_from.append(came)
    choice = min(choices, key=cost.get)
    found = []
    for (day, _), came in zip(reversed(days), reversed(came_from)):
        found.append((day, choice))
        choice = came[choice]
    found.reverse()
    return [row for i, row in enumerate(found) if i == 0 or row[1] != found[i - 1][1]]


def header(all_days):
    """[(first day, weekdays, hours)] of the regular hours, and what is regular on each day."""
    changes, regular = [], {}
    for weekday in range(7):
        days = [(day, hours) for day, hours in all_days.items() if day.weekday() == weekday]
        eras = regimes(days)
        changes += [(day, weekday, hours) for i, (day, hours) in enumerate(eras) if i or hours != CLOSED]
        for i, (first, hours) in enumerate(eras):
            till = eras[i + 1][0] if i + 1 < len(eras) else None
            regular.update({day: hours for day, _ in days if first <= day and (till is None or day < till)})
    rows = []
    for day, weekday, hours in sorted(changes):
        row = next((r for r in rows if r[2] == hours and (day - r[0]).days < 7), None)
        if row:
            row[1].append(weekday)
        else:
            rows.append((day, [weekday], hours))
    return rows, regular


def write(name):
    first, last = pandas.Timestamp("2000-01-01"), pandas.Timestamp("2027-12-31")
    kind = type(exchange_calendars.get_calendar(name))
    first = max(first, kind.bound_min() or first)
    last = min(last, kind.bound_max() or last)
    calendar = kind(first, last)
    all_days = sessions(calendar, first, last)
    hours, regular = header(all_days)
    used = ", ".join(f"{package} {version(package)}" for package in ("exchange_calendars", "pandas"))
    lines = [
        f"# {name} of {used}; {calendar.tz}",
        f"# range {first:%Y-%m-%d}..{last:%Y-%m-%d}",
    ]
    for day, weekdays, times in hours:
        names = ",".join(WEEKDAYS[weekday] for weekday in sorted(weekdays))
        lines.append(f"# from {day:%Y-%m-%d} on {names}: {','.join(times)}")
    lines.append("session,open,break_start,break_end,close")
    lines += [f"{day:%Y-%m-%d},{','.join(times)}" for day, times in all_days.items() if times != regular[day]]
    path = Path(__file__).parent / f"{name}.csv"
    path.write_text("\n".join(lines) + "\n")
    print(f"{path.name}: {len(calendar.sessions)} sessions in {path.stat().st_size} bytes, {len(hours)} rows of hours")


for name in sys.argv[1:]:
    write(name)
