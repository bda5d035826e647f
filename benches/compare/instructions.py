"""Instructions that a frame takes, by callgrind: `make callgrind`. Prints Markdown.

What 400,000 frames take more than 200,000, so that starting, ending and printing do not count.
"""
import collections
import os
import re
import subprocess

import machine
from captures import capture
from measure import folder, say, table, ztmon

FEW, MANY = 200_000, 400_000
SHOWN = 12
LINE = re.compile(r"^ *([\d,]+) \( *[\d.]+%\)  .*?:(.*?)(?: \[/.*\])?$")


def counted(tee, frames):
    """Instructions by function."""
    out = os.path.join(folder(), "callgrind")
    command = [ztmon(), "replay", "--quiet", "--tee", tee, capture("small", frames)]
    say(f"  {' '.join(command)}")
    subprocess.run(["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}", *command],
                   stdout=subprocess.DEVNULL, check=True)
    shown = subprocess.run(["callgrind_annotate", "--threshold=100", "--auto=no", out], capture_output=True, text=True, check=True)
    functions = collections.Counter()
    for match in filter(None, map(LINE.match, shown.stdout.splitlines())):
        functions[match[2]] += int(match[1].replace(",", ""))
    return functions


def main():
    print("## Instructions a frame, `small`\n")
    machine.describe()
    for tee in ["none", "both"]:
        few, many = counted(tee, FEW), counted(tee, MANY)
        many.subtract(few)
        total = sum(many.values()) / (MANY - FEW)
        rows = [[f"`{name}`", f"{more / (MANY - FEW):.1f}"] for name, more in many.most_common(SHOWN)]
        print(f"### `--tee {tee}`\n")
        table(["", "instructions"], [["**all**", f"**{total:.1f}**"], *rows])


if __name__ == "__main__":
    main()
