"""Packets and frames, byte by byte."""
import ipaddress
import struct

# Two clients, a third one, somebody on the internet, and the observer.
A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
A6, B6 = "fd00::1", "fd00::2"
X, X6 = "203.0.113.9", "2001:db8::9"
MAC_A, MAC_B, MAC_C = "e2:00:00:00:00:0a", "e2:00:00:00:00:0b", "e2:00:00:00:00:0c"
MAC_O = "e2:00:00:00:00:0f"
BROADCAST = "ff:ff:ff:ff:ff:ff"

IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def checksum(header):
    total = sum(struct.unpack(">%dH" % (len(header) // 2), header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip4(src, dst, size, ident=0, ihl=5, protocol=17, flags=0, length=None, body=None, bad_checksum=False):
    """An IPv4 packet of `size` bytes; `length` is what its header says, if that is to differ."""
    start = struct.pack(">BBHHHBB", 0x40 | ihl, 0, size if length is None else length, ident, flags, 64, protocol)
    ends = ipaddress.IPv4Address(src).packed + ipaddress.IPv4Address(dst).packed
    options = bytes([1]) * max(0, (ihl - 5) * 4)
    check = 0xBAD0 if bad_checksum else checksum(start + b"\0\0" + ends + options)
    header = start + struct.pack(">H", check) + ends + options
    return (header + (udp(size - len(header)) if body is None else body))[:size]


def ip6(src, dst, size, following=17, length=None, body=None):
    """An IPv6 packet of `size` bytes, its header's 40 included."""
    payload = size - 40 if length is None else length
    header = struct.pack(">IHBB", 6 << 28, payload, following, 64)
    header += ipaddress.IPv6Address(src).packed + ipaddress.IPv6Address(dst).packed
    return header + (udp(size - 40) if body is None else body)


def udp(size):
    """A UDP header without a checksum and zeros: a payload that dissectors understand."""
    return (struct.pack(">HHHH", 4000, 4001, max(size, 0) & 0xFFFF, 0) + bytes(max(0, size - 8)))[:max(size, 0)]


def ether_type(ip):
    return IPV6 if ip[:1] and ip[0] >> 4 == 6 else IPV4


def chain(ip, tags=(), kind=None):
    """The EtherTypes before a packet: its own, or tags (VLAN 5) and then its own."""
    kind = ether_type(ip) if kind is None else kind
    kinds = list(tags) + [kind]
    return struct.pack(">H", kinds[0]) + b"".join(struct.pack(">HH", 5, k) for k in kinds[1:])


def eth(ip, src=MAC_A, dst=MAC_B, tags=(), kind=None):
    return mac(dst) + mac(src) + chain(ip, tags, kind) + ip


def sll(ip, packet_type=0, tags=(), kind=None):
    head = struct.pack(">HHH", packet_type, 1, 6) + mac(MAC_A) + b"\0\0"
    return head + chain(ip, tags, kind) + ip


def sll2(ip, packet_type=0, tags=(), kind=None):
    types = chain(ip, tags, kind)
    head = types[:2] + struct.pack(">HIHBB", 0, 1, 1, packet_type, 6) + mac(MAC_A) + b"\0\0"
    return head + types[2:] + ip


def family(ip, number, order=">"):
    return struct.pack(order + "I", number) + ip
