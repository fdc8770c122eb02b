"""esp_build.py - ESP packets of every kind, right ones and wrong ones, for tests/oracle_esp_table.py.

AEADs are sealed by python3-cryptography as a whole, while esp_model.py opens them as counter modes and
checks their ICV apart: two ways that must meet.
"""

import struct

import esp_model
from esp_model import Cipher, algorithms, checksum, modes

ETHERNET = bytes.fromhex("020000000002" "020000000001")
ADDRESSES = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
INSIDE = {4: ("10.1.2.3", "10.2.3.4"), 6: ("2001:db8:a::3", "2001:db8:b::4")}


def packed(text):
    return esp_model.ipaddress.ip_address(text).packed


def ipv4(src, dst, protocol, payload, options=b"", fragment=0x4000, total=None, ident=0x1234):
    n = 20 + len(options)
    header = bytearray(struct.pack(">BBHHHBBH", 0x40 | n // 4, 0, total or n + len(payload), ident,
                                   fragment, 61, protocol, 0) + packed(src) + packed(dst) + options)
    header[10:12] = checksum(bytes(header)).to_bytes(2, "big")
    return bytes(header) + payload


def ipv6(src, dst, protocol, payload, extensions=()):
    """extensions: (type, bytes whose first is to be the next header)."""
    chain = b""
    kinds = [kind for kind, _data in extensions] + [protocol]
    for (_kind, data), following in zip(extensions, kinds[1:]):
        chain += bytes([following]) + data[1:]
    return struct.pack(">IHBB", 0x60012345, len(chain + payload), kinds[0], 60) + packed(src) + \
        packed(dst) + chain + payload


def ip(family, src, dst, protocol, payload):
    return (ipv4 if family == 4 else ipv6)(src, dst, protocol, payload)


def udp(sport, dport, payload, length=None):
    return struct.pack(">HHHH", sport, dport, length or 8 + len(payload), 0xBEEF) + payload


def tcp(sport, dport, flags, payload, offset=5):
    return struct.pack(">HHIIBBHHH", sport, dport, 1, 2, offset << 4, flags, 512, 0xCAFE, 0) + payload


def ethernet(packet, tags=()):
    data = ETHERNET
    for kind, tag in tags:
        data += struct.pack(">HH", kind, tag)
    return data + (b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet


def padded(sa, body, protocol, n_pad=None):
    """Payload, padding, trailer.  n_pad: the least, if more than what alignment asks for."""
    unit = max(sa.block, 4)
    least = -(len(body) + 2) % unit
    n_pad = least if n_pad is None else n_pad + -(len(body) + 2 + n_pad) % unit
    return body + bytes(range(1, n_pad + 1)) + bytes([n_pad, protocol])


def encrypt(sa, iv, plain):
    if sa.cipher == "NULL":
        return plain
    if sa.cipher == "AES_CTR":
        return esp_model.counter_stream(sa, iv, plain)
    algorithm = algorithms.TripleDES if sa.cipher == "3DES_CBC" else algorithms.AES
    return Cipher(algorithm(sa.enc_key), modes.CBC(iv)).encryptor().update(plain)


def seal(sa, seq, plain, dice):
    """ESP around a payload with its trailer."""
    iv, high = dice.randbytes(sa.iv_bytes), sa.esn_high.to_bytes(4, "big") if sa.esn else b""
    front = struct.pack(">II", sa.spi, seq)
    if sa.is_aead:
        salt, aead = esp_model.aead_of(sa)
        extra = front[:4] + high + front[4:]
        if sa.cipher == "AES_GMAC":
            return front + iv + plain + aead.encrypt(salt + iv, b"", extra + iv + plain)
        sealed = aead.encrypt(salt + iv, plain, extra)
        return front + iv + sealed[:len(plain) + sa.icv_bytes]
    esp = front + iv + encrypt(sa, iv, plain)
    if sa.integ is None or sa.integ.startswith("ANY"):
        return esp + dice.randbytes(sa.icv_bytes)
    return esp + esp_model.icv_of(sa, esp, high)


def carried(sa, how, esp):
    """The outer frame: how is none, udp or tcp."""
    family = 6 if ":" in sa.dst else 4
    if how == "udp":
        return ethernet(ip(family, sa.src, sa.dst, 17, udp(4500, 4500, esp)))
    if how == "tcp":
        message = struct.pack(">H", len(esp) + 2) + esp
        return ethernet(ip(family, sa.src, sa.dst, 6, tcp(4500, 40000, 0x18, message)))
    return ethernet(ip(family, sa.src, sa.dst, 50, esp))
