#!/usr/bin/env python3
"""Hand-computed cases for count.py: python3 -m unittest test_count."""
import gzip
import ipaddress
import os
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import count

NS = 10**9
A, B, X, GROUP = "10.0.0.1", "10.0.0.2", "8.8.8.8", "224.0.0.251"
OWN = "e2:53:1a:4b:b7:7c"


def ip4(src, dst, total=60, ident=1, stored=None):
    header = struct.pack(">BBHHHBBH", 0x45, 0, total, ident, 0, 64, 17, 0)
    header += ipaddress.ip_address(src).packed + ipaddress.ip_address(dst).packed
    return header + bytes(max(0, (total if stored is None else stored) - 20))


def ip6(src, dst, payload, following=17):
    return struct.pack(">IHBB", 6 << 28, payload, following, 64) + ipaddress.ip_address(src).packed + ipaddress.ip_address(dst).packed + bytes(payload)


def eth(ip, dst="02:00:00:00:00:01", src="02:00:00:00:00:02", tags=(), ethertype=None):
    mac = lambda m: bytes.fromhex(m.replace(":", ""))
    if ethertype is None:
        ethertype = 0x86dd if ip[0] >> 4 == 6 else 0x0800
    return mac(dst) + mac(src) + b"".join(struct.pack(">HH", t, 5) for t in tags) + struct.pack(">H", ethertype) + ip


