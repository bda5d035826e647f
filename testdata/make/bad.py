"""bad/: damage, and files that are no captures (C13, C16)."""
import struct

from .files import NS, Frame, block, epb, gzip, idb, nano, pcap, pcapng, shb, spb, zstd
from .frames import A, B, eth, ip4
from .scope import ADDRESS

# One good packet of 60 in a frame of 74, at T0. In a pcap its record takes 16 + 74 = 90 bytes, and the next begins
# at 24 + 90 = 114. In a pcapng 28 + 20 for section and interface, 32 + 76 for the packet, and the next is at 156.
GOOD = eth(ip4(A, B, 60))
CLASSIC = pcap([Frame(0, GOOD)])
NG = pcapng([Frame(0, GOOD)])
COUNTED = [(0, A, B, 60)]
DAMAGED = "ztmon: FILE: damaged at byte %d: %s; what came before is counted"
NOT_A_CAPTURE = "ztmon: FILE: not a capture: neither pcap nor pcapng, plain, gzip or zstd"


def write(w):
    assert len(CLASSIC) == 114 and len(NG) == 156
    classic(w)
    next_generation(w)
    compressed(w)
    no_capture(w)
    empty(w)


def classic(w):
    def damaged(name, data, what, offset=114, counted=COUNTED, **more):
        w.fixture("bad/pcap-" + name, data, counted, stderr=DAMAGED % (offset, what), status=1, **more)

    def head(captured):
        return struct.pack("<IIII", 1767225600, 0, captured, 60)

    # C13: the end inside a record's header, inside its bytes, and inside the very first record.
    damaged("header-cut", CLASSIC + head(74)[:15], "the file ends inside a record's header")
    damaged("record-cut", CLASSIC + head(74) + GOOD[:73], "the file ends inside a record")
    damaged("first-record-cut", CLASSIC[:-1], "the file ends inside a record", offset=24, counted=[])
    # C13: 262,144 bytes are believed (the file ends inside), 262,145 are not; what follows is not looked at.
    damaged("captured-262144", CLASSIC + head(262144) + GOOD, "the file ends inside a record")
    damaged("captured-262145", CLASSIC + head(262145) + CLASSIC[24:], "a captured length of 262145 bytes cannot be")
    # C13: D-Bus, USB and EBHSCR records may be longer: 128 MiB and 8 MiB.
    for link, most in ((231, 128 << 20), (249, 128 << 20), (279, 8 << 20)):
        start = pcap([Frame(0, GOOD)], link)
        damaged("type-%d-long" % link, start + head(most), "the file ends inside a record", counted=[], unsupported_link=1)
        damaged("type-%d-too-long" % link, start + head(most + 1), "a captured length of %d bytes cannot be" % (most + 1),
                counted=[], unsupported_link=1)


def next_generation(w):
    def damaged(name, more, what, **others):
        """One good packet, then what is damaged, then a good one that is not looked at."""
        w.fixture("bad/pcapng-" + name, NG + more + NG[48:], COUNTED, stderr=DAMAGED % (156, what), status=1, kind="pcapng", **others)

    long = "a block length of %d bytes cannot be"
    # C13: block lengths: 8; 14; 16 MiB and 4; and the file's end inside a block that would be long enough.
    damaged("block-too-short", struct.pack("<IIII", 5, 8, 0, 0), long % 8)
    damaged("block-odd", block(5, bytes(4), length=14), long % 14)
    damaged("block-too-long", block(5, bytes(4), length=(16 << 20) + 4), long % ((16 << 20) + 4))
    damaged("block-cut", block(5, bytes(4), length=16 << 20), "the file ends inside a block")
    # C13: too short for the fixed fields: section 28, interface 8, packets 20, simple packet 4, each less 4.
    for name, kind, size in (("section", 0x0A0D0D0A, 12), ("interface", 1, 4), ("epb", 6, 16), ("pb", 2, 16), ("spb", 3, 0)):
        body = struct.pack("<IHH", 0x1A2B3C4D, 1, 0) + bytes(4) if name == "section" else bytes(size)
        damaged(name + "-too-short", block(kind, body), long % (12 + size))
    # C13: a trailer that differs; its packet is not counted.
    damaged("trailer", epb(0, GOOD, trailer=112), "a block's two lengths differ")
    # C13: an interface that nobody described.
    damaged("interface-unknown", epb(0, GOOD, interface=1), "a packet names interface 1, which was not described")
    # C13: captured length beyond its block, and beyond belief.
    damaged("captured-beyond-block", epb(0, GOOD, captured=77), "a captured length of 77 bytes cannot be")
    # C13: a later section with a wrong byte-order magic or version.
    damaged("section-magic", shb(magic=0x1A2B3C4E), "a section header's byte-order magic is wrong")
    damaged("section-version", shb(version=2), "a section header's version is not 1")
    # C12, C13: a new section forgets the interfaces, for simple packets too. The section itself is good: 28 bytes more.
    w.fixture("bad/pcapng-interface-forgotten", NG + shb() + NG[48:], COUNTED, status=1, kind="pcapng",
              stderr=DAMAGED % (184, "a packet names interface 0, which was not described"))
    w.fixture("bad/pcapng-simple-without-interface", shb() + spb(GOOD), status=1, kind="pcapng",
              stderr=DAMAGED % (28, "a packet names interface 0, which was not described"))
    # C13: a tail of 11 bytes is no block.
    w.fixture("bad/pcapng-tail", NG + bytes(11), COUNTED, status=1, kind="pcapng", stderr=DAMAGED % (156, "the file ends inside a block"))


