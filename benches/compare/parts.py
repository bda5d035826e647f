"""What `cargo bench` has found, as Markdown: `make bench-parts`."""
import glob
import json
import os

import machine
from measure import table

CRITERION = os.path.join(os.environ.get("CARGO_TARGET_DIR") or "target", "criterion")


def figures(path):
    """A benchmark's name, its median in ns, and how many elements that was for."""
    what = json.load(open(path))
    estimates = json.load(open(os.path.join(os.path.dirname(path), "estimates.json")))
    return what["full_id"], estimates["median"]["point_estimate"], (what["throughput"] or {}).get("Elements")


def main():
    print("## The parts\n")
    machine.describe()
    found = [figures(path) for path in sorted(glob.glob(f"{CRITERION}/*/*/new/benchmark.json"))]
    rows = [[f"`{name}`", f"{ns / 1e6:.3f}", f"{ns / elements:.1f}" if elements else ""] for name, ns, elements in found]
    medians = {name: ns for name, ns, _ in found}
    ratio = medians["exposition/prometheus"] / medians["exposition/ztmon"]
    table(["", "median ms", "ns an element"], [*rows, ["`exposition`: prometheus ÷ ztmon", f"{ratio:.1f}", ""]])


if __name__ == "__main__":
    main()