def pcap(frames, link=1, version=(2, 4), e="<", magic=0xa1b23c4d, start=100 * NS):
    """frames: (time in ns after start, data) or (time, data, original)."""
    out = struct.pack(e + "IHHiIII", magic, *version, 0, 0, 262144, link)
    for t, data, *original in frames:
        sec, ns = divmod(start + t, NS)
        out += struct.pack(e + "IIII", sec, ns if magic == 0xa1b23c4d else ns // 1000, len(data), original[0] if original else len(data)) + data
    return out


def block(kind, body, e="<"):
    body += bytes(-len(body) % 4)
    n = struct.pack(e + "I", len(body) + 12)
    return struct.pack(e + "I", kind) + n + body + n


def shb(e="<", version=1):
    return block(0x0a0d0d0a, struct.pack(e + "IHHq", 0x1a2b3c4d, version, 0, -1), e)


def idb(link=1, snaplen=0, options=b"", e="<"):
    return block(1, struct.pack(e + "HHI", link, 0, snaplen) + options, e)


def epb(stamp, data, number=0, original=None, e="<"):
    return block(6, struct.pack(e + "IIIII", number, stamp >> 32, stamp & 0xffffffff, len(data), original or len(data)) + data, e)


class Test(unittest.TestCase):
    def count(self, *files, options=(), code=0):
        """Rows by name, as lists of texts; the outcomes are kept aside."""
        here = os.getcwd()
        with tempfile.TemporaryDirectory() as d:
            os.chdir(d)
            try:
                names = []
                for i, data in enumerate(files):
                    names.append("%d.pcap" % i)
                    with open(names[-1], "wb") as f:
                        f.write(data)
                got, out, self.outcomes, self.causes = count.run([*options, *names])
            finally:
                os.chdir(here)
        self.assertEqual(got, code, self.causes)
        self.text = out.decode()
        return {line.split(",")[0]: line.split(",")[1:] for line in self.text.split("\r\n")[1:-1]}

    def outcome(self, **want):
        self.assertEqual({k: v for k, v in self.outcomes.items() if v}, want)

    def test_pairing(self):
        p = eth(ip4(A, B))
        for offsets, counted in (((0, 2 * NS), 1), ((0, 2 * NS + 1), 2), ((0, 1, 2), 2), ((0, 1, 2, 3), 2), ((0, NS, 3 * NS), 2),
                                 ((0, 3 * NS, 4 * NS), 2), ((2 * NS, 0), 1), ((2 * NS + 1, 0), 2)):
            self.count(pcap([(t, p) for t in offsets]))
            self.assertEqual(self.outcomes["counted"], counted, offsets)

    def test_forgotten_by_a_later_packet_of_any_kind(self):
        p, arp = eth(ip4(A, B)), eth(bytes(28), ethertype=0x806)
        self.count(pcap([(0, p), (2 * NS, arp), (1, p)]))
        self.outcome(counted=1, copy=1, not_ip=1)
        self.count(pcap([(0, p), (2 * NS + 1, arp), (1, p)]))
        self.outcome(counted=2, not_ip=1)
        # refused by --until: no frame
        self.count(pcap([(0, p), (2 * NS + 1, arp), (1, p)]), options=["--until", "1970-01-01T00:01:42Z"])
        self.outcome(counted=1, copy=1)

    def test_last_unpaired_is_remembered(self):
        p = eth(ip4(A, B))
        # 5 s, then 0 s (not within the window: new, replaces), then 5 s again: new
        self.count(pcap([(5 * NS, p), (0, p), (5 * NS, p)]))
        self.outcome(counted=3)

    def test_group_anchor_does_not_slide(self):
        p = eth(ip4(A, GROUP))
        rows = self.count(pcap([(t * NS // 10, p) for t in (0, 10, 20, 21, 30, 41, 42)]))
        self.outcome(counted=3, copy=4)  # 0; 10, 20; 21; 30, 41; 42
        self.assertEqual(rows["multicast"], ["0", "180", "0", "3", "1970-01-01T00:01:40Z", "1970-01-01T00:01:44.2Z"])

    def test_groups_and_unicast_apart(self):
        ip = ip4(A, B)
        self.count(pcap([(0, eth(ip)), (1, eth(ip, dst="ff:ff:ff:ff:ff:ff")), (2, eth(ip)), (3, eth(ip, dst="ff:ff:ff:ff:ff:ff"))]))
        self.outcome(counted=2, copy=2)

    def test_tee_one_and_none(self):
        frames = [(0, eth(ip4(A, B))), (1, eth(ip4(A, B))), (2, eth(ip4(A, GROUP))), (3, eth(ip4(A, GROUP)))]
        self.count(pcap(frames), options=["--tee", "one"])
        self.outcome(counted=3, copy=1)
        self.count(pcap(frames), options=["--tee", "none"])
        self.outcome(counted=4)

    def test_own_mac(self):
        p = eth(ip4(A, B))
        own = eth(ip4(A, B), src=OWN)
        group = eth(ip4(A, GROUP), src=OWN)
        self.count(pcap([(0, own), (1, own), (2, p), (3, own), (4, p), (5, group), (6, group)]), options=["--observer-mac", OWN])
        self.outcome(counted=5, copy=2)

    def test_key_length(self):
        whole = ip4(A, GROUP, total=300)
        self.count(pcap([(0, eth(whole)), (1, eth(whole[:128])), (2, eth(whole, tags=(0x8100,))), (3, eth(whole[:124], tags=(0x8100,)))]))
        self.outcome(counted=2, copy=2)  # a tag makes the key 4 bytes shorter
        self.count(pcap([(0, eth(ip4(A, B, 30))), (1, eth(ip4(A, B, 30) + b"padding"))]))
        self.outcome(counted=1, copy=1)
        self.count(pcap([(0, eth(ip4(A, B, 0, stored=30))), (1, eth(ip4(A, B, 0, stored=31)))]))
        self.outcome(counted=2)  # a length field of 0 does not cut

    def test_zero_lengths(self):
        p4, p6 = ip4(A, B, total=0, stored=20), ip6("fd00::1", "fd00::2", 0)
        for ip, rest, want in ((p4, 20, 20), (p4, 19, None), (p4, 1 << 20, 1 << 20), (p4, (1 << 20) + 1, None), (p6, 40, 40), (p6, 0, 40),
                               (p6, 65575, 40), (p6, 65576, 65576), (p6, (1 << 20) + 1, None), (ip6("fd00::1", "fd00::2", 0, 59), 70000, 40)):
            rows = self.count(pcap([(0, eth(ip, tags=(0x8100, 0x88a8)), rest + 22)]))
            self.assertEqual([int(r[0]) for r in rows.values() if r[0] != "0"], [want] if want else [], (rest, want))

    def test_malformed(self):
        good = ip4(A, B)
        frames = [eth(good[:19]), eth(good[:20]), eth(b"\x44" + good[1:]), eth(b"\x46" + good[1:2] + b"\0\x17" + good[4:]), eth(good, ethertype=0x86dd),
                  eth(good)[:13], eth(good, tags=(0x9300,))[:17], eth(b"", ethertype=0x800)]
        self.count(pcap([(i, f) for i, f in enumerate(frames)]))
        self.outcome(counted=1, malformed=7)
        self.count(pcap([(0, b""), (1, b"\x55" + good), (2, good), (3, ip6("fd00::1", "::1", 9))], link=101))
        self.outcome(counted=2, malformed=2)

    def test_links(self):
        good = ip4(A, B)
        two, ten = b"\0\0\0\2", b"\0\0\0\x0a"
        for link, frames, want in ((0, (two, two[::-1], ten, b"\0\0\0\7", b"\0\0"), dict(counted=2, malformed=2, not_ip=1)),
                                   (108, (two, two[::-1]), dict(counted=1, not_ip=1)),
                                   (0x34000000 | 108, (two,), dict(counted=1)), (105, (two,), dict(unsupported_link=1))):
            self.count(pcap([(i, head + good if len(head) == 4 else head) for i, head in enumerate(frames)], link=link), options=["--tee", "none"])
            self.outcome(**want)
        sll = struct.pack(">HHH8sH", 1, 1, 6, bytes(8), 0x800) + good
        self.assertIn("multicast", self.count(pcap([(0, sll)], link=113)))
        sll2 = struct.pack(">HHIHBB8s", 0x8100, 0, 1, 1, 4, 6, bytes(8)) + b"\0\5\x08\0" + good
        self.assertNotIn("multicast", self.count(pcap([(0, sll2)], link=276)))
        self.outcome(counted=1)

    def test_scope_and_limits(self):
        frames = [(0, eth(ip4(A, B))), (1, eth(ip4(X, A))), (2, eth(ip4(X, "9.9.9.9"))), (3, eth(ip4("10.0.0.3", "10.0.0.4")))]
        rows = self.count(pcap(frames), options=["--max-addresses", "2"])
        self.outcome(counted=3, out_of_scope=1)
        self.assertEqual([rows[n][:4] for n in (A, B, "external", "other")],
                         [["60", "60", "1", "1"], ["0", "60", "0", "1"], ["60", "0", "1", "0"], ["60", "60", "1", "1"]])
        self.count(pcap(frames), options=["--max-pairs", "1", "--by", "pair"])
        self.assertEqual([l.rsplit(",", 2)[0] for l in self.text.split("\r\n")[1:-1]], ["other,other,120,2", "10.0.0.1,10.0.0.2,60,1"])
        self.count(pcap(frames), options=["--both-ends"])
        self.outcome(counted=2, out_of_scope=2)
        self.count(pcap(frames), options=["--top", "1"])
        self.assertEqual([l.split(",")[:3] for l in self.text.split("\r\n")[1:-1]],
                         [[A, "60", "60"], ["external", "60", "0"], ["rest", "60", "120"]])
        self.count(pcap([(0, eth(ip4(A, B), dst="ff:ff:ff:ff:ff:ff"))]), options=["--both-ends"])
        self.outcome(out_of_scope=1)
        self.assertEqual(self.count(pcap(frames), options=["--scope", "10.0.0.1/8"], code=2), {})

    def test_addresses(self):
        for text in ("::", "::1", "::ffff:10.0.0.1", "1:0:0:2::3", "1:0:2:3:4:5:6:7", "::1:0:0:a00:1", "fd00::", "1::2:0:0:3"):
            want = str(ipaddress.ip_address(text)) if "." not in text else text
            self.assertEqual(count.end_text((6, int(ipaddress.ip_address(text)))), want)

    def test_times(self):
        for ns, want in ((0, "1970-01-01T00:00:00Z"), (-1, "1969-12-31T23:59:59.999999999Z"), (951782400 * NS + 10**8, "2000-02-29T00:00:00.1Z"),
                         (-10**40, "0000-01-01T00:00:00Z"), (10**40, "9999-12-31T23:59:59.999999999Z")):
            self.assertEqual(count.time_text(ns), want)
        self.assertEqual(count.instant("1970-01-01T01:00:00.5+01:00"), NS // 2)
        self.assertEqual(count.time_text(int(count.instant("0000-02-29T23:00:00-00:30"))), "0000-02-29T23:30:00Z")

    def test_pcap_variants(self):
        p = eth(ip4(A, B, 300, stored=100))
        swapped = struct.pack(">IHHiIII", 0xa1b2c3d4, 2, 3, 0, 0, 0, 1) + struct.pack(">IIII", 1, 2000001, 300, len(p)) + p
        rows = self.count(swapped)
        self.assertEqual(rows[A][4], "1970-01-01T00:00:03.000001Z")
        for version, code in (((2, 4), 1), ((2, 2), 0), ((543, 0), 0), ((543, 1), 2), ((1, 4), 2)):
            self.count(swapped[:4] + struct.pack(">HH", *version) + swapped[8:], code=code)
        modified = struct.pack("<IHHiIII", 0xa1b2cd34, 2, 4, 0, 0, 0, 1) + struct.pack("<IIII", 1, 0, len(p), 300) + bytes(8) + p
        self.count(modified)
        self.outcome(counted=1)
        self.assertEqual(self.count(swapped[:24]), {})
        self.count(swapped[:23], code=2)
        self.count(pcap([(0, p)]) + b"\0", code=1)
        self.outcome(counted=1)

    def test_pcapng(self):
        p = eth(ip4(A, B))
        option = lambda code, value: struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)
        lying = struct.pack("<HH", 2, 99)
        for options, stamp, want in ((b"", 1500000, "1970-01-01T00:00:01.5Z"), (option(9, b"\x81"), 3, "1970-01-01T00:00:01.5Z"),
                                     (option(9, b"\x0a"), 25, "1970-01-01T00:00:00.000000002Z"), (option(9, b"\0"), 2**64 - 1, "9999-12-31T23:59:59.999999999Z"),
                                     (option(14, struct.pack("<q", -1)) + option(9, b"\3"), 1, "1969-12-31T23:59:59.001Z"),
                                     (option(9, b"\1\2"), 1, "1970-01-01T00:00:00.000001Z"), (lying + option(9, b"\0"), 1, "1970-01-01T00:00:00.000001Z")):
            self.assertEqual(self.count(shb() + idb(options=options) + epb(stamp, p))[A][4], want)
        simple = block(3, struct.pack("<I", 5000) + p)
        self.count(shb() + idb(snaplen=34) + simple)
        self.outcome(counted=1)
        self.count(shb() + idb(snaplen=33) + simple)
        self.outcome(malformed=1)
        self.count(shb() + idb() + epb(1, p) + shb(">") + epb(1, p, e=">"), code=1)  # interfaces end with their section
        self.outcome(counted=1)
        good = shb() + idb() + epb(1, p)
        self.count(good[:-1] + b"\1", code=1)
        self.outcome()
        self.count(good + shb(version=2), code=1)
        self.count(shb(version=2), code=2)
        self.count(good + block(6, bytes(16)), code=1)

    def test_compressed(self):
        plain = pcap([(0, eth(ip4(A, B)))])
        z = lambda data: subprocess.run(["zstd", "-qc"], input=data, stdout=subprocess.PIPE).stdout
        skip = struct.pack("<II", 0x184d2a53, 3) + b"abc"
        g = gzip.compress(plain, mtime=0)
        for data, code in ((g, 0), (gzip.compress(plain[:30]) + gzip.compress(plain[30:]) + bytes(9), 0), (g + b"\0x", 1), (g[:-1], 1), (g[:-8] + bytes(8), 1),
                           (z(plain), 0), (skip + z(plain[:30]) + skip + z(plain[30:]), 0), (z(plain) + b"\0", 1), (z(plain)[:-1] + b"!", 1)):
            self.count(data, code=code)
            self.outcome(counted=1)
        self.count(gzip.compress(g), code=2)
        self.count(gzip.compress(plain[:23]), code=2)

    def test_several_files(self):
        p, q = eth(ip4(A, B)), eth(ip4(B, A))
        one, two = pcap([(0, p), (5 * NS, q)]), pcap([(NS, p), (6 * NS, q)])
        self.count(two, one)
        self.outcome(counted=2, copy=2)
        # within a file its own order: the second file's early packet waits behind its late one
        late = pcap([(9 * NS, q), (0, p)])
        self.count(one, late)
        self.outcome(counted=4)
        self.count(one, b"", code=1)
        self.outcome(counted=1 + 1)
        self.count(b"", b"x", code=2)
        self.assertEqual(self.text, "")


if __name__ == "__main__":
    unittest.main()
