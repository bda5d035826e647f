"""tee/: which packets are copies of which (C8 to C11)."""
from .files import NS, Frame, nano, pcap
from .frames import (A, A6, ARP, B, B6, BROADCAST, C, MAC_A, MAC_B, MAC_C, MAC_O, X, eth, ip4, ip6, sll, sll2)

MS = 10**6
P, Q = ip4(A, B, 100, ident=1), ip4(A, B, 200, ident=2)
GROUP = ip4(A, "10.0.0.255", 100)


def at(times, data):
    return [Frame(t, data) for t in times]


def write(w):
    unicast(w)
    keys(w)
    groups(w)
    own(w)
    one_and_none(w)


def unicast(w):
    # C8: every packet comes twice, in any interleaving, and counts once: 100 + 200 + 300.
    third = eth(ip4(B, A, 300))
    frames = [Frame(0, eth(P)), Frame(1, eth(Q)), Frame(2, eth(P)), Frame(3, third), Frame(4, eth(Q)), Frame(5, third)]
    w.fixture("tee/two-sided", nano(frames), [(0, A, B, 100), (1, A, B, 200), (3, B, A, 300)], copies=3,
              extra=["3 pairs, 0 singles; estimated share of missed packets: 0 %"])
    # C8: both are used up: the third is new again, the fourth its copy, the fifth new.
    w.fixture("tee/third-is-new", nano(at([0, 1, 2, 3, 4], eth(P))), [(0, A, B, 100), (2, A, B, 100), (4, A, B, 100)], copies=2)
    # C8: the limit of the window is inside, 2 s, and a nanosecond more is not.
    w.fixture("tee/window-limit", nano(at([0, 2 * NS], eth(P))), [(0, A, B, 100)], copies=1)
    w.fixture("tee/window-passed", nano(at([0, 2 * NS + 1], eth(P))), [(0, A, B, 100), (2 * NS + 1, A, B, 100)])
    # C8: both ways: the one read second was captured 2 s earlier, and then 2 s and 1 ns.
    w.fixture("tee/window-backwards", nano(at([2 * NS, 0], eth(P))), [(2 * NS, A, B, 100)], copies=1)
    w.fixture("tee/window-backwards-passed", nano(at([2 * NS + 1, 0], eth(P))), [(2 * NS + 1, A, B, 100), (0, A, B, 100)])
    # C8: a window of 10 ms.
    frames = at([0, 10 * MS], eth(P)) + at([20 * MS, 30 * MS + 1], eth(Q))
    w.fixture("tee/pair-window", nano(frames), [(0, A, B, 100), (20 * MS, A, B, 200), (30 * MS + 1, A, B, 200)],
              args="--pair-window 10ms", copies=1)
    # C8: forgotten once the latest time is beyond the window, whatever frame had it: ARP at 2 s keeps P, at 2 s and
    # 1 ns it takes P along, although P's copy is only 1 ns away.
    arp = eth(bytes(28), kind=ARP)
    w.fixture("tee/not-yet-forgotten", nano([Frame(0, eth(P)), Frame(2 * NS, arp), Frame(1, eth(P))]), [(0, A, B, 100)],
              copies=1, not_ip=1)
    w.fixture("tee/forgotten", nano([Frame(0, eth(P)), Frame(2 * NS + 1, arp), Frame(1, eth(P))]),
              [(0, A, B, 100), (1, A, B, 100)], not_ip=1)
    # C8: only the last one read is remembered: 5 s, then 0 s (too far, so new, and takes the place), then 5 s: new.
    w.fixture("tee/last-one-remembered", nano(at([5 * NS, 0, 5 * NS], eth(P))),
              [(5 * NS, A, B, 100), (0, A, B, 100), (5 * NS, A, B, 100)])
    # C8: copies are looked for in scope: what is out of it is out twice.
    w.fixture("tee/out-of-scope-twice", nano(at([0, 1], eth(ip4(X, "198.51.100.1", 100)))), out_of_scope=2)


