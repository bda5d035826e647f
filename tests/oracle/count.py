#!/usr/bin/env python3
"""An independent counter by the rules C1..C16 of docs/counting.md: a test oracle.

Everything is read into memory and nothing is optimised: each rule stands where it is
easiest to check against its text.

Readings chosen where the rules leave room:
 A1  C8/C9 key: the rule's length less 4 per tag never goes below 0; an empty key is a key like any other.
     The key is the bytes alone: link type, tags and MACs are no part of it.
 A2  C8: a new unpaired packet replaces the remembered one of its key even if it is itself already
     too old to be remembered ("only the unpaired one that was read last is remembered").
     The current packet's own time belongs to "the latest packet time seen".
 A3  C10 "unicast": not to a group in the sense of C9 (so neither by MAC nor by IP destination);
     "Ethernet frames": link type 1 only, not SLL.
 A4  C7/limit: the source is looked at before the destination. Only counted packets enter.
 A5  first_seen/last_seen: the smallest and the greatest time, not the first and last read.
 A6  --sort sent|received: that column descending, ties by address (total is no second key).
 A7  C13 lengths: SHB 28 is the whole block; IDB 8, EPB/PB 20 and SPB 4 are the body.
 A8  C12: every minor version of pcap 2 and pcapng 1 is accepted (2.4 and later: not swapped);
     the pcap header's time zone field is ignored.
 A9  Several if_tsresol or if_tsoffset in one block: the last of a right length holds.
 A10 Compressed data: "what came before stands" = every byte the damaged stream still yields:
     deflate up to the broken symbol, zstd up to the broken block (a raw block up to its end),
     and everything where only a checksum or size at the end is wrong.
 A11 SLL/SLL2: the protocol field is read as an EtherType, whatever the ARPHRD type.
 A12 C2, IPv6 with payload length 0: a rest of at most 65,575 gives 40, however small the rest is.
 A13 C14 "by name": byte order of the names as given; "first packet" = first in the file, before C15.
 A14 A frame without a byte on a raw link is malformed, as is an IP packet of 0 captured bytes anywhere.
 A15 pcapng: SPB captured bytes above 262,144 are damage like any other captured length.
 A16 Zeros after the last gzip member and then anything else: damage. After the last zstd
     frame anything but another frame is damage, zeros too.
 A17 C4 family on NULL: 2 and the IPv6 numbers are accepted in either byte order, packet by packet.
"""
import argparse
import ipaddress
import json
import re
import struct
import subprocess
import sys
import zlib
from fractions import Fraction

NS = 10**9
OUTCOMES = ("counted", "copy", "out_of_scope", "not_ip", "malformed", "unsupported_link")
DEFAULT_SCOPE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "fc00::/7", "fe80::/10")
MIB = 1 << 20

# Ends of a packet are (kind, number); kinds sort IPv4 < IPv6 < external < multicast < other.
EXTERNAL, MULTICAST, OTHER = (10, 0), (11, 0), (12, 0)
PSEUDO = {EXTERNAL: "external", MULTICAST: "multicast", OTHER: "other"}


class NotACapture(Exception):
    pass


class Damage(Exception):
    pass


class UsageError(Exception):
    pass


# ---------------------------------------------------------------- compression (C12, C13)

def decompress(data):
    """The content and, if the compressed stream is damaged, why."""
    if data[:2] == b"\x1f\x8b":
        return gunzip(data)
    if len(data) >= 4 and (data[:4] == ZSTD_MAGIC or is_skippable(data[:4])):
        return unzstd(data)
    return data, None


def gunzip(data):
    out = bytearray()
    pos = 0
    while True:
        body, pos, why = gunzip_member(data, pos)
        out += body
        if why:
            return bytes(out), why
        if not data[pos:].strip(b"\0"):
            return bytes(out), None


def gunzip_member(data, pos):
    d = zlib.decompressobj(31)
    try:
        body = d.decompress(data[pos:])
        if d.eof:
            return body, len(data) - len(d.unused_data), None
    except zlib.error:
        pass
    # Damaged: byte by byte, so that nothing before the damage is lost.
    d = zlib.decompressobj(31)
    out = bytearray()
    try:
        for i in range(pos, len(data)):
            tail = data[i:i + 1]
            while True:
                got = d.decompress(tail, 1)
                tail = d.unconsumed_tail
                out += got
                if d.eof or (not got and not tail):
                    break
    except zlib.error as e:
        return bytes(out), len(data), "gzip: %s" % e
    return bytes(out), len(data), "gzip: the end is inside a member"


ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def is_skippable(four):
    return 0x50 <= four[0] <= 0x5f and four[1:4] == b"\x2a\x4d\x18"


