#!/usr/bin/env python3
"""python3 generate.py SEED OUTDIR: one deterministic random case for ztmon's counting rules.

Writes 1 to 3 capture files and args.json, the command line arguments (file names relative to OUTDIR).
"""
import ipaddress
import json
import os
import random
import struct
import subprocess
import sys
import zlib

NS = 10**9
OWN = bytes.fromhex("e2531a4bb77c")
MACS = [OWN] + [bytes.fromhex(m) for m in ("e2caf54f702e", "e220dc76bb75", "e22d58273810", "0242ac110002")]
GROUP_MACS = [b"\xff" * 6, bytes.fromhex("01005e0000fb"), bytes.fromhex("333300000001"), bytes.fromhex("e3531a4bb77c")]
TAGS = (0x8100, 0x8100, 0x88a8, 0x9100, 0x9200, 0x9300)
CLIENTS4 = ["10.147.20.11", "10.147.20.12", "10.147.20.13", "10.147.20.20", "100.64.5.11", "192.168.1.7", "172.16.0.1"]
EDGES4 = ["9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0", "172.15.255.255", "172.16.0.0", "172.31.255.255",
          "172.32.0.0", "192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0", "169.253.255.255", "169.254.0.0",
          "169.254.255.255", "169.255.0.0", "100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0", "0.0.0.0",
          "127.0.0.1", "223.255.255.255", "240.0.0.0", "255.255.255.254"]
OUTSIDE4 = ["203.0.113.12", "198.51.100.1", "8.8.8.8"]
GROUPS4 = ["224.0.0.0", "224.0.0.251", "239.255.255.255", "255.255.255.255"]
CLIENTS6 = ["fd46:cac:ee2d:a7:e199:936d:f562:9e82", "fc6b:c0b:f6d:f562:9e82::1", "fe80::e02d:58ff:fe27:3810", "fd00:0:0:1::", "fd00:1:0:0:1::1",
            "fd00:0:1:0:1:0:1:0"]
EDGES6 = ["fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe00::", "fe7f::1", "fe80::",
          "febf:ffff::1", "fec0::", "feff::1", "::", "::1", "::10.0.0.1", "::ffff:10.0.0.1", "::ffff:255.255.255.255", "::fffe:10.0.0.1",
          "::1:ffff:a00:1", "64:ff9b::a00:1", "1:0:0:2:0:0:0:3"]
