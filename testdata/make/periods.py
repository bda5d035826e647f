"""period/: reports by hour, day, week and month. The boundaries come from Python's zoneinfo: time is walked in steps of
five minutes, and a period begins wherever the date or the hour on the zone's clocks is another one than before."""
import datetime
import ipaddress
import zoneinfo

from .files import NS, T0, Frame, pcap
from .frames import A, B, C, X, eth, ip4

STEP = 300
UTC = datetime.timezone.utc
HOSTS = {"external": X}


def seconds(text):
    return datetime.datetime.fromisoformat(text).timestamp()


def local(second, zone):
    return datetime.datetime.fromtimestamp(second, UTC).astimezone(zone)


def begins_month(date, day):
    """On that day of the month; in a month without it, on its last."""
    return date.day == day or (date.day < day and (date + datetime.timedelta(days=1)).day == 1)


def begins(before, at, every, month_start):
    if every == "hour":
        return (before.date(), before.hour, before.utcoffset()) != (at.date(), at.hour, at.utcoffset())
    if before.date() == at.date():
        return False
    return {"day": True, "week": at.weekday() == 0, "month": begins_month(at.date(), month_start)}[every]


def starts(first, last, every, zone, month_start):
    """Where the periods begin that hold the times between two."""
    if every == "total":
        return [int(first)]
    at = int(first) - int(first) % STEP - 33 * 86400
    found = []
    while at <= last:
        if begins(local(at - STEP, zone), local(at, zone), every, month_start):
            found = [start for start in found if first < start] if at <= first else found
            found.append(at)
        at += STEP
    return found


def by_period(sent, every, tz, month_start=1, top=None, pairs=False, only=None, since=None, until=None):
    """The CSV. `sent`: when, from whom, to whom, how many bytes."""
    zone = zoneinfo.ZoneInfo(tz)
    times = [seconds(text) for text, *_ in sent]
    periods = starts(seconds(since) if since else min(times), seconds(until) - 1e-6 if until else max(times),
                     every, zone, month_start)
    header = "period_start,src,dst,bytes,packets" if pairs else "period_start,addr,sent_bytes,received_bytes,sent_packets,received_packets"
    rows = [header + ",first_seen,last_seen,coverage,copies_seen,dropped_packets,estimated_lost"]
    known = set()
    for start, end in zip(periods, periods[1:] + [1 << 40]):
        lines = {}
        for text, src, dst, size in sent:
            if not start <= seconds(text) < end:
                continue
            if pairs:
                if only is None or only in (src, dst):
                    line = lines.setdefault((src, dst), [0, 0, []])
                    line[0] += size
                    line[1] += 1
                    line[2].append(text)
                continue
            for at, addr in enumerate((src, dst)):
                if only is None or only == addr:
                    line = lines.setdefault((addr,), [0, 0, 0, 0, []])
                    line[at] += size
                    line[at + 2] += 1
                    line[4].append(text)
        known |= {who for who in lines if set(who) - set(HOSTS)}
        for who in known:
            lines.setdefault(who, [0, 0, []] if pairs else [0, 0, 0, 0, []])
        moved = lambda who: lines[who][0] + (0 if pairs else lines[who][1])
        pseudo = lambda who: not pairs and who[0] in HOSTS
        number = lambda end: (1, 0) if end in HOSTS else (0, int(ipaddress.ip_address(end)))
        order = sorted(lines, key=lambda who: (pseudo(who), 0 if pseudo(who) else -moved(who), list(map(number, who))))
        shown = [who for who in order if not pseudo(who)]
        rest = [lines.pop(who) for who in shown[len(shown) if top is None else top:]]
        if rest:
            name = ("rest", "rest") if pairs else ("rest",)
            figures = [sum(column) for column in zip(*(line[:-1] for line in rest))]
            lines[name] = figures + [[text for line in rest for text in line[-1]]]
            order.append(name)
        for who in order:
            if who in lines:
                *figures, seen = lines[who]
                ends = [min(seen, key=seconds), max(seen, key=seconds)] if seen else ["", ""]
                rows.append(",".join([local(start, zone).isoformat(), *who, *map(str, figures), *ends, *[""] * 4]))
    return rows


def capture(sent):
    frames = []
    for number, (text, src, dst, size) in enumerate(sorted(sent, key=lambda packet: seconds(packet[0]))):
        at = datetime.datetime.fromisoformat(text)
        micros = (int(at.replace(microsecond=0).timestamp()) - T0) * 10**6 + at.microsecond
        frames.append(Frame(micros * 1000, eth(ip4(HOSTS.get(src, src), HOSTS.get(dst, dst), size, ident=number))))
    return pcap(frames)


def edges(*boundaries, ends=((A, B), (B, A), (A, "external"), (C, B))):
    """Packets just before each boundary, at it and a little behind it, in turn between others. Each has its own size."""
    sent = []
    for boundary in boundaries:
        at = datetime.datetime.fromisoformat(boundary)
        for micros in (-1, 0, 1_500_000):
            text = (at + datetime.timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".") + "Z"
            sent.append((text, *ends[len(sent) % len(ends)], 100 + 17 * len(sent)))
    return sent


