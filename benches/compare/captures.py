"""The captures: seeded, written once, and kept."""
import os
import subprocess

from measure import folder, say

EXAMPLES = os.environ.get("EXAMPLES") or "target/release/examples"


def capture(kind, frames=None, ending="pcap"):
    """The path of a capture: small, large, full or a number of clients."""
    path = os.path.join(folder(), f"{kind}{'-%d' % frames if frames else ''}.{ending}")
    packed = {"gz": ["gzip", "-kc"], "zst": ["zstd", "-qkc"]}.get(ending.split(".")[-1])
    if packed:
        source = capture(kind, frames, "pcap")
        command = packed + [source]
    else:
        command = [os.path.join(EXAMPLES, "workload"), str(kind), path + ".part." + ending] + ([str(frames)] if frames else [])
    if not os.path.exists(path):
        say(f"writing {path}")
        # Under another name until it is whole.
        part = path + ".part." + ending
        with open(part if packed else os.devnull, "wb") as out:
            subprocess.run(command, stdout=out, check=True)
        os.rename(part, path)
    return path


def reference(tee, path):
    """What the naive reference counts: a row for each address, by its name."""
    printed = subprocess.run([os.path.join(EXAMPLES, "reference"), tee, path], stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = (line.split(",") for line in printed.splitlines()[1:])
    return {row[0]: [int(value) for value in row[1:]] for row in rows}
