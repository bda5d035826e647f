"""time/: how files state frames and times, and which frames are looked at (C12, C14, C15)."""
import struct

from .files import (NS, T0, Frame, block, epb, gzip, idb, nano, option, pb, pcap, pcapng, record, shb, spb, tsoffset,
                    tsresol, zstd)
from .frames import A, B, eth, ip4
from .scope import ADDRESS

MS = 10**6
PACKETS = [eth(ip4(A, B, 100 * (i + 1))) for i in range(6)]
# Two packets, at 0.000001 s and 1.5 s: 100 + 200.
TWO = [Frame(1000, PACKETS[0]), Frame(1500 * MS, PACKETS[1])]
TWO_COUNTED = [(1000, A, B, 100), (1500 * MS, A, B, 200)]


def sent(texts):
    """Packets of 100, 200, ... at times that are spelled out."""
    return [(text, A, B, 100 * (i + 1)) for i, text in enumerate(texts)]


def write(w):
    classic(w)
    next_generation(w)
    compressed(w)
    selection(w)


def classic(w):
    # C12: units and byte orders of the classic format. The same two packets each time.
    for name, magic in (("micro", 0xA1B2C3D4), ("nano", 0xA1B23C4D), ("modified", 0xA1B2CD34)):
        for end, order in (("little", "<"), ("big", ">")):
            w.fixture("time/pcap-%s-%s-endian" % (name, end), pcap(TWO, magic=magic, order=order), TWO_COUNTED)
    # C12: nanoseconds to the last digit, and no zeros behind it.
    w.fixture("time/nanoseconds", nano([Frame(1, PACKETS[0]), Frame(NS - 10, PACKETS[1])]),
              sent(["2026-01-01T00:00:00.000000001Z", "2026-01-01T00:00:00.99999999Z"]))
    # C12: the lengths come in the other order before 2.3 and in 543.0; frames are cut, so that it shows.
    cut = [Frame(1000, PACKETS[0], cut=60), Frame(1500 * MS, PACKETS[1], cut=60)]
    for major, minor in ((2, 2), (2, 0), (543, 0)):
        w.fixture("time/pcap-version-%d-%d" % (major, minor), pcap(cut, version=(major, minor), swapped=True), TWO_COUNTED)
    # C12: at 2.3 whichever is the smaller is the captured one.
    mixed = pcap(cut[:1], version=(2, 3)) + pcap(cut[1:], version=(2, 3), swapped=True)[24:]
    w.fixture("time/pcap-version-2-3", mixed, TWO_COUNTED)
    w.fixture("time/pcap-version-2-9", pcap(cut, version=(2, 9)), TWO_COUNTED)
    # C12: a captured length above the snaplen of 60 or above the original length of 10 is accepted.
    frames = [Frame(1000, PACKETS[0]), Frame(1500 * MS, PACKETS[1], original=10)]
    w.fixture("time/snaplen-exceeded", pcap(frames, snaplen=60), TWO_COUNTED)
    # C12: a fraction of a second or more is added: 2,500,000 µs and 4,000,000,000 ns.
    data = pcap([]) + record(T0, 2_500_000, TWO[0])
    w.fixture("time/fraction-micro", data, sent(["2026-01-01T00:00:02.5Z"]))
    data = nano([]) + record(T0, 4_000_000_000, TWO[0])
    w.fixture("time/fraction-nano", data, sent(["2026-01-01T00:00:04Z"]))
    # C12: seconds are unsigned: the last is in 2106.
    data = pcap([]) + record(2**32 - 1, 999_999, TWO[0])
    w.fixture("time/last-second", data, sent(["2106-02-07T06:28:15.999999Z"]))
    # First and last are the earliest and latest, not those read first and last.
    frames = [Frame(t * NS, PACKETS[i]) for i, t in enumerate((3, 1, 5, 2))]
    w.fixture("time/out-of-order", pcap(frames), [(t * NS, A, B, 100 * (i + 1)) for i, t in enumerate((3, 1, 5, 2))])


