"""What figures were measured on, and which ztmon."""
import os
import platform
import re
import subprocess

from measure import ztmon
from peers import versions


def describe():
    """As lines of a Markdown list."""
    cpus = open("/proc/cpuinfo").read()
    model = re.search(r"^(?:model name|Model)\s*: (.*)", cpus, re.MULTILINE)
    memory = int(re.search(r"MemTotal: *(\d+)", open("/proc/meminfo").read())[1]) / (1 << 20)
    system = re.search(r'PRETTY_NAME="(.*)"', open("/etc/os-release").read())[1]
    print(f"- Machine: {model[1] if model else platform.machine()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB; "
          f"Linux {platform.release()}, {system}")
    print(f"- ztmon: {version()}")
    if versions():
        print(f"- Debian's {', '.join(versions())}")
    print(flush=True)


def version():
    """The program's version, and the commit if it was built here."""
    said = subprocess.run([ztmon(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if os.environ.get("ZTMON"):
        return f"{said} (another build)"
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    return f"{said} ({commit})"
