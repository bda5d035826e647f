"""Capture files: `make bench`. Prints Markdown; docs/performance.md says what each figure means."""
import calendar
import os
import sys
import time

import machine
import peers
import start
from captures import capture, reference
from measure import MEBI, folder, median, peak, run, say, settings, table, ztmon

HEAD = ["", "CPU s", "÷ cat", "wall s", "÷ cat", "peak MiB", "bytes it arrives at", "÷ true"]
CLIENTS = [100, 10_000, 1_000_000]


def micros(text):
    """Microseconds since the epoch, of RFC 3339 in UTC."""
    seconds, _, fraction = text.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(seconds, "%Y-%m-%dT%H:%M:%S")) * 1_000_000 + int(fraction.ljust(6, "0"))


def rows_of(printed):
    """ztmon's CSV as the reference has it."""
    rows = (line.split(",") for line in printed.splitlines()[1:])
    return {row[0]: [*map(int, row[1:5]), *map(micros, row[5:])] for row in rows}


class Group:
    """Contenders on the same frames, in turns. `path` is the capture as pcap, which cat reads and the reference counts."""

    def __init__(self, path, contenders):
        self.path, self.peaks, self.totals, self.costs, self.left_out = path, {}, {}, {}, []
        self.references = {tee: reference(tee, path) for tee in {one.tee for one in contenders if one.tee} | {"both"}}
        self.true_total = sum(row[0] for row in self.references["both"].values())
        self.contenders = [one for one in [peers.cat(path), *contenders] if self.look(one)]
        self.measure()

    def look(self, one):
        """A first run, which also brings the file into memory: what it prints, and its peak of memory."""
        if not one.is_there():
            self.left_out.append(f"{one.name} (not installed)")
            return False
        printed, errors = (os.path.join(folder(), name) for name in ["printed", "errors"])
        say(f"  {os.path.basename(self.path)}: {one.name}")
        one.before()
        code, self.peaks[one.name] = peak(one.command, printed, errors)
        if code != 0:
            said = open(errors, errors="replace").read().strip().splitlines()[-1:]
            self.left_out.append(f"{one.name} (exit status {code}: {' '.join(said)})")
            return False
        text = open(printed, errors="replace").read() if one.total else ""
        self.totals[one.name] = one.total(text) if one.total else None
        if one.tee and rows_of(text) != self.references[one.tee]:
            sys.exit(f"WRONG: {' '.join(one.command)} differs from the reference; it printed {printed}")
        return True

    def measure(self):
        for number in range(settings()["rounds"]):
            say(f"  {os.path.basename(self.path)}: round {number + 1}")
            for one in self.contenders:
                one.before()
                code, cost = run(one.command)
                assert code == 0, one.command
                self.costs.setdefault(one.name, []).append(cost)

    def cost(self, name):
        return median(self.costs[name])

    def has(self, name):
        return name in self.costs

    def row(self, name, label=None):
        cost, base, total = self.cost(name), self.cost("cat"), self.totals[name]
        figures = [f"{cost.cpu:.3f}", f"{cost.cpu / base.cpu:.2f}", f"{cost.wall:.3f}", f"{cost.wall / base.wall:.2f}",
                   f"{self.peaks[name] / MEBI:.1f}"]
        counted = [f"{total:,}", f"{total / self.true_total:.4f}"] if total is not None else ["", ""]
        return [label or name, *figures, *counted]

    def print(self, title):
        print(f"### {title}\n")
        table(HEAD, [self.row(one.name) for one in self.contenders])
        for tee, rows in sorted(self.references.items()):
            if any(one.tee == tee for one in self.contenders):
                print(f"Every row and column of ztmon's `--tee {tee}` equals the naive reference's ({len(rows):,} rows).", end=" ")
        print(f"True total: {self.true_total:,} bytes.")
        if self.left_out:
            print(f"Left out: {'; '.join(self.left_out)}.")
        print(flush=True)


