"""link/: from the first byte of a frame to the IP header, and what the header says (C1 to C5)."""
import struct

from .files import Frame, epb, idb, nano, pcap, shb
from .frames import (A, A6, ARP, B, B6, C, MAC_A, X, chain, eth, family, ip4, ip6, mac, sll, sll2)

MIB = 1 << 20
V4, V6 = ip4(A, B, 100), ip6(A6, B6, 100)
TAGS = (0x8100, 0x88A8, 0x9100, 0x9200, 0x9300)


def numbered(count, size=100):
    """So many different packets from A to B."""
    return [ip4(A, B, size, ident=i + 1) for i in range(count)]


def steps(frames, **more):
    """Frames a millisecond apart."""
    return [Frame(i * 10**6, data, **more) for i, data in enumerate(frames)]


def counted(count, src=A, dst=B, size=100, start=0):
    return [((start + i) * 10**6, src, dst, size) for i in range(count)]


def write(w):
    lengths(w)
    malformed(w)
    links(w)
    outermost(w)


def lengths(w):
    # C1: bytes are the header's own. 1,500 + 1,040, though only 128 bytes of each were captured.
    frames = [Frame(0, eth(ip4(A, B, 1500)), cut=14 + 128), Frame(1000, eth(ip6(A6, B6, 1040)), cut=14 + 128)]
    w.fixture("link/length-from-header", pcap(frames), [(0, A, B, 1500), (1000, A6, B6, 1040)])
    # C1: 20 bytes of IPv4 are enough, 40 of IPv6: 1,500, and 65,535 + 40.
    frames = [Frame(0, eth(ip4(A, B, 1500)), cut=34), Frame(1000, eth(ip6(A6, B6, 40, length=65535)), cut=54)]
    w.fixture("link/header-alone", pcap(frames), [(0, A, B, 1500), (1000, A6, B6, 65575)])
    # C1: options of 40 bytes need not be captured. 60.
    w.fixture("link/options-not-captured", pcap([Frame(0, eth(ip4(A, B, 60, ihl=15)), cut=34)]), [(0, A, B, 60)])
    # C1, C5: no length is compared with the wire: 1,000 stated in a frame of 100, and a record that claims 0 bytes.
    frames = [Frame(0, eth(ip4(A, B, 100, length=1000))), Frame(1000, eth(ip4(A, B, 60)), original=0)]
    w.fixture("link/length-beyond-wire", pcap(frames), [(0, A, B, 1000), (1000, A, B, 60)])
    # C5: fragments are packets, 1,020 + 500; a checksum is nobody's business, 84.
    frames = [eth(ip4(A, B, 1020, ident=7, flags=0x2000)), eth(ip4(A, B, 500, ident=7, flags=125)),
              eth(ip4(A, B, 84, bad_checksum=True))]
    w.fixture("link/fragments-and-checksums", pcap(steps(frames)), [(0, A, B, 1020), (10**6, A, B, 500), (2 * 10**6, A, B, 84)])

    # C2, IPv4 with length 0: the frame's length less 14, or less 18 behind a tag.
    zero = ip4(A, B, 20, length=0)
    frames = [Frame(0, eth(zero), original=14 + 3000), Frame(1000, eth(zero, tags=(0x8100,)), original=18 + 500),
              Frame(2000, eth(ip4(A, C, 20, length=0)), original=14 + MIB)]
    w.fixture("link/ipv4-length-zero", pcap(frames), [(0, A, B, 3000), (1000, A, B, 500), (2000, A, C, MIB)], args="--tee none")
    # C2: malformed if that is below the header's 20 or above a MiB; a frame of 3 bytes has less than nothing left.
    frames = [Frame(0, eth(zero), original=14 + 19), Frame(1000, eth(zero), original=14 + MIB + 1), Frame(2000, eth(zero), original=3)]
    w.fixture("link/ipv4-length-zero-malformed", pcap(frames), malformed=3)
    # C2, IPv6 with length 0: 40, unless more follows than any header could state and a next header says so.
    zero = ip6(A6, B6, 40, length=0)
    frames = [Frame(0, eth(zero), original=14 + 1000), Frame(1000, eth(zero), original=14 + 65575),
              Frame(2000, eth(zero), original=14 + 65576), Frame(3000, eth(zero, tags=(0x8100,)), original=18 + MIB),
              Frame(4000, eth(zero), original=14 + MIB + 1),
              Frame(5000, eth(ip6(A6, B6, 40, length=0, following=59)), original=14 + 70000),
              Frame(6000, eth(zero), original=14)]
    w.fixture("link/ipv6-length-zero", pcap(frames), [(0, A6, B6, 40), (1000, A6, B6, 40), (2000, A6, B6, 65576),
                                                      (3000, A6, B6, MIB), (5000, A6, B6, 40), (6000, A6, B6, 40)],
              args="--tee none", malformed=1)
    # C2: a jumbogram option (hop by hop, type 0xc2) says 100,000; it is not trusted. 40 it is.
    hop = bytes([17, 0, 0xC2, 4]) + struct.pack(">I", 100_000)
    frames = [Frame(0, eth(ip6(A6, B6, 48, length=0, following=0, body=hop)))]
    w.fixture("link/jumbogram-option", pcap(frames), [(0, A6, B6, 40)])