def unzstd(data):
    out = bytearray()
    pos = 0
    while pos < len(data):
        magic = data[pos:pos + 4]
        if len(magic) == 4 and is_skippable(magic):
            if len(data) < pos + 8:
                return bytes(out), "zstd: the end is inside a skippable frame"
            pos += 8 + struct.unpack_from("<I", data, pos + 4)[0]
            if pos > len(data):
                return bytes(out), "zstd: the end is inside a skippable frame"
        elif magic == ZSTD_MAGIC:
            body, pos, why = unzstd_frame(data, pos)
            out += body
            if why:
                return bytes(out), why
        else:
            return bytes(out), "zstd: no frame where one should be"
    return bytes(out), None


def zstd_tool(frame):
    """The frame's content, or None if the tool refuses it."""
    p = subprocess.run(["zstd", "-dcq"], input=frame, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return p.stdout if p.returncode == 0 else None


def unzstd_frame(data, start):
    """One frame: its content, where it ends, and what is wrong with it."""
    bad_header = (b"", len(data), "zstd: bad frame header")
    pos = start + 4
    if pos >= len(data):
        return bad_header
    flags = data[pos]
    pos += 1
    single, checksum = flags >> 5 & 1, flags >> 2 & 1
    window = 0
    if not single:
        if pos >= len(data):
            return bad_header
        base = 1 << (10 + (data[pos] >> 3))
        window = base + (base >> 3) * (data[pos] & 7)
        pos += 1
    pos += (0, 1, 2, 4)[flags & 3]
    size_bytes = (single, 2, 4, 8)[flags >> 6]
    content_size = int.from_bytes(data[pos:pos + size_bytes], "little") + (256 if size_bytes == 2 else 0)
    pos += size_bytes
    if pos > len(data) or flags & 8:
        return bad_header
    if single:
        window = content_size
    if window > 1 << 27:
        return b"", len(data), "zstd: window too large"

    blocks = []  # (type, size field, bytes)
    why = None
    while True:
        if pos + 3 > len(data):
            why = "zstd: the end is inside a frame"
            break
        header = int.from_bytes(data[pos:pos + 3], "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        pos += 3
        if kind == 3 or size > min(window, 128 << 10):
            why = "zstd: bad block"
            break
        stored = 1 if kind == 1 else size
        if pos + stored > len(data):
            why = "zstd: the end is inside a block"
            if kind == 0 and pos < len(data):
                blocks.append((0, len(data) - pos, data[pos:]))
            break
        blocks.append((kind, size, data[pos:pos + stored]))
        pos += stored
        if last:
            pos += 4 * checksum
            if pos > len(data):
                why = "zstd: the end is inside a checksum"
            break
    if not why:
        body = zstd_tool(data[start:pos])
        if body is not None:
            return body, pos, None
        why = "zstd: wrong block, checksum or size"

    # Damaged: the longest run of whole blocks that still decodes, in a frame header without promises.
    log = 10
    while 1 << log < window:
        log += 1
    for n in range(len(blocks), 0, -1):
        frame = ZSTD_MAGIC + bytes([0, log - 10 << 3])
        for i, (kind, size, stored) in enumerate(blocks[:n]):
            frame += (size << 3 | kind << 1 | (i == n - 1)).to_bytes(3, "little") + stored
        body = zstd_tool(frame)
        if body is not None:
            return body, len(data), why
    return b"", len(data), why


# ---------------------------------------------------------------- capture files (C12, C13)

def open_capture(name):
    """An iterator of (time, link type, original length, captured bytes); raises Damage where it ends badly."""
    with open(name, "rb") as f:
        raw = f.read()
    data, why = decompress(raw)
    if data[:4] == b"\x0a\x0d\x0d\x0a":
        first = pcapng_section(data, 0, NotACapture)
        return read_pcapng(data, first, why)
    return read_pcap(data, pcap_header(data), why)


def captured_limit(link):
    return {231: 128 * MIB, 249: 128 * MIB, 279: 8 * MIB}.get(link & 0x3ffffff, 262144)


def pcap_header(data):
    if len(data) < 24:
        raise NotACapture("not a capture: no whole file header")
    for order in "<>":
        magic, major, minor = struct.unpack_from(order + "IHH", data)
        if magic in (0xa1b2c3d4, 0xa1b23c4d, 0xa1b2cd34):
            break
    else:
        raise NotACapture("not a capture: unknown magic number")
    if major == 543 and minor == 0:
        swap = "always"
    elif major == 2:
        swap = "always" if minor < 3 else "larger" if minor == 3 else "never"
    else:
        raise NotACapture("not a capture: version %d.%d" % (major, minor))
    link = struct.unpack_from(order + "I", data, 20)[0] & 0x3ffffff
    unit = 1 if magic == 0xa1b23c4d else 1000
    head = 24 if magic == 0xa1b2cd34 else 16
    return order, unit, head, swap, link


def read_pcap(data, header, why):
    order, unit, head, swap, link = header
    pos = 24
    while pos < len(data):
        if pos + head > len(data):
            raise Damage("offset %d: the end is inside a record header" % pos)
        sec, fraction, captured, original = struct.unpack_from(order + "IIII", data, pos)
        if swap == "always" or (swap == "larger" and captured > original):
            captured, original = original, captured
        if captured > captured_limit(link):
            raise Damage("offset %d: captured length %d" % (pos, captured))
        if pos + head + captured > len(data):
            raise Damage("offset %d: the end is inside a record" % pos)
        body = data[pos + head:pos + head + captured]
        yield sec * NS + fraction * unit, link, original, body
        pos += head + captured
    if why:
        raise Damage("offset %d: %s" % (pos, why))


def pcapng_block(data, pos, order, trouble):
    """Type, body and end of the block at pos."""
    if pos + 12 > len(data):
        raise trouble("offset %d: the end is inside a block" % pos)
    kind, length = struct.unpack_from(order + "II", data, pos)
    if length < 12 or length % 4 or length > 16 * MIB:
        raise trouble("offset %d: block length %d" % (pos, length))
    if pos + length > len(data):
        raise trouble("offset %d: the end is inside a block" % pos)
    if struct.unpack_from(order + "I", data, pos + length - 4)[0] != length:
        raise trouble("offset %d: the block's two lengths differ" % pos)
    return kind, data[pos + 8:pos + length - 4], pos + length


def pcapng_section(data, pos, trouble):
    """Byte order of the section that begins at pos, and where its header ends."""
    magic = data[pos + 8:pos + 12]
    if magic == b"\x4d\x3c\x2b\x1a":
        order = "<"
    elif magic == b"\x1a\x2b\x3c\x4d":
        order = ">"
    else:
        raise trouble("offset %d: bad byte-order magic" % pos)
    _, body, end = pcapng_block(data, pos, order, trouble)
    if len(body) < 16:
        raise trouble("offset %d: section header too short" % pos)
    if struct.unpack_from(order + "H", body, 4)[0] != 1:
        raise trouble("offset %d: pcapng version" % pos)
    return order, end


def pcapng_options(body, pos, order):
    while pos + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, pos)
        pos += 4
        if code == 0 or pos + length > len(body):
            return
        yield code, body[pos:pos + length]
        pos += (length + 3) // 4 * 4


class Interface:
    def __init__(self, body, order):
        self.link, _, self.snaplen = struct.unpack_from(order + "HHI", body)
        self.per_second = 10**6
        self.offset = 0
        for code, value in pcapng_options(body, 8, order):
            if code == 9 and len(value) == 1:
                exponent = value[0] & 0x7f
                self.per_second = 2**exponent if value[0] & 0x80 else 10**exponent
            elif code == 14 and len(value) == 8:
                self.offset = struct.unpack(order + "q", value)[0]

    def time(self, stamp):
        return stamp * NS // self.per_second + self.offset * NS


def read_pcapng(data, first, why):
    order, pos = first
    interfaces = []
    while pos < len(data):
        start = pos
        if data[pos:pos + 4] == b"\x0a\x0d\x0d\x0a":
            order, pos = pcapng_section(data, pos, Damage)
            interfaces = []
            continue
        kind, body, pos = pcapng_block(data, pos, order, Damage)
        need = {1: 8, 2: 20, 3: 4, 6: 20}.get(kind, 0)
        if len(body) < need:
            raise Damage("offset %d: block too short" % start)
        if kind == 1:
            interfaces.append(Interface(body, order))
            continue
        if kind == 6:
            number, high, low, captured, original = struct.unpack_from(order + "IIIII", body)
        elif kind == 2:
            number, _, high, low, captured, original = struct.unpack_from(order + "HHIIII", body)
        elif kind == 3:
            number, high, low = 0, 0, 0
            original = struct.unpack_from(order + "I", body)[0]
        else:
            continue
        if number >= len(interfaces):
            raise Damage("offset %d: unknown interface %d" % (start, number))
        interface = interfaces[number]
        if kind == 3:
            captured = min(original, len(body) - 4, interface.snaplen or 2**32)
        if captured > captured_limit(interface.link) or captured > len(body) - need:
            raise Damage("offset %d: captured length %d" % (start, captured))
        yield interface.time(high << 32 | low), interface.link, original, body[need:need + captured]
    if why:
        raise Damage("offset %d: %s" % (pos, why))


# ---------------------------------------------------------------- packets (C1..C5)

class Packet:
    """version, size, src, dst (as ends), group, key source, tags, MACs"""


TAG_TYPES = (0x8100, 0x88a8, 0x9100, 0x9200, 0x9300)
ETHERTYPE_IP = {0x0800: 4, 0x86dd: 6}
FAMILY_IP = {2: 4, 10: 6, 24: 6, 28: 6, 30: 6}


def decode(link, original, data):
    """A Packet, or the outcome as a string."""
    p = Packet()
    p.group, p.tags, p.macs = False, 0, None
    tagged = False
    if link == 1:
        if len(data) < 14:
            return "malformed"
        p.group = bool(data[0] & 1)
        p.macs = data[0:6], data[6:12]
        ethertype = int.from_bytes(data[12:14], "big")
        pos, tagged = 14, True
    elif link == 113:
        if len(data) < 16:
            return "malformed"
        p.group = int.from_bytes(data[0:2], "big") in (1, 2)
        ethertype = int.from_bytes(data[14:16], "big")
        pos, tagged = 16, True
    elif link == 276:
        if len(data) < 20:
            return "malformed"
        p.group = data[10] in (1, 2)
        ethertype = int.from_bytes(data[0:2], "big")
        pos, tagged = 20, True
    elif link in (0, 108):
        if len(data) < 4:
            return "malformed"
        pos = 4
        version = FAMILY_IP.get(int.from_bytes(data[:4], "big"))
        if link == 0 and version is None:
            version = FAMILY_IP.get(int.from_bytes(data[:4], "little"))
    elif link in (101, 12, 14):
        pos = 0
        version = data[0] >> 4 if data else 0
        if version not in (4, 6):
            return "malformed"
    elif link == 228:
        pos, version = 0, 4
    elif link == 229:
        pos, version = 0, 6
    else:
        return "unsupported_link"
    if tagged:
        while ethertype in TAG_TYPES:
            if len(data) < pos + 4:
                return "malformed"
            ethertype = int.from_bytes(data[pos + 2:pos + 4], "big")
            pos += 4
            p.tags += 1
        version = ETHERTYPE_IP.get(ethertype)
    if version is None:
        return "not_ip"

    ip = data[pos:]
    rest = original - pos
    if len(ip) < (20 if version == 4 else 40) or ip[0] >> 4 != version:
        return "malformed"
    if version == 4:
        header = (ip[0] & 15) * 4
        field = int.from_bytes(ip[2:4], "big")
        if header < 20 or (field and field < header):
            return "malformed"
        p.size = field
        if field == 0:
            p.size = rest
            if rest < header or rest > MIB:
                return "malformed"
        p.src = 4, int.from_bytes(ip[12:16], "big")
        p.dst = 4, int.from_bytes(ip[16:20], "big")
        if p.dst[1] >> 28 == 14 or p.dst[1] == 0xffffffff:
            p.group = True
    else:
        field = int.from_bytes(ip[4:6], "big")
        p.size = 40 + field
        if field == 0 and ip[6] != 59 and rest > 65575:
            p.size = rest
            if rest > MIB:
                return "malformed"
        p.src = 6, int.from_bytes(ip[8:24], "big")
        p.dst = 6, int.from_bytes(ip[24:40], "big")
        if ip[24] == 0xff:
            p.group = True
    p.ip = ip[:p.size] if field else ip
    return p


# ---------------------------------------------------------------- counting (C6..C11)

class Row:
    def __init__(self):
        self.sent_bytes = self.received_bytes = self.sent_packets = self.received_packets = 0
        self.first = self.last = None

    def seen(self, first, last):
        if self.first is None or first < self.first:
            self.first = first
        if self.last is None or last > self.last:
            self.last = last

    def add(self, other):
        self.sent_bytes += other.sent_bytes
        self.received_bytes += other.received_bytes
        self.sent_packets += other.sent_packets
        self.received_packets += other.received_packets
        self.seen(other.first, other.last)


class Counter:
    def __init__(self, options):
        self.o = options
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.latest = None
        self.unpaired = {}  # unicast key -> time
        self.anchors = {}   # group key -> time of the last counted one
        self.ends = {}      # addresses and pseudo rows
        self.addresses = 0
        self.pairs = {}     # (source end, destination end)

    def frame(self, time, link, original, data):
        if self.latest is None or time > self.latest:
            self.latest = time
        p = decode(link, original, data)
        self.outcomes[p if isinstance(p, str) else self.packet(time, p)] += 1

    def is_client(self, end):
        bits = 32 if end[0] == 4 else 128
        return any(kind == end[0] and end[1] >> (bits - prefix) == number >> (bits - prefix) for kind, number, prefix in self.o.scope)

    def packet(self, time, p):
        src_client = self.is_client(p.src)
        dst_client = not p.group and self.is_client(p.dst)
        if not (src_client and dst_client if self.o.both_ends else src_client or dst_client):
            return "out_of_scope"
        if self.is_copy(time, p):
            return "copy"
        src = self.end(p.src) if src_client else EXTERNAL
        dst = self.end(p.dst) if dst_client else MULTICAST if p.group else EXTERNAL
        row = self.ends.setdefault(src, Row())
        row.sent_bytes += p.size
        row.sent_packets += 1
        row.seen(time, time)
        row = self.ends.setdefault(dst, Row())
        row.received_bytes += p.size
        row.received_packets += 1
        row.seen(time, time)

        pair = src, dst
        others = OTHER, OTHER
        if pair not in self.pairs and pair != others:
            if len(self.pairs) - (others in self.pairs) >= self.o.max_pairs:
                pair = others
        row = self.pairs.setdefault(pair, Row())
        row.sent_bytes += p.size
        row.sent_packets += 1
        row.seen(time, time)
        return "counted"

    def end(self, address):
        if address in self.ends:
            return address
        if self.addresses >= self.o.max_addresses:
            return OTHER
        self.addresses += 1
        self.ends[address] = Row()
        return address

    def remembered(self, table, key, time):
        """Whether table holds key at a time within the window of this packet, and not forgotten."""
        then = table.get(key)
        return then is not None and self.latest - then <= self.o.window and abs(time - then) <= self.o.window

    def is_copy(self, time, p):
        key = p.ip[:max(0, self.o.tee_bytes - 4 * p.tags)]
        if self.o.tee == "none":
            return False
        if p.group:
            if self.remembered(self.anchors, key, time):
                return True
            self.anchors[key] = time
            return False
        if self.o.tee == "one":
            return False
        if p.macs and self.o.observer_mac in p.macs:
            return False
        if self.remembered(self.unpaired, key, time):
            del self.unpaired[key]
            return True
        self.unpaired[key] = time
        return False


# ---------------------------------------------------------------- several files (C14)

def merged(files, causes):
    """files: (name, iterator). Frames in one order; damage goes to causes."""
    heads = []

    def advance(head):
        try:
            head["next"] = next(head["frames"], None)
        except Damage as e:
            causes.append("%s: %s" % (head["name"], e))
            head["next"] = None

    for name, frames in files:
        head = {"name": name, "frames": frames}
        advance(head)
        if head["next"]:
            head["first"] = head["next"][0]
            heads.append(head)
    while heads:
        head = min(heads, key=lambda h: (h["next"][0], h["first"], h["name"].encode("utf-8", "surrogateescape")))
        yield head["next"]
        advance(head)
        if not head["next"]:
            heads.remove(head)


# ---------------------------------------------------------------- output

def days_from_civil(year, month, day):
    """Days since 1970-01-01 in the proleptic Gregorian calendar."""
    if month <= 2:
        year -= 1
        month += 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719469


def civil_from_days(days):
    year = 1970 + days * 400 // 146097
    while days < days_from_civil(year, 1, 1):
        year -= 1
    while days >= days_from_civil(year + 1, 1, 1):
        year += 1
    month = 12
    while days < days_from_civil(year, month, 1):
        month -= 1
    return year, month, days - days_from_civil(year, month, 1) + 1


TIME_MIN = days_from_civil(0, 1, 1) * 86400 * NS
TIME_MAX = days_from_civil(10000, 1, 1) * 86400 * NS - 1


def time_text(time):
    seconds, nanos = divmod(min(max(time, TIME_MIN), TIME_MAX), NS)
    days, seconds = divmod(seconds, 86400)
    fraction = (".%09d" % nanos).rstrip("0").rstrip(".")
    return "%04d-%02d-%02dT%02d:%02d:%02d%sZ" % (*civil_from_days(days), seconds // 3600, seconds // 60 % 60, seconds % 60, fraction)


def end_text(end):
    kind, number = end
    if end in PSEUDO:
        return PSEUDO[end]
    if kind == 4:
        return ".".join(str(b) for b in number.to_bytes(4, "big"))
    if number >> 32 == 0xffff:
        return "::ffff:" + end_text((4, number & 0xffffffff))
    groups = [number >> (112 - 16 * i) & 0xffff for i in range(8)]
    best, length = 0, 0
    for i in range(8):
        n = 0
        while i + n < 8 and groups[i + n] == 0:
            n += 1
        if n > length:
            best, length = i, n
    text = ["%x" % g for g in groups]
    if length < 2:
        return ":".join(text)
    return ":".join(text[:best]) + "::" + ":".join(text[best + length:])


def address_table(counter, o):
    keys = {
        "total": lambda item: (-(item[1].sent_bytes + item[1].received_bytes), item[0]),
        "sent": lambda item: (-item[1].sent_bytes, item[0]),
        "received": lambda item: (-item[1].received_bytes, item[0]),
        "addr": lambda item: item[0],
    }
    rows = sorted(((e, r) for e, r in counter.ends.items() if e not in PSEUDO), key=keys[o.sort])
    shown, left = cut(rows, o.top)
    lines = ["addr,sent_bytes,received_bytes,sent_packets,received_packets,first_seen,last_seen"]
    out = [(end_text(e), r) for e, r in shown]
    out += [(PSEUDO[e], counter.ends[e]) for e in (EXTERNAL, MULTICAST, OTHER) if e in counter.ends]
    if left:
        out.append(("rest", sum_of(left)))
    for name, r in out:
        lines.append("%s,%d,%d,%d,%d,%s,%s" % (name, r.sent_bytes, r.received_bytes, r.sent_packets, r.received_packets,
                                               time_text(r.first), time_text(r.last)))
    return lines


def pair_table(counter, o):
    if o.sort == "addr":
        rows = sorted(counter.pairs.items(), key=lambda item: item[0])
    else:
        rows = sorted(counter.pairs.items(), key=lambda item: (-item[1].sent_bytes, item[0]))
    shown, left = cut(rows, o.top)
    lines = ["src,dst,bytes,packets,first_seen,last_seen"]
    out = [(end_text(src) + "," + end_text(dst), r) for (src, dst), r in shown]
    if left:
        out.append(("rest,rest", sum_of(left)))
    for names, r in out:
        lines.append("%s,%d,%d,%s,%s" % (names, r.sent_bytes, r.sent_packets, time_text(r.first), time_text(r.last)))
    return lines


def cut(rows, top):
    return (rows, []) if top is None else (rows[:top], rows[top:])


def sum_of(rows):
    total = Row()
    for _, row in rows:
        total.add(row)
    return total


# ---------------------------------------------------------------- command line (C15, C16)

def duration(text):
    m = re.fullmatch(r"(\d+)(s|ms|us|ns|)", text)
    if not m:
        raise argparse.ArgumentTypeError("not a duration: " + text)
    return int(m[1]) * {"s": NS, "": NS, "ms": 10**6, "us": 1000, "ns": 1}[m[2]]


def cidr(text):
    if not re.fullmatch(r"[0-9a-fA-F:.]+(/\d+)?", text):
        raise argparse.ArgumentTypeError("not a network: " + text)
    try:
        net = ipaddress.ip_network(text, strict=False)
        if "/" in text and ipaddress.ip_address(text.split("/")[0]) != net.network_address:
            raise argparse.ArgumentTypeError("%s has host bits, perhaps %s was meant" % (text, net))
    except ValueError:
        raise argparse.ArgumentTypeError("not a network: " + text)
    return net.version, int(net.network_address), net.prefixlen


def mac(text):
    if not re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", text):
        raise argparse.ArgumentTypeError("not a MAC: " + text)
    return bytes.fromhex(text.replace(":", ""))


def instant(text):
    m = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", text)
    if not m:
        raise argparse.ArgumentTypeError("not an RFC 3339 time: " + text)
    year, month, day, hour, minute, second = (int(x) for x in m.groups()[:6])
    days = days_from_civil(year, month, day) if 1 <= month <= 12 else 0
    if not 1 <= month <= 12 or civil_from_days(days) != (year, month, day) or hour > 23 or minute > 59 or second > 59:
        raise argparse.ArgumentTypeError("no such time: " + text)
    shift = 0
    if m[8]:
        if int(m[9]) > 23 or int(m[10]) > 59:
            raise argparse.ArgumentTypeError("no such offset: " + text)
        shift = (int(m[9]) * 60 + int(m[10])) * 60 * (1 if m[8] == "+" else -1)
    fraction = Fraction(int(m[7]), 10**len(m[7])) if m[7] else 0
    return (days * 86400 + hour * 3600 + minute * 60 + second - shift + fraction) * NS


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(message)


def parse(argv):
    a = Parser(allow_abbrev=False)
    a.add_argument("--tee", choices=("both", "one", "none"), default="both")
    a.add_argument("--tee-bytes", type=int, default=128)
    a.add_argument("--pair-window", dest="window", type=duration, default=2 * NS)
    a.add_argument("--scope", type=cidr, action="append")
    a.add_argument("--both-ends", action="store_true")
    a.add_argument("--observer-mac", type=mac)
    a.add_argument("--since", type=instant)
    a.add_argument("--until", type=instant)
    a.add_argument("--by", choices=("address", "pair"), default="address")
    a.add_argument("--sort", choices=("total", "sent", "received", "addr"), default="total")
    a.add_argument("--top", type=int)
    a.add_argument("--max-addresses", type=int, default=262144)
    a.add_argument("--max-pairs", type=int, default=1048576)
    a.add_argument("--outcomes", action="store_true")
    a.add_argument("files", nargs="+")
    o = a.parse_args(argv)
    if o.scope is None:
        o.scope = [cidr(c) for c in DEFAULT_SCOPE]
    return o


def run(argv):
    """(exit code, standard output, outcomes or None, causes)"""
    try:
        o = parse(argv)
    except UsageError as e:
        return 2, b"", None, [str(e)]
    causes = []
    files = []
    for name in o.files:
        try:
            files.append((name, open_capture(name)))
        except (OSError, NotACapture) as e:
            causes.append("%s: %s" % (name, getattr(e, "strerror", None) or e))
    if not files:
        return 2, b"", None, causes
    counter = Counter(o)
    for time, link, original, data in merged(files, causes):
        if (o.since is None or o.since <= time) and (o.until is None or time < o.until):
            counter.frame(time, link, original, data)
    lines = pair_table(counter, o) if o.by == "pair" else address_table(counter, o)
    text = "".join(line + "\r\n" for line in lines)
    return (1 if causes else 0), text.encode(), counter.outcomes, causes


def main():
    code, out, outcomes, causes = run(sys.argv[1:])
    for cause in causes:
        print(cause.replace("\n", " "), file=sys.stderr)
    if outcomes is not None and "--outcomes" in sys.argv:
        print(json.dumps(outcomes), file=sys.stderr)
    sys.stdout.buffer.write(out)
    sys.stdout.buffer.flush()
    sys.exit(code)


if __name__ == "__main__":
    main()