def small(frames):
    path, [pcapng, gz, zst] = capture("small", frames), [capture("small", frames, e) for e in ["pcapng", "pcap.gz", "pcap.zst"]]
    binary = ztmon()
    ours = [peers.ours(binary, tee, path) for tee in ["none", "both"]]
    formats = [peers.ours(binary, "both", other, f"ztmon, {name}") for name, other in [("pcapng", pcapng), ("gzip", gz), ("zstd", zst)]]
    unpack = [peers.Contender("gzip -dc", ["gzip", "-dc", gz]), peers.Contender("zstd -dc", ["zstd", "-qdc", zst])]
    return Group(path, [*ours, *peers.quick(path), *formats, *unpack])


def ours_alone(path, tees):
    return Group(path, [peers.ours(ztmon(), tee, path) for tee in tees])


def growth(groups):
    rows = []
    for label, frames, group in groups:
        cost, rest = group.cost("ztmon replay --tee both"), group.row("ztmon replay --tee both")
        rows.append([label, f"{len(group.references['both']):,}", rest[1], rest[2], f"{cost.cpu / frames * 1e9:.1f}", rest[3], rest[4], rest[5]])
    print("### How the cost grows (`--tee both`)\n")
    table(["", "rows", "CPU s", "÷ cat", "ns a frame", "wall s", "÷ cat", "peak MiB"], rows)


def ratios(small, first, large, full, started):
    none, both = "ztmon replay --tee none", "ztmon replay --tee both"
    cpu = lambda group, a, b: f"{group.cost(a).cpu / group.cost(b).cpu:.2f}" if group.has(a) and group.has(b) else ""
    wall = lambda group, a, b: f"{group.cost(a).wall / group.cost(b).wall:.2f}" if group.has(a) and group.has(b) else ""
    print("### In short\n")
    table(["", ""], [
        ["`small`, `--tee none`: CPU ÷ `cat`", cpu(small, none, "cat")],
        ["`small`, `--tee both`: CPU ÷ `cat`", cpu(small, both, "cat")],
        ["`small`, `--tee both`: wall ÷ `cat`", wall(small, both, "cat")],
        ["`large`, `--tee both`: CPU ÷ `cat`", cpu(large, both, "cat")],
        ["`full`, `--tee none`: CPU ÷ `cat`", cpu(full, none, "cat")],
        ["`small` as pcapng: CPU ÷ as pcap", cpu(small, "ztmon, pcapng", both)],
        ["`small` as zstd: wall ÷ `zstd -dc`", wall(small, "ztmon, zstd", "zstd -dc")],
        ["`small` as gzip: wall ÷ `gzip -dc`", wall(small, "ztmon, gzip", "gzip -dc")],
        ["pmacctd's CPU ÷ ztmon's, pairing included", cpu(first, "pmacctd", both)],
        ["tshark's CPU ÷ ztmon's, pairing included", cpu(first, "tshark", both)],
        ["`small`, `--tee both`: peak memory, MiB", f"{small.peaks[both] / MEBI:.1f}"],
        ["start to first answered scrape ÷ `sqlite3`", f"{started:.2f}"],
    ])


def main():
    s = settings()
    frames, few = s["frames"], min(s["peer_frames"], s["frames"])
    print(f"## Capture files: {frames:,} frames, medians of {s['rounds']} rounds in turns\n")
    machine.describe()

    whole = small(frames)
    whole.print(f"`small`, {frames:,} frames")
    path = capture("small", few)
    first = Group(path, [peers.ours(ztmon(), "none", path), peers.ours(ztmon(), "both", path), *peers.slow(path)])
    first.print(f"`small`, {few:,} frames only: the slow ones")
    large = ours_alone(capture("large", frames), ["none", "both"])
    large.print(f"`large`, {frames:,} frames")
    # 1 GB at the full size.
    full = ours_alone(capture("full", frames * 66 // 1000), ["none"])
    full.print(f"`full`, {frames * 66 // 1000:,} whole frames, each once")

    steps = [(few, first), (frames, whole)]
    for more in map(int, os.environ.get("GROWTH_FRAMES", "").split()):
        steps.append((more, ours_alone(capture("small", more), ["both"])))
    groups = [(f"{count:,} frames", count, group) for count, group in steps]
    for clients in CLIENTS:
        groups.append((f"{clients:,} clients, {frames:,} frames", frames, ours_alone(capture(clients, frames), ["both"])))
    growth(groups)
    ratios(whole, first, large, full, start.measure(s["rounds"], frames))


if __name__ == "__main__":
    main()
