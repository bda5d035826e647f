"""From the start of `ztmon serve` to its first answered scrape, with 10,000 addresses in the database."""
import http.client
import os
import re
import socket
import statistics
import struct
import subprocess
import time

from captures import capture
from measure import folder, run, say, table, ztmon

# As many as make about 10,000 addresses: some have both IPv4 and IPv6, some are in no packet.
CLIENTS, FRAMES = 5_750, 1_000_000
PATIENCE = 120
QUERY = "select count(*) from total"


class Serve:
    """`ztmon serve`, which plays a capture file as fast as it can, until it is left."""

    def __init__(self, source, database):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.command = [ztmon(), "serve", "--source", source, "--speed", "max", "--db", database, "--listen-address",
                        f"127.0.0.1:{self.port}", "--metrics-max-addresses", "1000000"]

    def __enter__(self):
        self.start = time.monotonic()
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(PATIENCE)

    def page_with(self, is_there):
        """The first page that has what is asked for, and the seconds since the start."""
        while time.monotonic() - self.start < PATIENCE:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
                connection.request("GET", "/metrics")
                page = connection.getresponse().read()
                seconds = time.monotonic() - self.start
                if is_there(page):
                    return page, seconds
            except OSError:
                pass
            assert self.process.poll() is None, f"{self.command} ended"
            time.sleep(0.0005)
        raise TimeoutError(f"{self.command} shows nothing")


def addresses(page):
    return page.count(b"\nzerotier_host_sent_bytes_total{")


def is_all_in(page):
    """Whether everything was played and is in the database."""
    frames = sum(map(int, re.findall(rb"^ztmon_frames_total.* (\d+)$", page, re.MULTILINE)))
    return frames >= FRAMES and b"\nztmon_store_uncommitted_bytes 0\n" in page


def database():
    path = os.path.join(folder(), "start.db")
    for part in ["", "-wal", "-shm"]:
        if os.path.exists(path + part):
            os.remove(path + part)
    with Serve(capture(CLIENTS, FRAMES), path) as serve:
        serve.page_with(is_all_in)
    return path


def measure(rounds):
    """Prints a table and gives the ratio."""
    path, empty = database(), os.path.join(folder(), "empty.pcap")
    with open(empty, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
    there = int(subprocess.run(["sqlite3", path, QUERY], capture_output=True, text=True, check=True).stdout)
    say(f"  start with {there:,} addresses")
    scrapes, counts = [], []
    for _ in range(rounds):
        with Serve(empty, path) as serve:
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
