"""A device: `make bench-live`. Prints Markdown; docs/performance.md says what each figure means.

Runs in a network namespace of its own, which goes when it ends, with a veth pair: what is sent into the one device
arrives at the other, where ztmon and tcpdump listen in turns.
"""
import os
import re
import signal
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass

import machine
from captures import EXAMPLES, capture
from measure import MEBI, folder, say, settings, table, ztmon
from serve import Serve, value
from start import new

DEVICE, WIRE = "ztbench", "wire"
BUFFER = 64 * MEBI
# Packets a second at which CPU is compared, and at which nothing may be lost for a minute.
RATES, FULL_RATE, FULL_SECONDS = [50_000, 200_000], 500_000, 60
# Longer than either waits before it takes what has arrived.
SETTLE = 2


@dataclass
class Result:
    sent: int
    seconds: float
    cpu: float
    peak: int
    seen: int
    dropped: int


def add_devices():
    ip = lambda *arguments: subprocess.run(["ip", *arguments], check=True)
    # /sys shows the devices of the namespace in which it was mounted.
    subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)
    for which in ["all", "default"]:
        path = f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6"
        if os.path.exists(path):
            with open(path, "w") as out:
                out.write("1")
    ip("link", "set", "lo", "up")
    ip("link", "add", DEVICE, "mtu", "2800", "type", "veth", "peer", "name", WIRE, "mtu", "2800")
    for device in [DEVICE, WIRE]:
        ip("link", "set", device, "up")


def cpu(pid):
    """Seconds that all threads of a process have run, from the scheduler: finer than the ticks of /proc/PID/stat."""
    tasks = f"/proc/{pid}/task"
    return sum(int(open(f"{tasks}/{task}/schedstat").read().split()[0]) for task in os.listdir(tasks)) / 1e9


def peak(pid):
    return int(re.search(r"VmHWM:\s*(\d+)", open(f"/proc/{pid}/status").read())[1]) * 1024


def send(rate, seconds):
    """Packets that were sent, and the seconds it took."""
    # No packet comes again within the pairing window.
    path = capture("small", max(1_000_000, rate * 10))
    command = [os.path.join(EXAMPLES, "send"), WIRE, path, str(rate), str(seconds)]
    sent, took = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return int(sent), float(took)


def traffic(pid, rate, seconds):
    """Sends to a process that listens; the packets, the seconds, and the CPU it took for them."""
    before = cpu(pid)
    sent, took = send(rate, seconds)
    time.sleep(SETTLE)
    return sent, took, cpu(pid) - before


def by_tcpdump(rate, seconds):
    command = ["tcpdump", "-i", DEVICE, "-s", "512", "-B", str(BUFFER // 1024), "-w", "/dev/null"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while "listening" not in process.stderr.readline():
        assert process.poll() is None, "tcpdump ended"
    sent, took, used = traffic(process.pid, rate, seconds)
    most = peak(process.pid)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    seen, dropped = (int(re.search(rf"(\d+) packets? {what}", said)[1]) for what in ["captured", "dropped by kernel"])
    return Result(sent, took, used, most, seen, dropped)


def by_ztmon(rate, seconds):
    """With pairing, a database and a scrape every second."""
    with Serve("--zerotier-device", DEVICE, "--db", new("live.db"), *buffer()) as serve:
        serve.page_with(lambda page: value(page, "ztmon_capture_up") == 1)
        done = threading.Event()
        scraper = threading.Thread(target=scrape, args=(serve, done))
        scraper.start()
        try:
            sent, took, used = traffic(serve.process.pid, rate, seconds)
        finally:
            done.set()
            scraper.join()
        page, most = serve.page(), peak(serve.process.pid)
    return Result(sent, took, used, most, value(page, "ztmon_frames_total"), value(page, "ztmon_capture_packets_dropped_total"))


def scrape(serve, done):
    while not done.wait(1):
        serve.page()


def buffer():
    """The buffer's flag, in versions that have one."""
    said = subprocess.run([ztmon(), "serve", "--help"], capture_output=True, text=True, check=True).stdout
    return ["--buffer", f"{BUFFER // MEBI}MiB"] if "--buffer " in said else []


def rows(rate, seconds, rounds):
    """In turns; medians of CPU, sums of what was lost."""
    found = {"tcpdump -w /dev/null": [], "ztmon serve": []}
    for number in range(rounds):
        for name, listen in zip(found, [by_tcpdump, by_ztmon]):
            say(f"  {rate:,} packets a second, round {number + 1}: {name}")
            found[name].append(listen(rate, seconds))
    each = {name: statistics.median(one.cpu / one.sent for one in results) for name, results in found.items()}
    base = each["tcpdump -w /dev/null"]
    for name, results in found.items():
        total = lambda figure: sum(getattr(one, figure) for one in results)
        yield [name, f"{rate:,}", f"{total('sent') / total('seconds'):,.0f}", f"{each[name] * 1e6:.3f}", f"{each[name] / base:.2f}",
               f"{max(one.peak for one in results) / MEBI:.0f}", f"{total('sent'):,}", f"{total('seen'):,}", f"{total('dropped'):,}"]


def main():
    s = settings()
    add_devices()
    print("## A device\n")
    machine.describe()
    found = [row for rate in RATES for row in rows(rate, s["seconds"], s["rounds"])]
    found += rows(FULL_RATE, max(FULL_SECONDS, s["seconds"]), 1)
    print(f"{s['rounds']} rounds of {s['seconds']} s in turns; at {FULL_RATE:,} packets a second one of {FULL_SECONDS} s\n")
    table(["", "packets/s", "reached", "CPU µs a packet", "÷ tcpdump", "peak MiB", "sent", "seen", "dropped"], found)


if __name__ == "__main__":
    main()
