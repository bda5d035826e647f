"""From the start of `ztmon serve` to its first answered scrape, with 10,000 addresses in the database."""
import os
import statistics
import struct
import subprocess

from captures import capture
from measure import folder, run, say, table
from serve import Serve, value

# As many as make about 10,000 addresses: some have both IPv4 and IPv6, some are in no packet.
CLIENTS, FRAMES = 5_750, 1_000_000
QUERY = "select count(*) from total"


def play(source, database):
    return Serve("--source", source, "--speed", "max", "--db", database, "--metrics-max-addresses", "1000000")


def addresses(page):
    return page.count("\nzerotier_host_sent_bytes_total{")


def is_all_in(page, frames):
    """Whether everything was played and is in the database."""
    return value(page, "ztmon_frames_total") >= frames and "\nztmon_store_uncommitted_bytes 0\n" in page


def new(name):
    """The path of a database that is not there."""
    path = os.path.join(folder(), name)
    for part in ["", "-wal", "-shm"]:
        if os.path.exists(path + part):
            os.remove(path + part)
    return path


def measure(rounds, frames=FRAMES):
    """Prints a table and gives the ratio. Fewer frames have fewer addresses."""
    frames = min(frames, FRAMES)
    path, empty = new("start.db"), os.path.join(folder(), "empty.pcap")
    with play(capture(CLIENTS, frames), path) as serve:
        serve.page_with(lambda page: is_all_in(page, frames))
    with open(empty, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
    there = int(subprocess.run(["sqlite3", path, QUERY], capture_output=True, text=True, check=True).stdout)
    say(f"  start with {there:,} addresses")
    scrapes, counts = [], []
    for _ in range(rounds):
        with play(empty, path) as serve:
            scrapes.append(serve.page_with(lambda page: addresses(page) == there)[1])
        code, cost = run(["sqlite3", path, QUERY])
        assert code == 0
        counts.append(cost.wall)
    scrape, count = statistics.median(scrapes), statistics.median(counts)
    print(f"### Start, with {there:,} addresses in the database\n")
    table(["", "wall ms", "÷ sqlite3"], [
        ["`ztmon serve` to its first answered scrape, all clients on it", f"{scrape * 1000:.1f}", f"{scrape / count:.2f}"],
        [f"`sqlite3 FILE '{QUERY}'`", f"{count * 1000:.1f}", "1.00"],
    ])
    return scrape / count


if __name__ == "__main__":
    measure(5)