def keys(w):
    # C8: another identification, another packet; another MAC (a bridge, a gateway) is the same one.
    frames = [Frame(0, eth(P)), Frame(1, eth(ip4(A, B, 100, ident=9))), Frame(2, eth(P, src=MAC_C, dst=MAC_O))]
    w.fixture("tee/key-is-ip-bytes", nano(frames), [(0, A, B, 100), (1, A, B, 100)], copies=1)
    # C8: Ethernet padding behind a packet of 30 is no part of it, zeros or not.
    small = eth(ip4(A, B, 30))
    frames = [Frame(0, small), Frame(1, small + bytes(16)), Frame(2, small + b"\xff" * 16), Frame(3, small)]
    w.fixture("tee/key-without-padding", nano(frames), [(0, A, B, 30), (2, A, B, 30)], copies=2)
    # C8: a length of 0 does not cut: a byte more is another packet. Lengths are the frames': 30 and 31.
    zero = ip4(A, B, 20, length=0) + bytes(10)
    w.fixture("tee/key-length-zero", nano([Frame(0, eth(zero)), Frame(1, eth(zero + b"\0"))]), [(0, A, B, 30), (1, A, B, 31)])
    # C8: what differs behind byte 128 is the same key; --tee-bytes 129 tells it apart.
    long = ip4(A, B, 140)
    frames = [Frame(0, eth(long)), Frame(1, eth(long[:128] + b"x" + long[129:]))]
    w.fixture("tee/key-128-bytes", nano(frames), [(0, A, B, 140)], copies=1)
    w.fixture("tee/key-129-bytes", nano(frames), [(0, A, B, 140), (1, A, B, 140)], args="--tee-bytes 129")
    # C8: tee 40: frames cut at 40 bytes of payload, and one that came whole.
    frames = [Frame(0, eth(long), cut=54), Frame(1, eth(long), cut=54), Frame(2, eth(Q), cut=54), Frame(3, eth(Q))]
    w.fixture("tee/key-40-bytes", nano(frames), [(0, A, B, 140), (2, A, B, 200)], args="--tee-bytes 40", copies=2)
    # C8: the rule's length counts a tag's 4 bytes: a broadcast of 300 received whole, and its copies cut at 128 behind
    # the MACs and EtherType: 124 of the packet behind one tag, 120 behind two. With the same tags they match.
    cast = ip4(A, "10.0.0.255", 300)
    frames = []
    for i, tags in enumerate([(), (0x8100,), (0x88A8, 0x8100)]):
        packet = eth(cast, dst=BROADCAST, tags=tags)
        frames += [Frame(3 * i, packet), Frame(3 * i + 1, packet, cut=14 + 128), Frame(3 * i + 2, packet, cut=14 + 128)]
    w.fixture("tee/key-less-tags", nano(frames), [(0, A, "multicast", 300), (3, A, "multicast", 300), (6, A, "multicast", 300)],
              copies=6)
    # C8: no captured byte beyond the header of 40 is needed, so two IPv6 packets alike in it are copies.
    w.fixture("tee/key-ipv6", nano([Frame(0, eth(ip6(A6, B6, 90)), cut=54), Frame(1, eth(ip6(A6, B6, 90)), cut=54)]),
              [(0, A6, B6, 90)], copies=1)