def malformed(w):
    # C3, IPv4: one byte too few; version 6 behind 0x0800; IHL 4; length 19; IHL 6 with length 23. Then good ones, where
    # the length is the header's: 20, and 24 with IHL 6.
    bad = [ip4(A, B, 100)[:19], b"\x65" + V4[1:], b"\x44" + V4[1:], ip4(A, B, 100, length=19),
           ip4(A, B, 100, ihl=6, length=23)]
    good = [ip4(A, B, 20), ip4(A, B, 24, ihl=6)]
    w.fixture("link/malformed-ipv4", pcap(steps([eth(ip, kind=0x0800) for ip in bad + good])),
              [(5 * 10**6, A, B, 20), (6 * 10**6, A, B, 24)], malformed=5,
              extra=["warning: 1 IPv4 packets were cut at 19 bytes, before the addresses end, and could not be counted: "
                     "a tee rule needs 20 bytes for IPv4 and 40 for IPv6"])
    # C3, IPv6: one byte too few; version 4 behind 0x86dd; nothing at all. Then a good one of 40.
    frames = [eth(V6[:39]), eth(b"\x45" + V6[1:], kind=0x86DD), eth(b"", kind=0x86DD), eth(ip6(A6, B6, 40))]
    w.fixture("link/malformed-ipv6", pcap(steps(frames)), [(3 * 10**6, A6, B6, 40)], malformed=3,
              extra=["warning: 2 IPv6 packets were cut at 0 bytes, before the addresses end, and could not be counted: "
                     "a tee rule needs 20 bytes for IPv4 and 40 for IPv6"])
    # C3: a link header cut short: Ethernet at 13, a tag's at 3 of 4 bytes, cooked at 15, and nothing.
    w.fixture("link/link-header-cut", pcap(steps([eth(V4)[:13], eth(V4, tags=(0x8100,))[:17], b"", eth(V4)])),
              [(3 * 10**6, A, B, 100)], malformed=3)
    w.fixture("link/link-header-cut-sll", pcap(steps([sll(V4)[:15], sll(V4, tags=(0x8100,))[:19], sll(V4)]), 113),
              [(2 * 10**6, A, B, 100)], malformed=2)
    w.fixture("link/link-header-cut-sll2", pcap(steps([sll2(V4)[:19], sll2(V4)]), 276), [(10**6, A, B, 100)], malformed=1)
    # C3: `tee 16` leaves 16 bytes of every packet: none can be counted, and the warning says what was seen.
    w.fixture("link/tee-16", pcap([Frame(i * 10**6, eth(ip), cut=14 + 16) for i, ip in enumerate([V4, V4, V6, V6])]),
              args="--tee-bytes 16", malformed=4,
              extra=["warning: 2 IPv4 and 2 IPv6 packets were cut at 16 bytes, before the addresses end, and could not be "
                     "counted: a tee rule needs 20 bytes for IPv4 and 40 for IPv6"])


