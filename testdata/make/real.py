"""real/: the original exporter's published sample, and answers for the captures of a real network."""
import os

from . import files
from .frames import MAC_A, MAC_B, MAC_C, eth, ip4

REAL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "real")
# The captures that are not made here, and the options that they are read with.
CAPTURES = {"tee-both": "", "tee-inbound": "--tee one", "tee-20": "--tee-bytes 20"}


def write(w):
    sample(w)
    for name, args in CAPTURES.items():
        recorded(w, name, args)
        for client in "ABC":
            # What a client's own device saw is no tee.
            recorded(w, "%s-truth-%s" % (name, client), "--tee none")


def recorded(w, name, args):
    """The answer of the second implementation in tests/oracle."""
    import count

    here = os.getcwd()
    os.chdir(REAL)
    try:
        status, out, outcomes, causes = count.run(args.split() + [name + ".pcap"])
    finally:
        os.chdir(here)
    assert (status, causes) == (0, []), causes
    w.put("real/%s.csv" % name, out)
    if args:
        w.put("real/%s.args" % name, args + "\n")
    rest = [outcomes[key] for key in ("copy", "out_of_scope", "not_ip", "malformed", "unsupported_link")]
    words = ("copies", "out of scope", "not IP", "malformed", "unsupported link")
    summary = "{:,} frames = {:,} counted".format(sum(outcomes.values()), outcomes["counted"])
    summary += "".join(" + {:,} {}".format(n, word) for n, word in zip(rest, words)) + "\n"
    if name == "tee-20":
        # All IPv6 and nothing else is cut before its addresses end.
        summary += ("warning: %d IPv6 packets were cut at 20 bytes, before the addresses end, and could not be counted: a tee rule "
                    "needs 20 bytes for IPv4 and 40 for IPv6\n" % outcomes["malformed"])
    w.put("real/%s.summary" % name, summary)


def sample(w):
    """The totals that the original exporter published (bytes):

        192.168.124.251  received   6,283,878  sent 199,583,467
        192.168.124.252  received       1,346  sent       1,260
        192.168.124.253  received 199,582,121  sent   6,282,618

    They add up if .251 sends 199,582,121 to .253 and 1,346 to .252, .253 sends 6,282,618 to .251, and .252 sends 1,260
    to .251: 199,582,121 + 1,346 = 199,583,467 sent and 6,282,618 + 1,260 = 6,283,878 received by .251. Each packet
    comes twice, as a two-sided rule sends it, 50 µs apart, cut to the IPv4 header of 20 bytes.
    """
    who = {"192.168.124.251": MAC_A, "192.168.124.252": MAC_B, "192.168.124.253": MAC_C}
    a, b, c = who
    frames, counted, at = [], [], 0
    for src, dst, total in ((a, c, 199_582_121), (c, a, 6_282_618), (a, b, 1_346), (b, a, 1_260)):
        # As few packets as possible: an IPv4 packet has at most 65,535 bytes. 199,582,121 = 3,045 × 65,535 + 28,046.
        full, rest = divmod(total, 65_535)
        for i, size in enumerate([65_535] * full + [rest]):
            header = ip4(src, dst, 20, ident=i + 1, length=size)
            for copy in range(2):
                frames.append(files.Frame(at + copy * 50_000, eth(header, who[src], who[dst]), original=14 + min(size, 128)))
            counted.append((at, src, dst, size))
            at += 1_000_000
    received = {end: sum(size for _, _, dst, size in counted if dst == end) for end in who}
    sent = {end: sum(size for _, src, _, size in counted if src == end) for end in who}
    assert received == {a: 6_283_878, b: 1_346, c: 199_582_121} and sent == {a: 199_583_467, b: 1_260, c: 6_282_618}
    w.fixture("real/exporter-sample", gzip(files.pcap(frames)), counted, copies=len(counted), args="--tee-bytes 20", kind="pcap.gz")


def gzip(data):
    """Really compressed, as the other captures of this folder are not."""
    import gzip as library

    return library.compress(data, 9, mtime=0)
