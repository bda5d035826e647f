"""Instructions that a frame and a commit take, by callgrind: `make callgrind`. Prints Markdown.

What 400,000 frames take more than 200,000, and 200 commits more than 100, so that starting, ending and printing do not count.
"""
import collections
import os
import re
import subprocess

import machine
from captures import EXAMPLES, capture
from measure import folder, say, table, ztmon

FEW, MANY = 200_000, 400_000
FEW_COMMITS, MANY_COMMITS, PAIRS = 100, 200, 1000
SHOWN = 12
LINE = re.compile(r"^ *([\d,]+) \( *[\d.]+%\)  .*?:(.*?)(?: \[/.*\])?$")


def counted(command):
    """Instructions by function."""
    out = os.path.join(folder(), "callgrind")
    say(f"  {' '.join(command)}")
    subprocess.run(["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}", *command],
                   stdout=subprocess.DEVNULL, check=True)
    shown = subprocess.run(["callgrind_annotate", "--threshold=100", "--auto=no", out], capture_output=True, text=True, check=True)
    functions = collections.Counter()
    for match in filter(None, map(LINE.match, shown.stdout.splitlines())):
        functions[match[2]] += int(match[1].replace(",", ""))
    return functions


def replayed(tee, frames):
    return counted([ztmon(), "replay", "--quiet", "--tee", tee, capture("small", frames)])


def committed(commits):
    """Of traffic in the same five minutes."""
    file = os.path.join(folder(), "commits.db")
    for ending in ["", "-wal", "-shm"]:
        if os.path.exists(file + ending):
            os.remove(file + ending)
    return counted([os.path.join(EXAMPLES, "history"), file, str(PAIRS), "1", str(commits)])


def show(few, many, more):
    """What each of so many more takes."""
    many.subtract(few)
    rows = [[f"`{name}`", f"{count / more:,.1f}"] for name, count in many.most_common(SHOWN)]
    table(["", "instructions"], [["**all**", f"**{sum(many.values()) / more:,.1f}**"], *rows])


def main():
    print("## Instructions a frame, `small`\n")
    machine.describe()
    for tee in ["none", "both"]:
        print(f"### `--tee {tee}`\n")
        show(replayed(tee, FEW), replayed(tee, MANY), MANY - FEW)
    print(f"## Instructions a commit of {PAIRS:,} pairs\n")
    show(committed(FEW_COMMITS), committed(MANY_COMMITS), MANY_COMMITS - FEW_COMMITS)


if __name__ == "__main__":
    main()
