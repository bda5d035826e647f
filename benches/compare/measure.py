"""What a command costs: CPU of all its processes and threads, wall time, and the memory of the largest process."""
import ctypes
import os
import shutil
import statistics
import sys
import time
from dataclasses import dataclass

PR_SET_CHILD_SUBREAPER = 36
MEBI = 1 << 20


@dataclass
class Cost:
    cpu: float
    wall: float


def settings():
    """What the Makefile or the caller says: FRAMES, ROUNDS and the like, with their defaults."""
    value = lambda name, default: int(os.environ.get(name) or default)
    return {"frames": value("FRAMES", 10_000_000), "peer_frames": value("PEER_FRAMES", 1_000_000),
            "rounds": value("ROUNDS", 5), "seconds": value("LIVE_SECONDS", 10)}


def folder():
    """Where captures and outputs are; they stay there for the next time."""
    path = os.environ.get("BENCH_DIR") or "target/bench"
    os.makedirs(path, exist_ok=True)
    return path


def ztmon():
    return os.environ.get("ZTMON") or "target/release/ztmon"


def say(text):
    print(text, file=sys.stderr, flush=True)


def find(program):
    return shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def run(command, stdout=os.devnull, stderr=os.devnull):
    """Runs a command to its end, its orphans included; gives its exit status and its cost."""
    # Whoever outlives its parent becomes our child, and its costs are ours to know.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    create = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
             (os.POSIX_SPAWN_OPEN, 1, stdout, create, 0o644), (os.POSIX_SPAWN_OPEN, 2, stderr, create, 0o644)]
    program = find(command[0])
    start = time.monotonic()
    first = os.posix_spawn(program, command, dict(os.environ, LC_ALL="C.UTF-8"), file_actions=files)
    cpu, code = 0.0, None
    while True:
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            break
        cpu += usage.ru_utime + usage.ru_stime
        if pid == first:
            code = os.waitstatus_to_exitcode(status)
    return code, Cost(cpu, time.monotonic() - start)


def peak(command, stdout, stderr):
    """Runs a command; gives its exit status and the most memory it had, in bytes.

    By GNU time, which is small: what is started from a large process seems to have that one's memory.
    """
    report = os.path.join(folder(), "peak")
    code, _ = run(["time", "-q", "-f", "%M", "-o", report, *command], stdout, stderr)
    return code, int(open(report).read()) * 1024


def median(costs):
    return Cost(statistics.median(c.cpu for c in costs), statistics.median(c.wall for c in costs))


def table(head, rows):
    """A Markdown table. The first column is text, the others are figures."""
    print("| " + " | ".join(head) + " |")
    print("|---|" + "---:|" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)