OUTSIDE6 = ["2001:db8::1", "2001:db8:0:1:1:1:1:1", "2001:db8::ffff:0:0"]
GROUPS6 = ["ff00::", "ff02::1", "ff02::fb", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
SUPPORTED = (1, 1, 1, 1, 1, 1, 113, 276, 0, 108, 101, 12, 14, 228, 229)
UNSUPPORTED = (2, 8, 9, 105, 127, 147, 192, 231, 249, 279, 65535, 115, 277, 109)
SCOPES = ["10.147.20.0/24", "10.147.20.11", "10.147.20.12/32", "0.0.0.0/0", "::/0", "10.0.0.0/8", "203.0.113.0/24", "fd00::/8",
          "2001:db8::/32", "fc6b:c0b:f6d:f562:9e82::1", "::ffff:0:0/96", "::ffff:10.0.0.0/104", "224.0.0.0/4", "ff00::/8", "100.64.0.0/10",
          "128.0.0.0/1", "10.147.20.10/31", "fd46:cac:ee2d:a7:e199:936d:f562:9e82/127"]
EPOCH_0, EPOCH_10000 = -62167219200, 253402300800


class Case:
    def __init__(self, seed):
        self.r = random.Random(seed)
        r = self.r
        self.hostile = r.random() < 0.33
        self.tee = r.choice(("both",) * 6 + ("one", "one", "none"))
        self.tee_bytes = r.choice((128,) * 6 + (20, 34, 40, 64, 44, 256, 2800))
        self.window, self.window_text = r.choice([(2 * NS, None)] * 4 + [(2 * NS, "2"), (NS, "1s"), (NS // 2, "500ms"), (10**7, "10ms"), (5 * NS, "5s"), (3600 * NS, "3600")])
        self.base = r.choice([1767225600] * 8 + [0, 5, 86399, 951782400, 2**31 - 2, 2**32 - 20, 4102444799]) * NS
        if r.random() < 0.5:
            self.base += r.choice((1, 999, 1000, 123456789, 999999999, 500000000))
        self.v6_share = r.choice((0.0, 0.2, 0.2, 0.5, 1.0))
        self.odd_share = r.choice((0.0, 0.02, 0.1, 0.3))
        self.tag_share = r.choice((0, 0, 0.1, 0.5))
        self.templates = []

    # ---------------------------------------------------------- packets

    def address(self, version, role):
        """Role: any, client, group."""
        r = self.r
        clients, edges, outside, groups = (CLIENTS4, EDGES4, OUTSIDE4, GROUPS4) if version == 4 else (CLIENTS6, EDGES6, OUTSIDE6, GROUPS6)
        if role == "group":
            text = r.choice(groups)
        elif role == "client":
            text = r.choice(clients)
        else:
            x = r.random()
            text = r.choice(clients if x < 0.65 else outside if x < 0.8 else edges if x < 0.97 else groups)
        return ipaddress.ip_address(text).packed

    def payload(self, n):
        return self.r.randbytes(n) if self.r.random() < 0.5 else bytes(n)

    def size(self):
        r = self.r
        return r.choice((0, 1, 7, 8, 8, 20, 33, 64, 88, 100, 107, 108, 109, 127, 128, 129, 300)) if r.random() < 0.9 else r.choice((1400, 1480, 2780, 9000, 65515))

    def ip_packet(self):
        """(IP bytes, group by MAC): whole, with a truthful length unless odd."""
        r = self.r
        version = 6 if r.random() < self.v6_share else 4
        group = r.random() < 0.15
        src = self.address(version, "any")
        dst = self.address(version, "group" if group and r.random() < 0.7 else r.choice(("any", "any", "client")))
        if r.random() < 0.1:
            src, dst = dst, src
        odd = r.random() < self.odd_share
        body = self.payload(self.size())
        if version == 4:
            words = r.choice((5,) * 8 + (6, 10, 15))
            total = words * 4 + len(body)
            first = 0x40 | words
            if odd:
                kind = r.randrange(6)
                if kind == 0:
                    total = 0
                elif kind == 1:
                    total = r.choice((1, 19, 20, words * 4 - 1, words * 4))
                elif kind == 2:
                    first = r.choice((0x44, 0x40, 0x4f, 0x65, 0x05, 0x55))
                elif kind == 3:
                    total = r.choice((65535, total + 1000))
                elif kind == 4:
                    total = r.choice((24, 28, 40))
                # kind 5: true, but the frame is odd
            fragment = r.choice((0, 0, 0x4000, 0x2000, 0x00b9))
            ident = 0 if r.random() < 0.4 else r.randrange(65536)
            ip = struct.pack(">BBHHHBBH", first, 0, min(total, 65535), ident, fragment, 64, r.choice((1, 6, 17)), r.randrange(65536) if odd else 0)
            ip += src + dst + bytes((words - 5) * 4) + body
        else:
            length, following = len(body), r.choice((17, 17, 6, 58, 59, 0))
            if odd:
                kind = r.randrange(4)
                if kind <= 1:
                    length = 0
                elif kind == 2:
                    length = r.choice((65535, 1, len(body) + 9))
            ip = struct.pack(">IHBB", r.choice((6 << 28, 6 << 28 | 0xabcde)), length, following, 64) + src + dst + body
            if odd and r.random() < 0.15:
                ip = bytes([r.choice((0x45, 0x50, 0x70))]) + ip[1:]
        return ip, group

    def macs(self, group):
        r = self.r
        if group:
            return r.choice(GROUP_MACS) + r.choice(MACS)
        if r.random() < 0.12:
            pair = [OWN, r.choice(MACS)]
        else:
            pair = r.sample(MACS[1:], 2)
        r.shuffle(pair)
        return pair[0] + pair[1]

    # ---------------------------------------------------------- traffic

    def copies(self, group):
        r = self.r
        x = r.random()
        if group:
            return r.choice((1, 2, 3, 4, 6))
        if self.tee == "one":
            return 1 if x < 0.8 else 2
        if self.tee == "none":
            return 1 if x < 0.7 else 2
        return 2 if x < 0.75 else 1 if x < 0.87 else 3 if x < 0.94 else 4

    def delay(self):
        r, w = self.r, self.window
        x = r.random()
        if x < 0.7:
            return r.choice((0, 0, 1, 999, 1000, 70000, 6 * 10**6))
        if x < 0.95:
            return w + r.choice((0, 0, 1, -1, 1000, -1000, w // 2, w, -w // 2))
        return r.choice((NS, 86400 * NS, -w, -w - 1, -w + 1, -1, -1000))

    def traffic(self):
        """Frames as dictionaries, in the order they were made."""
        r = self.r
        frames = []
        t = self.base
        jumps = r.random() < 0.15
        step = r.choice((0, 1000, 10**6, 10**8, self.window // 7 // 1000 * 1000))
        for _ in range(r.choice((0, 1, 3, 10, 30, 60, 90)) if self.hostile else r.choice((5, 20, 50, 80, 100))):
            if self.templates and r.random() < 0.25:
                template = r.choice(self.templates)
            else:
                ip, group = self.ip_packet()
                template = {"ip": ip, "group": group, "macs": self.macs(group), "tags": self.tags()}
                self.templates.append(template)
            at = t
            for i in range(self.copies(template["group"])):
                f = dict(template, t=at)
                if i and r.random() < 0.1:
                    f["macs"] = self.macs(template["group"])
                if r.random() < 0.03:
                    f["group"] = not f["group"]
                    f["macs"] = self.macs(f["group"])
                if r.random() < 0.05:
                    f["tags"] = self.tags()
                f["cut"] = self.tee_bytes if OWN not in (f["macs"][:6], f["macs"][6:]) or r.random() < 0.2 else None
                if self.tee == "none" and r.random() < 0.8:
                    f["cut"] = None
                frames.append(f)
                at = max(0, at + self.delay())
            t += r.choice((0, step, step, 2 * step))
            if r.random() < 0.03:
                t += self.window + r.choice((0, 1, -1, 1000, -1000))
            if jumps and r.random() < 0.06:
                t = max(0, t + r.choice((1, -1, 1, -1)) * r.choice((NS, self.window, self.window + 1, 31536000 * NS, 20 * 31536000 * NS)))
        frames = frames[:300]
        order = r.random()
        if order < 0.7:
            frames.sort(key=lambda f: f["t"])
        elif order < 0.85:
            frames.sort(key=lambda f: f["t"] + r.randrange(-10**6, 10**6))
        return frames

    def tags(self):
        r = self.r
        if r.random() >= self.tag_share:
            return []
        return [r.choice(TAGS) for _ in range(r.choice((1, 1, 1, 2, 2, 3, 5, 12)))]

    # ---------------------------------------------------------- frames on a link

    def on_link(self, f, link):
        """(captured bytes, original length)."""
        r = self.r
        ip = f["ip"]
        odd = r.random() < self.odd_share
        version = 6 if ip[0] >> 4 == 6 else 4
        ethertype = 0x86dd if version == 6 else 0x0800
        if odd and r.random() < 0.4:
            ethertype = r.choice((0x0806, 0x8847, 0x8863, 0x8864, 0x88cc, 0, 3, 4, 46, 1500, 0x0800, 0x86dd, 0x9000, 0x8101))
        low = link & 0x3ffffff
        tags = f["tags"] if low in (1, 113, 276) else []
        chain = b""
        for tag in tags:
            chain += struct.pack(">HH", tag, r.choice((0, 1, 100, 0xefff)))
        chain += struct.pack(">H", ethertype)
        payload = chain[2:] + ip
        if f["cut"] is not None:
            payload = payload[:f["cut"]]
        kind = f["macs"][0] & 1 and r.choice((1, 2)) or r.choice((0, 3, 4, 3))
        if low == 1:
            data = f["macs"] + chain[:2] + payload
        elif low == 113:
            data = struct.pack(">HHH", kind, 1, 6) + f["macs"][6:] + b"\0\0" + chain[:2] + payload
        elif low == 276:
            data = chain[:2] + struct.pack(">HIHBB", 0, 3, 1, kind, 6) + f["macs"][6:] + b"\0\0" + payload
        elif low in (0, 108):
            family = r.choice((10, 24, 28, 30)) if version == 6 else 2
            if odd:
                family = r.choice((2, 10, 24, 28, 30, 7, 23, 0, 0x200, 0x02000002))
            big = r.random() < (0.5 if low == 0 else 0.95)
            data = struct.pack(">I" if big else "<I", family) + payload
        else:
            data = payload
        if low == 1 and len(data) < 60 and r.random() < 0.3:
            data += r.choice((bytes(60 - len(data)), r.randbytes(60 - len(data))))
        original = len(data)
        x = r.random()
        if x < 0.15:
            original = len(data) - len(payload) + len(chain) - 2 + len(ip)
        if odd:
            kind = r.randrange(7)
            front = len(data) - len(payload) + len(chain) - 2
            if kind == 0:
                data = data[:r.randrange(len(data) + 1)]
            elif kind == 1:
                data = data[:front + r.choice((0, 1, 19, 20, 39, 40))]
            elif kind == 2:
                original = r.choice((0, 1, front, front + 19, front + 20, front + 60, len(data) - 1 if data else 0))
            elif kind == 3:
                original = front + r.choice((65575, 65576, 65574, 1 << 20, (1 << 20) + 1, 2**32 - 1 - front, 70000))
            elif kind == 4:
                data = data[:r.choice((0, 1, 3, 4, 13, 14, 15, 16, 17, 18, 19, 20))]
        return data, min(original, 2**32 - 1)

    # ---------------------------------------------------------- files

    def some_link(self):
        r = self.r
        link = r.choice(SUPPORTED)
        if r.random() < 0.05:
            link = r.choice(UNSUPPORTED)
        return link

    def pcap(self, frames):
        """(bytes, record offsets)."""
        r = self.r
        e = r.choice("<<>")
        magic = r.choice((0xa1b2c3d4, 0xa1b2c3d4, 0xa1b23c4d, 0xa1b23c4d, 0xa1b2cd34))
        version = r.choice([(2, 4)] * 10 + [(2, 0), (2, 1), (2, 2), (2, 3), (2, 3), (543, 0), (2, 5)])
        if self.hostile and r.random() < 0.1:
            version = r.choice(((1, 0), (3, 0), (0, 0), (543, 1), (1, 4), (2, 65535), (542, 0), (0x0200, 0x0400), (4, 2)))
        if self.hostile and r.random() < 0.05:
            magic = r.choice((0xa1b2c3d5, 0, 0xffffffff, 0xa1e2cb12, 0xd4c3b2a2))
        link = self.some_link()
        upper = r.choice((0, 0, 0, 0x24000000, 0x14000000, 0xfc000000, 0x08000000))
        out = struct.pack(e + "IHHiIII", magic, *version, r.choice((0, 0, 3600)), 0, r.choice((65535, 262144, 0, 96)), link | upper)
        swap = version == (543, 0) or version[0] == 2 and version[1] < 3 or version == (2, 3) and r.random() < 0.5
        nano = magic == 0xa1b23c4d
        offsets = []
        late = r.random() < 0.2
        for f in frames:
            data, original = self.on_link(f, link)
            if version == (2, 3) and original < len(data) and r.random() < 0.9:
                original = len(data)
            sec, ns = divmod(f["t"], NS)
            fraction = ns if nano else ns // 1000
            if late and sec and r.random() < 0.2:
                more = r.choice((1, 1, 2, 4))
                if more <= sec and (not nano or more * NS + fraction < 2**32):
                    sec -= more
                    fraction += more * (NS if nano else 10**6)
            lengths = (original, len(data)) if swap else (len(data), original)
            offsets.append(len(out))
            out += struct.pack(e + "IIII", sec & 0xffffffff, fraction, *lengths)
            if magic == 0xa1b2cd34:
                out += struct.pack(e + "IHBB", r.randrange(9), 0x0800, r.randrange(5), 0)
            out += data
        return out, offsets

    def option(self, e, code, value):
        return struct.pack(e + "HH", code, len(value)) + value + bytes(-len(value) % 4)

    def interface(self, e):
        """(block, link, ticks per second, offset, snaplen)."""
        r = self.r
        link = self.some_link()
        snaplen = r.choice((0, 0, 262144, 65535, 142, 60, 20))
        options, per_second, offset = b"", 10**6, 0
        if r.random() < 0.6:
            code = r.choice((9, 9, 9, 6, 6, 3, 7, 12, 0x80 | 20, 0x80 | 30, 0x80 | 10, 0, 0x80))
            if r.random() < 0.06:
                code = r.choice((18, 19, 20, 40, 127, 0xff, 0x80 | 63, 0x80 | 64, 0x80 | 100))
            per_second = 2 ** (code & 127) if code & 128 else 10**code
            options += self.option(e, 9, bytes([code]))
        if r.random() < 0.3:
            options = self.option(e, r.choice((2, 3, 11, 12, 1)), r.randbytes(r.randrange(9))) + options
        if r.random() < 0.25:
            offset = r.choice((3600, -3600, 1, self.base // NS, -1000))
            if r.random() < 0.1:
                offset = r.choice((2**63 - 1, -2**63, EPOCH_0, EPOCH_0 - 1, EPOCH_10000 - 1, EPOCH_10000, -self.base // NS))
            options += self.option(e, 14, struct.pack(e + "q", offset))
        if r.random() < 0.1:
            options += self.option(e, r.choice((9, 14)), r.randbytes(r.choice((0, 2, 4, 9))))
        lie = r.random()
        if lie < 0.08:
            options += struct.pack(e + "HH", r.choice((2, 9, 14)), r.choice((5, 64, 65535))) + r.choice((b"", b"\3\0\0\0"))
            if r.random() < 0.5:
                options += self.option(e, 9, b"\3")[:r.choice((4, 8))]
        elif lie < 0.5:
            options += bytes(4)
            if r.random() < 0.2:
                options += self.option(e, 9, b"\2")
        body = struct.pack(e + "HHI", link, 0, snaplen) + options
        return self.block(e, 1, body), link, per_second, offset, snaplen

    def block(self, e, kind, body):
        body += bytes(-len(body) % 4)
        return struct.pack(e + "II", kind, len(body) + 12) + body + struct.pack(e + "I", len(body) + 12)

    def section(self, later):
        r = self.r
        e = r.choice("<<>")
        version = (1, r.choice((0, 0, 0, 2, 9)))
        if self.hostile and r.random() < (0.15 if later else 0.05):
            version = r.choice(((2, 0), (0, 1), (256, 0), (1, 0)))
        body = struct.pack(e + "IHHQ", 0x1a2b3c4d, *version, r.choice((2**64 - 1, 2**64 - 1, 0, 1000, 28)))
        if r.random() < 0.2:
            body += self.option(e, 4, b"ztmon")
        if r.random() < 0.05:
            body += struct.pack(e + "HH", 2, 999)
        return e, self.block(e, 0x0a0d0d0a, body)

    def pcapng(self, frames):
        r = self.r
        e, out = self.section(False)
        offsets, interfaces = [], []

        def add_interface():
            nonlocal out
            block, *rest = self.interface(e)
            offsets.append(len(out))
            out += block
            interfaces.append(rest)

        sections = r.random() < 0.3
        rarely_late = r.random() < 0.5
        for f in frames:
            if sections and r.random() < 0.05:
                offsets.append(len(out))
                e, block = self.section(True)
                out += block
                interfaces = []
            if r.random() < 0.04:
                kind = r.choice((4, 5, 10, 0, 7, 0xbad, 0x80000001, 0x40000bad, 11))
                offsets.append(len(out))
                out += self.block(e, kind, r.randbytes(4 * r.randrange(6)))
            if not interfaces or (len(interfaces) < 5 and r.random() < (0.03 if rarely_late else 0.15)):
                add_interface()
            number = r.randrange(len(interfaces))
            if self.hostile and r.random() < 0.005:
                number = r.choice((len(interfaces), 0xffff))
            link, per_second, offset, snaplen = interfaces[min(number, len(interfaces) - 1)]
            stamp = (f["t"] - offset * NS) * per_second // NS
            if r.random() < 0.002:
                stamp = r.randrange(2**64)
            stamp = min(max(stamp, 0), 2**64 - 1)
            data, original = self.on_link(f, link)
            offsets.append(len(out))
            x = r.random()
            if x < 0.06:
                link, _, _, snaplen = interfaces[0]
                data, original = self.on_link(f, link)
                if snaplen and r.random() < 0.8:
                    data = data[:snaplen]
                out += self.block(e, 3, struct.pack(e + "I", original) + data)
                continue
            padded = data + bytes(-len(data) % 4)
            options = self.option(e, 2, struct.pack(e + "I", r.randrange(4))) + bytes(4) if r.random() < 0.15 else b""
            if r.random() < 0.02:
                options = b"\xff" * 8
            if x < 0.16:
                head = struct.pack(e + "HHIIII", number & 0xffff, r.choice((0, 7, 65535)), stamp >> 32, stamp & 0xffffffff, len(data), original)
                out += self.block(e, 2, head + padded + options)
            else:
                head = struct.pack(e + "IIIII", number, stamp >> 32, stamp & 0xffffffff, len(data), original)
                out += self.block(e, 6, head + padded + options)
        return out, offsets

    # ---------------------------------------------------------- damage

    def damage(self, data, offsets):
        r = self.r
        data = bytearray(data)
        ng = data[:4] == b"\x0a\x0d\x0d\x0a"
        e = ">" if data[:1] == b"\xa1" or ng and data[8:9] == b"\x1a" else "<"
        kind = r.randrange(10)
        at = r.choice(offsets) if offsets else len(data)
        if kind == 0:
            del data[r.randrange(len(data) + 1):]
        elif kind == 1 and offsets:
            del data[at + r.randrange(36):]
        elif kind == 2:
            for _ in range(r.choice((1, 1, 3))):
                i = r.randrange(len(data))
                data[i] ^= 1 << r.randrange(8)
        elif kind == 3 and offsets:
            # a length field of a record
            i = at + (r.choice((4, 20, 24)) if ng else r.choice((8, 12)))
            value = r.choice((0, 4, 8, 11, 12, 13, 16, 28, 32, 262144, 262145, 16 << 20, (16 << 20) + 4, 2**31, 2**32 - 1, 2**32 - 4))
            if i + 4 <= len(data):
                if r.random() < 0.4:
                    value = (struct.unpack_from(e + "I", data, i)[0] + r.choice((1, -1, 4, -4, 2))) & 0xffffffff
                struct.pack_into(e + "I", data, i, value)
        elif kind == 4:
            data += r.randbytes(r.choice((1, 3, 4, 8, 11, 12, 16, 24, 40))) if r.random() < 0.6 else bytes(r.choice((1, 4, 8, 12, 16, 24)))
        elif kind == 5:
            i = r.randrange(len(data))
            del data[i:i + r.choice((1, 2, 4, 16))]
        elif kind == 6 and offsets:
            # the trailer of the block before
            if ng and at >= 4:
                data[at - r.randrange(1, 5)] ^= 1 << r.randrange(8)
        elif kind == 7:
            i = r.randrange(24)
            if i < len(data):
                data[i] ^= 1 << r.randrange(8)
        elif kind == 8 and offsets:
            # a block that is too short for its fields, or a strange record
            if ng:
                junk = struct.pack(e + "II", r.choice((1, 2, 3, 6, 0x0a0d0d0a, 99)), 12) + struct.pack(e + "I", 12)
                if r.random() < 0.6:
                    junk = self.block(e, r.choice((1, 2, 3, 6)), bytes(r.choice((0, 4, 8, 12, 16, 20))))
                if r.random() < 0.3:
                    junk = self.block(e, 0x0a0d0d0a, struct.pack(e + "IHHI", r.choice((0x1a2b3c4d, 0x1a2b3c4e)), 1, 0, 0) + bytes(r.choice((0, 4))))
                data[at:at] = junk
            else:
                data[at:at] = r.randbytes(16)
        else:
            del data[r.choice((0, 1, 4, 23, 24, 25, 27, 28, 40, len(data))):]
        return bytes(data)

    def gzip(self, data):
        r = self.r
        parts = self.split(data, r.choice((1, 1, 2, 4)))
        if r.random() < 0.1:
            parts.insert(r.randrange(len(parts) + 1), b"")
        out = b""
        for part in parts:
            c = zlib.compressobj(r.choice((0, 1, 6, 9)), zlib.DEFLATED, -15)
            flags = 8 if r.random() < 0.3 else 0
            out += b"\x1f\x8b\x08" + bytes([flags]) + bytes(4) + b"\x00\x03" + (b"case.pcap\0" if flags else b"")
            out += c.compress(part) + c.flush() + struct.pack("<II", zlib.crc32(part), len(part))
        if r.random() < 0.1:
            out += bytes(r.choice((1, 10, 512)))
        return out

    def split(self, data, n):
        cuts = sorted(self.r.randrange(len(data) + 1) for _ in range(n - 1))
        return [data[a:b] for a, b in zip([0] + cuts, cuts + [len(data)])]

    def zstd(self, data):
        r = self.r
        out = b""
        for i, part in enumerate(self.split(data, r.choice((1, 1, 2, 3)))):
            if r.random() < 0.15:
                n = r.choice((0, 1, 7))
                out += struct.pack("<II", 0x184d2a50 + r.randrange(16), n) + bytes(n)
            if r.random() < 0.3:
                # raw blocks by hand
                blocks = self.split(part, r.choice((1, 3, 6)))
                out += b"\x28\xb5\x2f\xfd\x00\x58"
                for j, block in enumerate(blocks):
                    out += (len(block) << 3 | (j == len(blocks) - 1)).to_bytes(3, "little") + block
            else:
                command = ["zstd", "-qc", "-%d" % r.choice((1, 3, 9))]
                if r.random() < 0.3:
                    command.append("--no-check")
                if r.random() < 0.5:
                    command.append("--stream-size=%d" % len(part))
                out += subprocess.run(command, input=part, stdout=subprocess.PIPE, check=True).stdout
        return out

    def compressed(self, data):
        r = self.r
        if len(data) > 120000:
            return data
        x = r.random()
        if x >= 0.3:
            return data
        data = self.gzip(data) if x < 0.17 else self.zstd(data)
        if self.hostile and r.random() < 0.5:
            data = bytearray(data)
            kind = r.randrange(6)
            if kind == 0:
                del data[r.randrange(len(data) + 1):]
            elif kind == 1:
                data[-r.randrange(1, 9)] ^= 1 << r.randrange(8)
            elif kind == 2:
                data += r.choice((b"\0", b"\0" * 9, b"x", b"\0\0\x1f\x8b", b"\x1f", b"\x28\xb5", data[:12], r.randbytes(20)))
            elif kind == 3:
                data[r.randrange(10, len(data)) if len(data) > 10 else 0] ^= 1 << r.randrange(8)
            elif kind == 4:
                data = self.gzip(bytes(data)) if r.random() < 0.5 else self.zstd(bytes(data))
            else:
                del data[len(data) - r.randrange(1, min(len(data), 40)):]
        return bytes(data)

    # ---------------------------------------------------------- the command line

    def rfc3339(self, t, shift):
        import datetime
        sec, ns = divmod(t, NS)
        d = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=sec + shift * 60)
        text = d.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
        if ns or self.r.random() < 0.2:
            text += (".%09d" % ns)[:10]
        if shift == 0 and self.r.random() < 0.8:
            return text + "Z"
        return text + "%s%02d:%02d" % ("-" if shift < 0 else "+", abs(shift) // 60, abs(shift) % 60)

    def arguments(self, frames):
        r = self.r
        a = []
        if self.tee != "both" or r.random() < 0.2:
            a += ["--tee", self.tee]
        if self.tee_bytes != 128 or r.random() < 0.1:
            a += ["--tee-bytes", str(self.tee_bytes)]
        if self.window_text:
            a += ["--pair-window", self.window_text]
        if r.random() < 0.2:
            for scope in r.sample(SCOPES, r.choice((1, 1, 2, 4))):
                a += ["--scope", scope]
        if r.random() < 0.12:
            a.append("--both-ends")
        if r.random() < 0.5:
            a += ["--observer-mac", "e2:53:1a:4b:b7:7c" if r.random() < 0.9 else "E2:53:1A:4B:B7:7C"]
        if frames and r.random() < 0.15:
            times = sorted(r.choice(frames)["t"] + r.choice((0, 0, 1, -1, 1000)) for _ in range(2))
            which = r.choice(("since", "until", "both"))
            shift = r.choice((0, 0, 60, -330, 840))
            if times[0] >= 0 and times[0] < times[1]:
                if which != "until":
                    a += ["--since", self.rfc3339(times[0], shift)]
                if which != "since":
                    a += ["--until", self.rfc3339(times[1], shift)]
        if r.random() < 0.35:
            a += ["--by", r.choice(("pair", "pair", "address"))]
        if r.random() < 0.3:
            a += ["--sort", r.choice(("total", "sent", "received", "addr"))]
        if r.random() < 0.2:
            a += ["--top", str(r.choice((1, 2, 3, 5, 100)))]
        if r.random() < 0.2:
            a += ["--max-addresses", str(r.choice((1, 2, 3, 5, 8)))]
        if r.random() < 0.2:
            a += ["--max-pairs", str(r.choice((1, 2, 3, 5, 8)))]
        if self.hostile and r.random() < 0.03:
            a += r.choice((["--scope", "10.0.0.1/8"], ["--scope", "fd00::1/8"], ["--scope", "10.0.0.0/33"], ["--pair-window", "soon"],
                           ["--tee", "three"], ["--observer-mac", "e2:53"], ["--since", "tomorrow"],
                           ["--since", "2026-01-01T01:00:00+01:00", "--until", "2026-01-01T00:00:00Z"], ["--sort", "size"], ["--nonsense"]))
        return a

    def large(self, out):
        """Rarely: sizes around the limits of C13."""
        r = self.r
        link = r.choice((1, 231, 249, 279, 101))
        n = r.choice((262143, 262144, 262145, 300000))
        if r.random() < 0.1:
            n = r.choice(((8 << 20), (8 << 20) + 1))
        body = bytes.fromhex("e2caf54f702ee220dc76bb750800") + bytes.fromhex("4500000000000000401100000a9314 0b0a93140c".replace(" ", ""))
        data = body + bytes(n - len(body))
        if r.random() < 0.5:
            head = struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, link)
            record = struct.pack("<IIII", self.base // NS & 0xffffffff, 0, n, n) + data
            small = struct.pack("<IIII", self.base // NS & 0xffffffff, 0, len(body), r.choice((60, 2**20 + 14, 2**20 + 15))) + body
        else:
            head = self.section(False)[1]
            head = struct.pack("<IIIHHQI", 0x0a0d0d0a, 28, 0x1a2b3c4d, 1, 0, 2**64 - 1, 28)
            head += self.block("<", 1, struct.pack("<HHI", link, 0, 0))
            if r.random() < 0.3:
                total = (16 << 20) + r.choice((0, 4))
                record = self.block("<", 0xbad, bytes(total - 12))
            elif r.random() < 0.3:
                record = self.block("<", 3, struct.pack("<I", n) + data)
            else:
                record = self.block("<", 6, struct.pack("<IIIII", 0, 0, 5, n, n) + data)
            small = self.block("<", 6, struct.pack("<IIIII", 0, 0, 9, len(body), 60) + body)
        out.append(head + small + record + small)

    def build(self, outdir):
        r = self.r
        frames = self.traffic()
        args = self.arguments(frames)
        count = r.choice((1, 1, 1, 2, 3))
        names = r.sample(("a.pcap", "B.cap", "z.pcapng", "10.cap", "9.cap", "b", "c.pcap.gz"), count)
        shares = [[] for _ in names]
        how = r.randrange(3)
        for i, f in enumerate(frames):
            shares[r.randrange(count) if how == 0 else i * count // len(frames) if how == 1 else i % count].append(f)
        if count > 1 and r.random() < 0.2:
            shares[0] = list(shares[1])  # the same traffic seen twice
        contents = []
        for share in shares:
            data, offsets = self.pcapng(share) if r.random() < 0.45 else self.pcap(share)
            if self.hostile and data and r.random() < 0.45:
                data = self.damage(data, offsets)
            data = self.compressed(data)
            if self.hostile and r.random() < 0.03:
                data = r.choice((b"", b"\x1f\x8b", b"not a capture at all, just text", data[:10], b"\x0a\x0d\x0d\x0a"))
            contents.append(data)
        if r.random() < 0.01:
            extra = []
            self.large(extra)
            contents[0] = extra[0]
        for name, data in zip(names, contents):
            with open(os.path.join(outdir, name), "wb") as f:
                f.write(data)
        if self.hostile and r.random() < 0.04:
            names.insert(r.randrange(len(names) + 1), "missing.pcap")
        if self.hostile and r.random() < 0.02:
            os.makedirs(os.path.join(outdir, "folder.pcap"), exist_ok=True)
            names.insert(r.randrange(len(names) + 1), "folder.pcap")
        with open(os.path.join(outdir, "args.json"), "w") as f:
            json.dump(args + names, f)
        return args + names


def generate(seed, outdir):
    os.makedirs(outdir, exist_ok=True)
    return Case(seed).build(outdir)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: generate.py SEED OUTDIR")
    generate(int(sys.argv[1]), sys.argv[2])