def compressed(w):
    def damaged(name, data, offset, what, counted=COUNTED):
        w.fixture("bad/" + name, data, counted, status=1, stderr=DAMAGED % (offset, what),
                  kind="pcap.zst" if name.startswith("zstd") else "pcap.gz")

    # C13: a wrong checksum at the end: all packets stand, and the offset is the end of what was unpacked.
    damaged("gzip-checksum", gzip(CLASSIC, crc=1), 114, "broken gzip: [...]")
    damaged("zstd-checksum", zstd(CLASSIC, checksum=b"\0\0\0\0"), 114, "broken zstd: [...]")
    # C13: the end inside a member, with its last 8 bytes missing; behind the last byte a record could be. And in its middle: nothing whole.
    damaged("gzip-cut", gzip(CLASSIC)[:-8], 114, "the file ends inside a gzip member")
    damaged("gzip-cut-in-record", gzip(CLASSIC)[:-9], 24, "the file ends inside a gzip member", counted=[])
    damaged("zstd-cut", zstd(CLASSIC)[:-1] + b"", 24, "the file ends inside a zstd frame", counted=[])
    # C13: what follows the last member or frame is another one or damage.
    damaged("gzip-junk", gzip(CLASSIC) + b"\0\0junk", 114, "broken gzip: [...]")
    damaged("zstd-junk", zstd(CLASSIC) + b"junk!", 114, "broken zstd: [...]")


def no_capture(w):
    first = shb() + idb()
    for name, data in (
            ("nothing", b""), ("text", b"not a capture\n"), ("pcap-header-cut", CLASSIC[:23]), ("pcap-version-1", pcap([], version=(1, 4))),
            ("pcap-version-543-1", pcap([], version=(543, 1))), ("pcapng-first-section-cut", shb()[:27]),
            ("pcapng-first-version-2", shb(version=2) + idb()), ("pcapng-first-magic", shb(magic=0x1A2B3C4E) + idb()),
            ("pcapng-first-trailer", first[:24] + struct.pack("<I", 32) + first[28:]),
            ("pcapng-no-section", idb() + NG[28:]), ("gzip-twice", gzip(gzip(CLASSIC))), ("gzip-header-cut", gzip(CLASSIC[:23])),
            ("gzip-broken-at-once", gzip(CLASSIC)[:12]), ("zstd-of-text", zstd(b"not a capture\n"))):
        # C13: damage inside the very first header, compressed or not: exit 2, and nothing is printed.
        w.fixture("bad/no-capture-" + name, data, status=2, stderr=NOT_A_CAPTURE)


def empty(w):
    # C13: a good header without packets is a capture with zeros.
    for name, data, kind in (("pcap", pcap([]), "pcap"), ("pcapng", shb(), "pcapng"), ("pcapng-interface", shb() + idb(), "pcapng"),
                             ("gzip", gzip(pcap([])), "pcap.gz")):
        w.fixture("bad/no-packets-" + name, data, kind=kind)
