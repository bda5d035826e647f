"""Other programs that count or read packets: how they are called, and the bytes that they arrive at."""
import csv
import os
import re
import shutil
import subprocess

from measure import find, folder


class Contender:
    """A program on a file. `total` reads the bytes it counted from what it printed, where it counts any."""

    def __init__(self, name, command, total=None, tee=None, before=lambda: None):
        self.name, self.command, self.total, self.tee, self.before = name, command, total, tee, before

    def is_there(self):
        return find(self.command[0]) is not None


def ours(binary, tee, path, name=None):
    return Contender(name or "ztmon replay --tee " + tee, [binary, "replay", "--quiet", "--tee", tee, path], ztmon_total, tee)


def cat(path):
    return Contender("cat", ["cat", path])


def quick(path):
    """Those that run on the whole capture."""
    yield Contender("tcpdump -w /dev/null", ["tcpdump", "-r", path, "-w", "/dev/null"])
    # -1: the whole capture is one interval.
    yield Contender("tcpstat", ["tcpstat", "-r", path, "-o", "%N\\n", "-1"], int)


def slow(path):
    """Those that take so long that they run on its beginning."""
    yield Contender("tcpdump -nn", ["tcpdump", "-nn", "-r", path])
    yield Contender("nfpcapd", ["nfpcapd", "-r", path, "-w", flows(), "-t", "86400"], nfdump_total, before=empty_flows)
    yield Contender("pmacctd", ["pmacctd", "-f", pmacctd_settings(path)], pmacctd_total)
    yield Contender("tshark", ["tshark", "-n", "-q", "-z", "endpoints,ip", "-z", "endpoints,ipv6", "-r", path], tshark_total)


def ztmon_total(printed):
    return sum(int(row["sent_bytes"]) for row in csv.DictReader(printed.splitlines()))


def pmacctd_settings(path):
    """By address, printed as CSV. With smaller buffers between its two processes it loses packets without a word."""
    settings = {"pcap_savefile": path, "plugins": "print", "aggregate": "src_host,dst_host", "print_output": "csv",
                "print_refresh_time": 86400, "plugin_pipe_size": 100 << 20, "plugin_buffer_size": 512 << 10}
    file = os.path.join(folder(), "pmacctd.conf")
    with open(file, "w") as out:
        out.writelines(f"{key}: {value}\n" for key, value in settings.items())
    return file


def pmacctd_total(printed):
    return sum(int(row["BYTES"]) for row in csv.DictReader(printed.splitlines()))


def flows():
    return os.path.join(folder(), "flows")


def empty_flows():
    shutil.rmtree(flows(), ignore_errors=True)
    os.makedirs(flows())


def nfdump_total(_):
    summary = subprocess.run(["nfdump", "-R", flows(), "-I"], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"^Bytes: (\d+)", summary, re.MULTILINE)[1])


def tshark_total(printed):
    """Address, packets, bytes, packets sent, bytes sent, …"""
    lines = (line.replace(",", "").split() for line in printed.splitlines())
    return sum(int(cells[4]) for cells in lines if len(cells) == 7 and cells[1].isdigit())


def versions():
    """Of those that are there."""
    found = []
    for package in ["tcpdump", "tcpstat", "tshark", "pmacct", "nfdump", "coreutils", "zstd", "gzip", "sqlite3"]:
        asked = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True)
        if asked.returncode == 0 and asked.stdout:
            found.append(f"{package} {asked.stdout}")
    return found