def write(w):
    def fixture(name, sent, every, tz, flags="", **more):
        w.fixture("period/" + name, capture(sent), sent, args="--every %s --tz %s %s" % (every, tz, flags),
                  rows=by_period(sent, every, tz, **more))

    # Days of 23 and of 25 hours: midnights around both changes of the clocks.
    spring = edges("2026-03-28T23:00:00+00:00", "2026-03-29T22:00:00+00:00", "2026-03-31T22:00:00+00:00")
    autumn = edges("2026-10-24T22:00:00+00:00", "2026-10-25T23:00:00+00:00", "2026-10-26T23:00:00+00:00")
    fixture("berlin-spring", spring, "day", "Europe/Berlin")
    fixture("berlin-autumn", autumn, "day", "Europe/Berlin")
    fixture("berlin-both", spring[:5] + autumn[3:], "day", "Europe/Berlin")
    # The last years that a classic capture can tell of.
    late = edges("2100-03-27T23:00:00+00:00", "2100-07-15T22:00:00+00:00", "2105-10-25T23:00:00+00:00")
    fixture("berlin-late", late[:3], "day", "Europe/Berlin")
    fixture("berlin-late-summer", late[3:6], "day", "Europe/Berlin")
    fixture("berlin-late-autumn", late[6:], "day", "Europe/Berlin")
    # The hour that is not there, and the one that is there twice.
    fixture("berlin-hours-spring", edges("2026-03-29T00:00:00+00:00", "2026-03-29T01:00:00+00:00", "2026-03-29T03:00:00+00:00"),
            "hour", "Europe/Berlin")
    fixture("berlin-hours-autumn", edges("2026-10-25T00:00:00+00:00", "2026-10-25T01:00:00+00:00", "2026-10-25T02:00:00+00:00"),
            "hour", "Europe/Berlin")
    # Zones of quarters and halves of an hour, and one that changes its clocks by half an hour.
    fixture("kathmandu", edges("2026-01-01T18:15:00+00:00", "2026-01-03T18:15:00+00:00"), "day", "Asia/Kathmandu")
    fixture("kathmandu-hours", edges("2026-01-01T18:15:00+00:00", "2026-01-01T19:15:00+00:00"), "hour", "Asia/Kathmandu")
    fixture("kolkata", edges("2026-01-31T18:30:00+00:00"), "day", "Asia/Kolkata")
    fixture("chatham", edges("2026-04-03T10:15:00+00:00", "2026-04-05T11:15:00+00:00"), "day", "Pacific/Chatham")
    fixture("lord-howe-hours", edges("2026-04-04T14:00:00+00:00", "2026-04-04T15:00:00+00:00", "2026-04-04T15:30:00+00:00"),
            "hour", "Australia/Lord_Howe")
    # A day that begins at one o'clock, and a date that there was not.
    fixture("beirut", edges("2026-03-28T22:00:00+00:00", "2026-03-29T21:00:00+00:00"), "day", "Asia/Beirut")
    fixture("apia", edges("2011-12-29T10:00:00+00:00", "2011-12-30T10:00:00+00:00", "2011-12-31T10:00:00+00:00"), "day", "Pacific/Apia")
    # Months that are too short for their first day, in a leap year and in others.
    ends_2026 = edges("2026-01-30T23:00:00+00:00", "2026-02-27T23:00:00+00:00", "2026-03-30T22:00:00+00:00", "2026-04-29T22:00:00+00:00",
                      "2026-12-30T23:00:00+00:00")
    fixture("month-start-31", ends_2026, "month", "Europe/Berlin", flags="--month-start 31", month_start=31)
    fixture("month-start-30-leap", edges("2028-01-30T00:00:00+00:00", "2028-02-29T00:00:00+00:00", "2028-03-30T00:00:00+00:00"),
            "month", "UTC", flags="--month-start 30", month_start=30)
    fixture("month-start-14", edges("2026-02-13T16:00:00+00:00", "2026-06-13T16:00:00+00:00"), "month", "Asia/Shanghai",
            flags="--month-start 14", month_start=14)
    fixture("months", edges("2025-12-31T23:00:00+00:00", "2026-02-28T23:00:00+00:00"), "month", "Europe/Berlin")
    # Weeks from Monday on, over the end of a year and a change of the clocks.
    fixture("weeks", edges("2026-12-28T05:00:00+00:00", "2027-03-15T04:00:00+00:00"), "week", "America/New_York")
    # The rest is of each day.
    fixture("top", spring, "day", "Europe/Berlin", flags="--top 1", top=1)
    fixture("pairs", spring, "day", "Europe/Berlin", flags="--by pair", pairs=True)
    fixture("pairs-top", spring, "day", "Europe/Berlin", flags="--by pair --top 2", pairs=True, top=2)
    # Only some.
    fixture("addr", spring, "day", "Europe/Berlin", flags="--addr " + B, only=B)
    fixture("addr-external", spring, "day", "Europe/Berlin", flags="--addr external --by pair", only="external", pairs=True)
    # Zeros until the end of the range, and no period before somebody is known.
    fixture("range", spring, "day", "Europe/Berlin", flags="--since 2026-03-20 --until 2026-04-03",
            since="2026-03-28T22:59:59+00:00", until="2026-04-02T22:00:00+00:00")
    # All of it is one period, which begins with the first packet.
    fixture("total", spring, "total", "Asia/Kathmandu")
    # Until 2011 these clocks changed a minute after midnight: at 02:31 in UTC.
    sent = [("2010-11-07T02:30:30Z", A, B, 100)]
    w.fixture("period/cut", capture(sent), args="--every hour --tz America/St_Johns", status=2,
              stderr="ztmon: what moved from 2010-11-07T02:30:00Z to 2010-11-07T02:35:00Z is kept as one, and [...]")
    w.fixture("period/month-start-alone", capture(sent), args="--every day --month-start 14", status=2,
              stderr="ztmon: --month-start needs --every month (see --help)")
