"""Capture files, byte by byte: pcap, pcapng, and compression without a compressor."""
import struct
import zlib

NS = 10**9
# 2026-01-01T00:00:00Z: the zero of all times below.
T0 = 1767225600


class Frame:
    """A frame `at` so many nanoseconds after T0; `cut` shortens what was captured, `original` what the record claims."""

    def __init__(self, at, data, cut=None, original=None):
        self.time = T0 * NS + at
        self.data = data[:cut]
        self.original = len(data) if original is None else original


def pcap(frames, link=1, order="<", magic=0xA1B2C3D4, version=(2, 4), swapped=False, snaplen=262144):
    unit = 1 if magic == 0xA1B23C4D else 1000
    out = struct.pack(order + "IHHiIII", magic, *version, 0, 0, snaplen, link)
    for f in frames:
        assert f.time % unit == 0, "a time that the file cannot hold"
        seconds, rest = divmod(f.time, NS)
        out += record(seconds, rest // unit, f, order, swapped, magic == 0xA1B2CD34)
    return out


def record(seconds, fraction, f, order="<", swapped=False, modified=False):
    lengths = (f.original, len(f.data)) if swapped else (len(f.data), f.original)
    out = struct.pack(order + "IIII", seconds, fraction, *lengths)
    if modified:
        out += struct.pack(order + "IHBB", 1, 0x0800, 0, 0)
    return out + f.data


def nano(frames, link=1, **more):
    return pcap(frames, link, magic=0xA1B23C4D, **more)


def block(kind, body, order="<", length=None, trailer=None):
    body += bytes(-len(body) % 4)
    length = len(body) + 12 if length is None else length
    trailer = length if trailer is None else trailer
    return struct.pack(order + "II", kind, length) + body + struct.pack(order + "I", trailer)


def shb(order="<", version=1, magic=0x1A2B3C4D, section_length=2**64 - 1):
    return block(0x0A0D0D0A, struct.pack(order + "IHHQ", magic, version, 0, section_length), order)


def option(code, value, order="<"):
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def idb(link=1, snaplen=0, options=b"", order="<"):
    return block(1, struct.pack(order + "HHI", link, 0, snaplen) + options, order)


def tsresol(value, order="<"):
    return option(9, bytes([value]), order)


def tsoffset(seconds, order="<"):
    return option(14, struct.pack(order + "q", seconds), order)


def epb(stamp, data, interface=0, original=None, captured=None, order="<", **more):
    head = struct.pack(order + "IIIII", interface, stamp >> 32, stamp & 0xFFFFFFFF,
                       len(data) if captured is None else captured, len(data) if original is None else original)
    return block(6, head + data, order, **more)


def pb(stamp, data, interface=0, order="<"):
    head = struct.pack(order + "HHIIII", interface, 0, stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data))
    return block(2, head + data, order)


def spb(data, original=None, order="<"):
    return block(3, struct.pack(order + "I", len(data) if original is None else original) + data, order)


def pcapng(frames, link=1, order="<"):
    """One section, one interface, microseconds."""
    out = shb(order) + idb(link, order=order)
    for f in frames:
        out += epb(f.time // 1000, f.data, original=f.original, order=order)
    return out


def gzip(data, crc=None):
    """One gzip member with one stored block."""
    assert len(data) < 65536
    crc = zlib.crc32(data) if crc is None else crc
    stored = b"\x01" + struct.pack("<HH", len(data), len(data) ^ 0xFFFF) + data
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + stored + struct.pack("<II", crc, len(data))


def zstd(data, checksum=None):
    """One zstd frame with one raw block, and a checksum that is almost surely wrong if one is given."""
    flags = 4 if checksum is not None else 0
    # A window of 1 << 27 bytes at most is what decoders accept unasked; 1 << 17 is enough here.
    out = b"\x28\xb5\x2f\xfd" + bytes([flags, (17 - 10) << 3])
    assert len(data) < 1 << 17
    out += (len(data) << 3 | 1).to_bytes(3, "little") + data
    return out + (checksum or b"")