def next_generation(w):
    # C12: microseconds unless stated, both byte orders.
    w.fixture("time/pcapng-micro", pcapng(TWO), TWO_COUNTED, kind="pcapng")
    w.fixture("time/pcapng-micro-big-endian", pcapng(TWO, order=">"), TWO_COUNTED, kind="pcapng")

    def stamped(name, options, stamps, texts, **more):
        data = shb() + idb(options=options) + b"".join(epb(stamp, PACKETS[i]) for i, stamp in enumerate(stamps))
        w.fixture("time/pcapng-" + name, data, sent(texts), kind="pcapng", **more)

    # C12, if_tsresol: whole seconds, nanoseconds, 10⁻¹⁰ rounded down, 2⁻¹ and 2⁻³⁰ rounded down.
    stamped("seconds", tsresol(0), [T0, 0], ["2026-01-01T00:00:00Z", "1970-01-01T00:00:00Z"])
    stamped("nano", tsresol(9), [T0 * NS + 1], ["2026-01-01T00:00:00.000000001Z"])
    stamped("finer-than-nano", tsresol(10), [19, 25], ["1970-01-01T00:00:00.000000001Z", "1970-01-01T00:00:00.000000002Z"])
    stamped("halves", tsresol(0x81), [3], ["1970-01-01T00:00:01.5Z"])
    # 2 × 10⁹ / 2³⁰ = 1.86...
    stamped("binary", tsresol(0x80 | 30), [2], ["1970-01-01T00:00:00.000000001Z"])
    # C12, if_tsoffset: an hour later, a second before 1970, and both options in either order.
    stamped("offset", tsoffset(3600), [1_500_000], ["1970-01-01T01:00:01.5Z"])
    stamped("offset-negative", tsresol(3) + tsoffset(-2), [1999], ["1969-12-31T23:59:59.999Z"])
    # C12: exact for any stamp; only printing clamps.
    stamped("year-9999", tsresol(0), [253402300799, 253402300800, 2**64 - 1],
            ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"])
    stamped("year-0", tsresol(0) + tsoffset(-2**63), [0], ["0000-01-01T00:00:00Z"])
    # C12, C8: the same bytes at the last nanosecond that 64 bits hold and at the first are no copies; nor are such times
    # in one bucket, whose number 64 bits would give to both.
    stamps = ["2554-07-21T23:34:33.709551615Z", "1970-01-01T00:00:00.000000001Z"]
    data = shb() + idb(options=tsresol(9)) + epb(2**64 - 1, PACKETS[0]) + epb(1, PACKETS[0])
    w.fixture("time/pcapng-64-bits-copy", data, [(text, A, B, 100) for text in stamps], kind="pcapng")
    stamped("64-bits-bucket", tsresol(9), [2**64 - NS, NS], ["2554-07-21T23:34:32.709551616Z", "1970-01-01T00:00:01Z"])
    # C12: options stop at the first that lies about its length: the resolution behind it is not read, so 1 is a
    # microsecond. What stood before it holds.
    lie = struct.pack("<HH", 2, 99) + bytes(4)
    stamped("option-lies", lie + tsresol(0), [1], ["1970-01-01T00:00:00.000001Z"])
    stamped("option-lies-later", tsresol(0) + lie, [1], ["1970-01-01T00:00:01Z"])
    # C12: options end at their end, and one of a wrong size is none.
    stamped("option-end", option(0, b"") + tsresol(0), [1], ["1970-01-01T00:00:00.000001Z"])
    stamped("option-size", option(9, b"\0\0"), [1], ["1970-01-01T00:00:00.000001Z"])

    # C12: interfaces have their own units; a section forgets those before it, may have another byte order, and its
    # stated length is ignored.
    data = shb(section_length=4) + idb(options=tsresol(0)) + idb(options=tsresol(9))
    data += epb(5, PACKETS[0]) + epb(6 * NS, PACKETS[1], interface=1)
    data += shb(">") + idb(options=tsresol(3, ">"), order=">") + epb(7500, PACKETS[2], order=">")
    w.fixture("time/pcapng-sections", data, sent(["1970-01-01T00:00:05Z", "1970-01-01T00:00:06Z", "1970-01-01T00:00:07.5Z"]),
              kind="pcapng")
    # C12: the obsolete packet block; blocks that are nobody's business are skipped (names, statistics, unknown, empty).
    data = shb() + idb(options=tsresol(0)) + pb(1, PACKETS[0]) + block(4, bytes(8)) + block(5, bytes(12))
    data += block(0x77777777, b"") + idb(options=tsresol(3)) + pb(2500, PACKETS[1], interface=1)
    w.fixture("time/pcapng-obsolete-and-others", data, sent(["1970-01-01T00:00:01Z", "1970-01-01T00:00:02.5Z"]), kind="pcapng")
    # C12: a simple packet belongs to interface 0, at time 0 and the offset. Interface 1 is another one.
    start = shb() + idb(options=tsoffset(60)) + idb(link=101)
    w.fixture("time/pcapng-simple", start + spb(PACKETS[0]), sent(["1970-01-01T00:01:00Z"]), kind="pcapng")
    # C12: it is cut by the end of its block: 1,000 bytes are claimed, 48 are there, and the addresses among them.
    w.fixture("time/pcapng-simple-cut", start + spb(PACKETS[0][:48], original=1000), sent(["1970-01-01T00:01:00Z"]), kind="pcapng")
    # C12: ... and by the snaplen: 34 bytes hold the addresses, 33 do not, whatever the block holds.
    for snaplen, good in ((34, 1), (33, 0)):
        cut = ["warning: 1 IPv4 packets were cut at 19 bytes, before the addresses end, and could not be counted: a tee rule "
               "needs 20 bytes for IPv4 and 40 for IPv6"]
        w.fixture("time/pcapng-simple-snaplen-%d" % snaplen, shb() + idb(snaplen=snaplen) + spb(PACKETS[0]),
                  sent(["1970-01-01T00:00:00Z"] * good), kind="pcapng", malformed=1 - good, extra=[] if good else cut)


def compressed(w):
    plain, ng = pcap(TWO), pcapng(TWO)
    # C12: gzip and zstd, of either format; a file may come in several members or frames, split anywhere.
    w.fixture("time/gzip", gzip(plain), TWO_COUNTED, kind="pcap.gz")
    w.fixture("time/gzip-pcapng", gzip(ng), TWO_COUNTED, kind="pcapng.gz")
    w.fixture("time/gzip-members", gzip(plain[:50]) + gzip(b"") + gzip(plain[50:]), TWO_COUNTED, kind="pcap.gz")
    w.fixture("time/gzip-padded", gzip(plain) + bytes(20), TWO_COUNTED, kind="pcap.gz")
    w.fixture("time/zstd", zstd(plain), TWO_COUNTED, kind="pcap.zst")
    w.fixture("time/zstd-frames", zstd(ng[:50]) + zstd(ng[50:]), TWO_COUNTED, kind="pcapng.zst")
    skippable = struct.pack("<II", 0x184D2A53, 3) + b"abc"
    w.fixture("time/zstd-skippable", skippable + zstd(plain[:50]) + skippable + zstd(plain[50:]), TWO_COUNTED, kind="pcap.zst")
    # C12: recognised by content, whatever the name.
    w.fixture("time/name-says-nothing", gzip(ng), TWO_COUNTED, kind="pcap")


def selection(w):
    frames = [Frame(t * NS, PACKETS[t]) for t in range(5)]
    # C15: since is inside, until is not: 2 and 3 remain, 300 + 400.
    w.fixture("time/since-until", pcap(frames), [(2 * NS, A, B, 300), (3 * NS, A, B, 400)],
              args="--since 2026-01-01T00:00:02Z --until 2026-01-01T01:00:04+01:00")
    # C15: there is no time between the same moment and itself.
    w.fixture("time/since-until-same", pcap(frames), args="--since 2026-01-01T00:00:02Z --until 2026-01-01T01:00:02+01:00")
    # C15: a local date, in a zone an hour ahead: 2026-01-01 began there when it was 23:00 in UTC.
    w.fixture("time/since-date", pcap([Frame(-3600 * NS - 1000, PACKETS[0]), Frame(-3600 * NS, PACKETS[1])]),
              [("2025-12-31T23:00:00Z", A, B, 200)], args="--since 2026-01-01 --tz Europe/Berlin")
    # C15: what is refused is no twin: the copy at 1 s is alone, and one before a refused frame in time is not forgotten.
    w.fixture("time/since-refuses-twins", pcap([Frame(0, PACKETS[0]), Frame(NS, PACKETS[0])]), [(NS, A, B, 100)],
              args="--since 2026-01-01T00:00:01Z")
    w.fixture("time/until-moves-no-clock", pcap([Frame(0, PACKETS[0]), Frame(60 * NS, PACKETS[1]), Frame(NS, PACKETS[0])]),
              [(0, A, B, 100)], args="--until 2026-01-01T00:00:30Z", copies=1)
    # C14: two files are one history. history-2 holds the copies of history-1's packets at 0 and 4 s, and one of its
    # own at 5 s; together 100 + 200 + 300.
    one = [Frame(0, PACKETS[0]), Frame(4 * NS, PACKETS[1])]
    two = [Frame(NS, PACKETS[0]), Frame(5 * NS, PACKETS[2]), Frame(6 * NS, PACKETS[1])]
    w.fixture("time/history-1", pcap(one), [(0, A, B, 100), (4 * NS, A, B, 200), (5 * NS, A, B, 300)], args="history-2.pcap", copies=2)
    w.fixture("time/history-2", pcap(two), [(NS, A, B, 100), (5 * NS, A, B, 300), (6 * NS, A, B, 200)])
    # C14: within a file its own order: behind a frame at 9 s one at 0 s waits, and comes too late for its twin.
    late = [Frame(9 * NS, PACKETS[2]), Frame(0, PACKETS[0])]
    w.fixture("time/history-3", pcap(late), [(9 * NS, A, B, 300), (0, A, B, 100), (0, A, B, 100), (4 * NS, A, B, 200)],
              args="history-1.pcap")
