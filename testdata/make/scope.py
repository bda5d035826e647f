"""scope/: whose traffic counts, how ends are named, in which order they print (C6, C7, order and sums)."""
from .files import NS, nano, pcap
from .frames import A, A6, B, B6, BROADCAST, C, X, X6, eth, ip4, ip6
from .link import steps

MS = 10**6
ADDRESS = "addr,sent_bytes,received_bytes,sent_packets,received_packets,first_seen,last_seen"
PAIR = "src,dst,bytes,packets,first_seen,last_seen"
Z = "2026-01-01T00:00:00Z"


def ip(src, dst, size, **more):
    return (ip6 if ":" in src else ip4)(src, dst, size, **more)


def flow(*packets):
    """A capture of whole Ethernet frames a millisecond apart: (source, destination, size)."""
    return pcap(steps([eth(ip(*packet)) for packet in packets]))


def at(i, src, dst, size):
    return i * MS, src, dst, size


def write(w):
    ranges(w)
    ends(w)
    names(w)
    limits(w)
    orders(w)


def ranges(w):
    # C6: the first and last address of each default range counts, their neighbours do not. 14 in, 13 out; sizes 100,
    # 101, ... so that each row tells itself.
    inside = ["10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255", "169.254.0.0",
              "169.254.255.255", "100.64.0.0", "100.127.255.255"]
    outside = ["9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0",
               "169.253.255.255", "169.255.0.0", "100.63.255.255", "100.128.0.0"]
    inside6 = ["fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
    outside6 = ["fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe00::", "fec0::"]
    sends = [(src, X if "." in src else X6) for src in inside + inside6 + outside + outside6]
    w.fixture("scope/default-ranges", flow(*[(src, dst, 100 + i) for i, (src, dst) in enumerate(sends)]),
              [at(i, src, "external", 100 + i) for i, (src, _) in enumerate(sends[:14])], out_of_scope=13)
    # C6: --scope replaces the list: A is no client now, X is.
    packets = [(A, X, 100), (X, A, 200), (A, B, 300)]
    w.fixture("scope/replaced", flow(*packets), [at(0, "external", X, 100), at(1, X, "external", 200)],
              args="--scope 203.0.113.0/24", out_of_scope=1)
    # C6: an address alone is itself; --scope repeats.
    packets = [(A, B, 100), (A6, B6, 200), (B, C, 300)]
    w.fixture("scope/single-addresses", flow(*packets), [at(0, A, "external", 100), at(1, A6, "external", 200)],
              args="--scope 10.0.0.1 --scope fd00::1", out_of_scope=1)
    # C6, C16: host bits are an error that names the network meant; nothing is printed.
    for name, given, meant in (("ipv4", "10.0.0.1/8", "10.0.0.0/8"), ("ipv6", "fd00::1/8", "fd00::/8")):
        w.fixture("scope/host-bits-" + name, flow((A, B, 100)), args="--scope " + given, status=2,
                  stderr="ztmon: invalid value '%s' for '--scope <CIDR>': has host bits set; the network meant is %s"
                         " (see --help)" % (given, meant))


def ends(w):
    packets = [(A, B, 100), (A, X, 200), (X, A, 400), (X, "198.51.100.1", 800), (A, "224.0.0.251", 1000), (X, "224.0.0.251", 1200)]
    everything = [at(0, A, B, 100), at(1, A, "external", 200), at(2, "external", A, 400), at(4, A, "multicast", 1000)]
    # C6, C7: one client is enough, and the other end is `external`; without any it is out of scope, group or not.
    w.fixture("scope/external", flow(*packets), everything, out_of_scope=2)
    w.fixture("scope/external-by-pair", flow(*packets), everything, args="--by pair", out_of_scope=2)
    # C6: --both-ends wants two clients, and a group is none.
    w.fixture("scope/both-ends", flow(*packets), everything[:1], args="--both-ends", out_of_scope=5)
    # C7: a group is never a client, even in a scope that holds it: from A 1,000, from X 1,200.
    packets = [(A, "224.0.0.251", 1000), (X, "255.255.255.255", 1200), (A6, "ff02::1", 140)]
    w.fixture("scope/group-is-no-client", flow(*packets),
              [at(0, A, "multicast", 1000), at(1, X, "multicast", 1200), at(2, A6, "multicast", 140)],
              args="--scope 0.0.0.0/0 --scope ::/0")
    # C7: to a client's address behind a group MAC: the group has it. 60.
    w.fixture("scope/group-mac", pcap(steps([eth(ip4(A, B, 60), dst=BROADCAST)])), [at(0, A, "multicast", 60)])


def names(w):
    # C6: RFC 5952: the longest run of zeros, the first of equals, never a single group; lower case. All send 100 to B6.
    spelled = ["fd00::", "fd00:0:0:1::", "fd00:0:0:1::2", "fd00::1:0:0:2", "fd00:1:2:0:4:5:6:7", "fd00:0:1:0:1:0:1:0",
               "fd00:a:b:c:d:e:f:a0b", "fd00:1::"]
    written = ["fd00:0000::", "FD00:0:0:1:0:0:0:0", "fd00:0:0:1:0:0:0:2", "fd00:0:0:0:1:0:0:2", "fd00:1:2::4:5:6:7",
               "fd00:0:1:0:1:0:1:0", "fd00:000A:b:c:d:e:f:0A0B", "fd00:1:0:0:0:0:0:0"]
    w.fixture("scope/ipv6-text", flow(*[(src, B6, 100) for src in written]), [at(i, src, B6, 100) for i, src in enumerate(spelled)])
    # C6: an IPv4-mapped address is plain IPv6 and none of 10/8, but prints in its mixed form. Compatible ones do not.
    packets = [("::ffff:10.0.0.1", X6, 100), ("::a00:1", X6, 200)]
    w.fixture("scope/ipv4-mapped", flow(*packets), args="--scope ::ffff:0:0/96 --scope ::10.0.0.1 --sort addr",
              rows=[ADDRESS, "::a00:1,200,0,1,0,2026-01-01T00:00:00.001Z,2026-01-01T00:00:00.001Z",
                    "::ffff:10.0.0.1,100,0,1,0,%s,%s" % (Z, Z),
                    "external,0,300,0,2,%s,2026-01-01T00:00:00.001Z" % Z],
              counted=[at(0, "::ffff:10.0.0.1", "external", 100), at(1, "::a00:1", "external", 200)])
    w.fixture("scope/ipv4-mapped-is-not-ipv4", flow(*packets), out_of_scope=2)


def limits(w):
    # C7: two addresses are told apart, those that come first. The third and the fourth are `other`; external stays.
    packets = [(A, B, 100), (C, A, 200), (C, "10.0.0.4", 400), (B, X, 800)]
    ends = [at(0, A, B, 100), at(1, "other", A, 200), at(2, "other", "other", 400), at(3, B, "external", 800)]
    w.fixture("scope/max-addresses", flow(*packets), ends, args="--max-addresses 2")
    w.fixture("scope/max-addresses-by-pair", flow(*packets), ends, args="--max-addresses 2 --by pair")
    # C7: only counted packets name anyone: the copy of A's packet and what is out of scope take no place. Then C is second.
    packets = [(X, X, 50), (A, X, 100), (A, X, 100), (C, X, 200), (B, X, 400)]
    w.fixture("scope/first-come", flow(*packets), [at(1, A, "external", 100), at(3, C, "external", 200), at(4, "other", "external", 400)],
              args="--max-addresses 2", copies=1, out_of_scope=1)
    # The pair beyond the limit is `other,other` in the matrix, and counts for both its ends among the addresses. One
    # that is within stays within: 100 + 1,600.
    packets = [(A, B, 100), (B, A, 200), (A, C, 400), (C, A, 800), (A, B, 1600)]
    counted = [at(i, *packet) for i, packet in enumerate(packets)]
    w.fixture("scope/max-pairs", flow(*packets), counted, args="--max-pairs 2")
    w.fixture("scope/max-pairs-by-pair", flow(*packets), counted, args="--max-pairs 2 --by pair",
              rows=[PAIR, "10.0.0.1,10.0.0.2,1700,2,%s,2026-01-01T00:00:00.004Z" % Z,
                    "other,other,1200,2,2026-01-01T00:00:00.002Z,2026-01-01T00:00:00.003Z",
                    "10.0.0.2,10.0.0.1,200,1,2026-01-01T00:00:00.001Z,2026-01-01T00:00:00.001Z"])


def orders(w):
    # A sends 100 to B, B sends 300 to A, A6 sends 250 to B6, C sends 400 to the world, all at once.
    packets = [(A, B, 100), (B, A, 300), (A6, B6, 250), (C, X, 400)]
    data = nano([f for i, p in enumerate(packets) for f in steps([eth(ip(*p))])])
    counted = [(0, A, B, 100), (0, B, A, 300), (0, A6, B6, 250), (0, C, "external", 400)]
    times = "%s,%s" % (Z, Z)
    row = {A: "10.0.0.1,100,300,1,1,", B: "10.0.0.2,300,100,1,1,", C: "10.0.0.3,400,0,1,0,", A6: "fd00::1,250,0,1,0,",
           B6: "fd00::2,0,250,0,1,", "external": "external,0,400,0,1,"}
    listed = lambda *ends: [ADDRESS] + [row[end] + times for end in ends]
    # Totals: A, B and C 400 each, so by address; A6 and B6 250 each. The pseudo-ends follow whatever they moved.
    w.fixture("scope/sort-total", data, counted, rows=listed(A, B, C, A6, B6, "external"))
    w.fixture("scope/sort-sent", data, counted, args="--sort sent", rows=listed(C, B, A6, A, B6, "external"))
    w.fixture("scope/sort-received", data, counted, args="--sort received", rows=listed(A, B6, B, C, A6, "external"))
    w.fixture("scope/sort-addr", data, counted, args="--sort addr", rows=listed(A, B, C, A6, B6, "external"))
    # --top 2 keeps A and B; C, A6 and B6 are the rest: 400 + 250 sent, 250 received.
    w.fixture("scope/top", data, counted, args="--top 2",
              rows=listed(A, B, "external") + ["rest,650,250,2,1," + times])
    pairs = ["10.0.0.3,external,400,1,", "10.0.0.2,10.0.0.1,300,1,", "fd00::1,fd00::2,250,1,", "10.0.0.1,10.0.0.2,100,1,"]
    w.fixture("scope/by-pair", data, counted, args="--by pair", rows=[PAIR] + [pair + times for pair in pairs])
    w.fixture("scope/by-pair-sort-addr", data, counted, args="--by pair --sort addr",
              rows=[PAIR] + [pairs[i] + times for i in (3, 1, 0, 2)])
    w.fixture("scope/by-pair-top", data, counted, args="--by pair --top 1",
              rows=[PAIR, pairs[0] + times, "rest,rest,650,3," + times])