def links(w):
    # C4: 802.1Q, 802.1ad and 0x9100, each alone and all nested twice; then the two that are rarer. Tags are no bytes of
    # the packet: 4 × 100 and 3 × 100.
    packets = numbered(4)
    for name, tags in (("vlan-tags", TAGS[:3]), ("vlan-tags-rare", TAGS[3:])):
        frames = [eth(ip, tags=(tag,)) for ip, tag in zip(packets, tags)] + [eth(packets[3], tags=tags * 2)]
        w.fixture("link/" + name, pcap(steps(frames)), counted(len(frames)))
    # C4: nested without limit: forty tags.
    w.fixture("link/vlan-tags-deep", pcap(steps([eth(V4, tags=(0x8100,) * 40)])), counted(1))
    # C4: cooked captures, plain and tagged, IPv4 and IPv6, and ARP.
    for name, make, number in (("sll", sll, 113), ("sll2", sll2, 276)):
        frames = [make(V4), make(ip4(A, B, 100, ident=1), tags=(0x88A8, 0x8100)), make(V6), make(bytes(28), kind=ARP)]
        w.fixture("link/" + name, pcap(steps(frames), number), counted(2) + counted(1, A6, B6, start=2), not_ip=1)
    # C4, NULL: the family in either byte order: 2 for IPv4, four numbers for IPv6. 7 is neither; three bytes are too few.
    packets = numbered(2)
    sixes = [ip6(A6, B6, 100 + i) for i in range(8)]
    frames = [family(packets[0], 2, "<"), family(packets[1], 2, ">")]
    for i, number in enumerate((10, 24, 28, 30)):
        frames += [family(sixes[2 * i], number, "<"), family(sixes[2 * i + 1], number, ">")]
    frames += [family(V4, 7, "<"), family(V4, 2, "<")[:3]]
    six = [((2 + i) * 10**6, A6, B6, 100 + i) for i in range(8)]
    w.fixture("link/null", pcap(steps(frames), 0), counted(2) + six, not_ip=1, malformed=1)
    # C4, LOOP: network byte order alone.
    frames = [family(V4, 2), family(V6, 24), family(V6, 10), family(V4, 2, "<"), b"\0\0"]
    w.fixture("link/loop", pcap(steps(frames), 108), counted(1) + counted(2, A6, B6, start=1), args="--tee none",
              not_ip=1, malformed=1)
    # C4, raw IP under its three numbers: the version decides; 5 is neither, an empty frame is none.
    for number in (101, 12, 14):
        w.fixture("link/raw-%d" % number, pcap(steps([V4, V6, b"\x55" + V4[1:], b""]), number),
                  counted(1) + counted(1, A6, B6, start=1), malformed=2)
    # C4: raw links that say which version they carry; the other is malformed.
    w.fixture("link/raw-ipv4", pcap(steps([V4, V6]), 228), counted(1), malformed=1)
    w.fixture("link/raw-ipv6", pcap(steps([V6, V4]), 229), counted(1, A6, B6), malformed=1)
    # C4: the upper six bits of the link type speak of checksums behind the frame.
    w.fixture("link/type-upper-bits", pcap(steps([eth(V4)]), 0x2400_0001), counted(1))
    # C4: link types that are not read: every frame, even an empty one.
    w.fixture("link/unsupported", pcap(steps([eth(V4), V4, b""]), 105), unsupported_link=3)
    # C4: interfaces of one pcapng file have their own link types; 5 is one that is not read.
    data = shb() + idb(1) + idb(101) + idb(5)
    data += epb(0, eth(V4)) + epb(10**6, V6, interface=1) + epb(2 * 10**6, V4, interface=2)
    w.fixture("link/pcapng-interfaces", data,
              [("1970-01-01T00:00:00Z", A, B, 100), ("1970-01-01T00:00:01Z", A6, B6, 100)], kind="pcapng", unsupported_link=1)


def outermost(w):
    # C4: what is no IP right behind the link header: ARP, LLC (a length), MPLS, PPPoE, LLDP. All hold IP further in.
    frames = [eth(ip, kind=kind) for ip, kind in ((bytes(28), ARP), (b"\xaa\xaa\x03\0\0\0\x08\0" + V4, 108), (b"\0\x01\x11\x40" + V4, 0x8847),
                                                  (b"\x11\0\0\x01\0\x66\0\x21" + V4, 0x8864), (bytes(40), 0x88CC))]
    w.fixture("link/not-ip", pcap(steps(frames + [eth(V4)])), counted(1, start=5), not_ip=5)
    # C4: no tunnels. IP in IP 120, IPv6 in IPv4 120, GRE 124, IPv4 in IPv6 140: the outer addresses and lengths.
    frames = [eth(ip4(A, B, 120, protocol=4, body=ip4(C, X, 100))), eth(ip4(A, B, 120, protocol=41, body=V6)),
              eth(ip4(A, B, 124, protocol=47, body=b"\0\0\x08\0" + ip4(C, X, 100))),
              eth(ip6(A6, B6, 140, following=4, body=ip4(C, X, 100)))]
    w.fixture("link/no-tunnels", pcap(steps(frames)),
              [(0, A, B, 120), (10**6, A, B, 120), (2 * 10**6, A, B, 124), (3 * 10**6, A6, B6, 140)])
    # C4: an ICMP error quotes the header of the packet it is about; that is payload. 56.
    body = b"\x03\x01" + bytes(6) + ip4(B, X, 1500)[:28]
    w.fixture("link/quoted-header", pcap(steps([eth(ip4(A, B, 56, protocol=1, body=body))])), [(0, A, B, 56)])
