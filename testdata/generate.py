#!/usr/bin/env python3
"""Writes the captures under testdata/ and the answers beside them: the same files every time.

With --check it writes nothing and says which files are not as it would write them.

A fixture is a capture NAME.pcap (.pcapng, .gz, .zst) and its answer:

    NAME.csv      standard output of `ztmon replay ARGS NAME.pcap`, byte for byte
    NAME.args     ARGS, if there are any
    NAME.summary  lines that standard error has without --quiet: the outcomes, and all warnings
    NAME.stderr   standard error with --quiet, if there is to be any; [...] stands for any text in a line
    NAME.exit     the exit status, if it is not 0

The answers come from here and never from ztmon. Every fixture states which packets count, as (when, source,
destination, bytes); what is printed follows from that by adding up. The rules meant (C1, C2, ...) are named beside them.
The databases in store/ are not made here: each was written by the ztmon of its version, and the reports beside it are
that ztmon's (by pair; all, live and import). The captures of a real network in real/ are not made here; their answers come from tests/oracle, a second
implementation of the rules, and tests/truth.rs compares them with what the clients themselves saw. The page in html/ was printed by
ztmon and looked at; tests/html.rs says whose figures are in it.
"""
import gzip
import ipaddress
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(HERE, "..", "tests", "oracle"))

from make import bad, link, periods, real, scope, tee, times  # noqa: E402
from make.files import NS, T0  # noqa: E402

PSEUDO = ["external", "multicast", "other"]
OUTCOMES = ["copies", "out of scope", "not IP", "malformed", "unsupported link"]


def order(end):
    """IPv4 before IPv6, numeric, then the pseudo-ends."""
    if end in PSEUDO:
        return 9, PSEUDO.index(end)
    address = ipaddress.ip_address(end)
    return address.version, int(address)


def when(at):
    """At so many nanoseconds after T0; all plain fixtures stay within its first day."""
    if isinstance(at, str):
        return at
    assert 0 <= at < 86400 * NS and T0 == 1767225600
    seconds, nanos = divmod(at, NS)
    text = "2026-01-01T%02d:%02d:%02d" % (seconds // 3600, seconds // 60 % 60, seconds % 60)
    return text + (".%09d" % nanos).rstrip("0").rstrip(".") + "Z"


def by_address(counted):
    rows = {}
    for at, src, dst, size in counted:
        for end, column in ((src, 0), (dst, 1)):
            row = rows.setdefault(end, [0, 0, 0, 0, []])
            row[column] += size
            row[column + 2] += 1
            row[4].append(when(at))
    lines = ["addr,sent_bytes,received_bytes,sent_packets,received_packets,first_seen,last_seen"]
    for end in sorted(rows, key=lambda e: (e in PSEUDO, 0 if e in PSEUDO else -rows[e][0] - rows[e][1], order(e))):
        *numbers, seen = rows[end]
        lines.append(",".join([end, *map(str, numbers), *span(seen)]))
    return lines


def by_pair(counted):
    rows = {}
    for at, src, dst, size in counted:
        row = rows.setdefault((src, dst), [0, 0, []])
        row[0] += size
        row[1] += 1
        row[2].append(when(at))
    lines = ["src,dst,bytes,packets,first_seen,last_seen"]
    for ends in sorted(rows, key=lambda e: (-rows[e][0], order(e[0]), order(e[1]))):
        *numbers, seen = rows[ends]
        lines.append(",".join([*ends, *map(str, numbers), *span(seen)]))
    return lines


def span(seen):
    """First and last: the text's order is the time's, once all have the same number of digits."""
    wide = sorted(seen, key=lambda t: (t.rstrip("Z") + ("" if "." in t else ".")).ljust(32, "0"))
    return wide[0], wide[-1]


def thousands(number):
    return "{:,}".format(number)


class Writer:
    """Gives every fixture its files, and removes those of fixtures that are no more."""

    def __init__(self, check):
        self.check = check
        self.written = set()
        self.wrong = []

    def put(self, name, data):
        path = os.path.join(HERE, name)
        data = data if isinstance(data, bytes) else data.encode()
        self.written.add(path)
        if not self.check:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as f:
                f.write(data)
        elif not os.path.exists(path) or not same(name, open(path, "rb").read(), data):
            self.wrong.append(name)

    def fixture(self, name, data, counted=(), args="", rows=None, extra=(), kind="pcap", stderr=None, status=0, **others):
        """`rows`: the CSV's lines where they do not follow from `counted` by adding up. `extra`: more summary lines."""
        assert os.path.join(HERE, name) + ".csv" not in self.written, name
        self.put("%s.%s" % (name, kind), data)
        if args:
            self.put(name + ".args", args + "\n")
        if stderr is not None:
            self.put(name + ".stderr", stderr.replace("FILE", "%s.%s" % (os.path.basename(name), kind)) + "\n")
        if status:
            self.put(name + ".exit", "%d\n" % status)
        if status == 2:
            self.put(name + ".csv", "")
            return
        if rows is None:
            rows = by_pair(counted) if "--by pair" in args else by_address(counted)
        self.put(name + ".csv", "".join(row + "\r\n" for row in rows))
        numbers = [others.pop(outcome.replace(" ", "_").lower(), 0) for outcome in OUTCOMES]
        assert not others, others
        parts = " + ".join("%s %s" % (thousands(n), outcome) for n, outcome in zip(numbers, OUTCOMES))
        frames = len(counted) + sum(numbers)
        first = "%s frames = %s counted + %s" % (thousands(frames), thousands(len(counted)), parts)
        self.put(name + ".summary", "".join(line + "\n" for line in [first, *extra]))

    def sweep(self):
        for folder in sorted(os.listdir(HERE)):
            folder = os.path.join(HERE, folder)
            if folder.endswith(("make", "real", "store", "html")) or not os.path.isdir(folder):
                continue
            for name in os.listdir(folder):
                if os.path.join(folder, name) not in self.written:
                    self.wrong.append(os.path.join(os.path.basename(folder), name))
                    if not self.check:
                        os.remove(os.path.join(folder, name))


def same(name, old, new):
    """Whether two files are the same. Another zlib may pack the sample another way."""
    return old == new or name.startswith("real/") and name.endswith(".gz") and gzip.decompress(old) == gzip.decompress(new)


def main():
    writer = Writer(check=sys.argv[1:] == ["--check"])
    for part in (link, scope, tee, times, periods, bad, real):
        part.write(writer)
    writer.sweep()
    if writer.check:
        for name in writer.wrong:
            print(name)
        sys.exit(1 if writer.wrong else 0)


if __name__ == "__main__":
    main()