def groups(w):
    # C9: a broadcast comes from its sender and once from each of four receivers, and a sixth time to the observer.
    w.fixture("tee/broadcast", nano(at(range(6), eth(GROUP, dst=BROADCAST))), [(0, A, "multicast", 100)], copies=5)
    # C9: the anchor does not slide: 0 counts, 1 s and 2 s are its copies, 2 s + 1 ns counts, 4 s is its copy.
    w.fixture("tee/group-anchor", nano(at([0, NS, 2 * NS, 2 * NS + 1, 4 * NS], eth(GROUP, dst=BROADCAST))),
              [(0, A, "multicast", 100), (2 * NS + 1, A, "multicast", 100)], copies=3)
    # C9: what makes a group: 224/4, 255.255.255.255, ff00::/8, and the group bit of the MAC. Each three times.
    packets = [eth(ip4(A, "224.0.0.0", 100)), eth(ip4(A, "239.255.255.255", 200)), eth(ip4(A, "255.255.255.255", 300)),
               eth(ip6(A6, "ff02::fb", 400)), eth(ip4(A, B, 500), dst="01:00:5e:00:00:fb"), eth(ip4(A, B, 600), dst=BROADCAST)]
    frames = [f for i, p in enumerate(packets) for f in at([3 * i, 3 * i + 1, 3 * i + 2], p)]
    w.fixture("tee/group-kinds", nano(frames),
              [(3 * i, A6 if i == 3 else A, "multicast", 100 * (i + 1)) for i in range(6)], copies=12)
    # C9: neighbours of the group ranges are unicast: the third is new again.
    frames = at([0, 1, 2], eth(ip4(A, "223.255.255.255", 100))) + at([3, 4, 5], eth(ip4(A, "240.0.0.0", 200)))
    w.fixture("tee/group-neighbours", nano(frames), [(0, A, "external", 100), (2, A, "external", 100),
                                                    (3, A, "external", 200), (5, A, "external", 200)], copies=2)
    # C9: cooked captures say by their packet type: 1 and 2 are groups, 0, 3 and 4 are not. Three each.
    for name, make, number in (("sll", sll, 113), ("sll2", sll2, 276)):
        frames, counted, copies = [], [], 0
        for kind in range(5):
            frames += at([3 * kind, 3 * kind + 1, 3 * kind + 2], make(ip4(A, B, 100 + kind), packet_type=kind))
            group = kind in (1, 2)
            counted.append((3 * kind, A, "multicast" if group else B, 100 + kind))
            counted += [] if group else [(3 * kind + 2, A, B, 100 + kind)]
            copies += 2 if group else 1
        w.fixture("tee/group-" + name, nano(frames, number), counted, copies=copies)
    # C9: groups and unicast are remembered apart: the same bytes to B and to all, twice each.
    frames = [Frame(0, eth(P)), Frame(1, eth(P, dst=BROADCAST)), Frame(2, eth(P)), Frame(3, eth(P, dst=BROADCAST))]
    w.fixture("tee/groups-apart", nano(frames), [(0, A, B, 100), (1, A, "multicast", 100)], copies=2)


def own(w):
    # C10: the observer's own frames, from it and to it, are neither copies nor remembered: two identical ones count
    # twice, and between P and its copy they change nothing. Its broadcasts are as all others.
    mine, yours = eth(P, src=MAC_O), eth(P, dst=MAC_O)
    frames = [Frame(0, mine), Frame(1, mine), Frame(2, eth(P)), Frame(3, yours), Frame(4, eth(P)),
              Frame(5, eth(GROUP, src=MAC_O, dst=BROADCAST)), Frame(6, eth(GROUP, src=MAC_O, dst=BROADCAST))]
    counted = [(t, A, B, 100) for t in (0, 1, 2, 3)] + [(5, A, "multicast", 100)]
    w.fixture("tee/observer-mac", nano(frames), counted, args="--observer-mac " + MAC_O, copies=2)
    # C10: without a known MAC C8 applies to all: 0 and 1, 2 and 3 are pairs, 4 is single.
    w.fixture("tee/observer-unknown", nano(frames), [(t, A, B, 100) for t in (0, 2, 4)] + [(5, A, "multicast", 100)], copies=3)


def one_and_none(w):
    frames = at([0, 1], eth(P)) + at([2, 3, 4], eth(GROUP, dst=BROADCAST))
    # C11: a one-sided rule sends each unicast packet once, but every receiver of a broadcast sends its copy.
    w.fixture("tee/one", nano(frames), [(0, A, B, 100), (1, A, B, 100), (2, A, "multicast", 100)], args="--tee one", copies=2)
    # C11: no tee, no copies.
    w.fixture("tee/none", nano(frames), [(t, A, B, 100) for t in (0, 1)] + [(t, A, "multicast", 100) for t in (2, 3, 4)],
              args="--tee none")
