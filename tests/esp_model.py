"""esp_model.py - ESP as the RFCs have it, in Python: what is in a packet, and what a capture keeps of it.

The slow twin of the ESP stage, for tests/oracle_esp.py.  It shares no code with gatecap: parsing by
struct, ciphers by python3-cryptography, AES-XCBC by its RFC, rules by docs/semantics.md.  Whether it is
right is asked of others first: of the plaintext beside the captures, and of tshark.

RFC 4303 (ESP), 3948 (in UDP), 9329 (in TCP), 2451, 3602, 3686, 4106, 4309, 4543, 7634 (ciphers),
2403, 2404, 3566, 4868 (ICVs).
"""

import copy
import functools
import hashlib
import hmac
import ipaddress
import json
import struct
import warnings

import oracle

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

ESP, IKE, OVPN, OTHER = 1, 2, 8, 0
TAGS = (0x8100, 0x88A8, 0x9100)
EXTENSIONS = (0, 43, 44, 51, 60)
USUAL = (1, 2, 4, 33, 41, 47, 50, 51, 58, 89, 103, 112, 115, 132, 136, 253, 254)  # in transport mode
LIKELY = (0, 4, 6, 17, 41, 43, 44, 47, 50, 51, 58, 60, 132)  # in an IPv6 header, where no trailer says more

# ICV bytes and hash of each integrity algorithm of NAME.sa.json.
HASHES = {"HMAC_MD5_96": (12, hashlib.md5), "HMAC_SHA1_96": (12, hashlib.sha1),
          "HMAC_SHA2_256_96": (12, hashlib.sha256), "HMAC_SHA2_256_128": (16, hashlib.sha256),
          "HMAC_SHA2_384_192": (24, hashlib.sha384), "HMAC_SHA2_512_256": (32, hashlib.sha512)}
ICV_BYTES = {None: 0, "AES_XCBC_96": 12, "ANY_64": 8, "ANY_96": 12, "ANY_128": 16, "ANY_192": 24,
             "ANY_256": 32, **{name: n for name, (n, _hash) in HASHES.items()}}
# Bytes of the IV in each packet, and of a block.
SHAPES = {"NULL": (0, 1), "3DES_CBC": (8, 8), "AES_CBC": (16, 16), "AES_CTR": (8, 1),
          "AES_CCM": (8, 1), "AES_GCM": (8, 1), "AES_GMAC": (8, 1), "CHACHA20_POLY1305": (8, 1)}

# The names in an esp_sa file.
ENCRYPTION = {"NULL": "NULL", "3DES_CBC": "TripleDES-CBC [RFC2451]", "AES_CBC": "AES-CBC [RFC3602]",
              "AES_CTR": "AES-CTR [RFC3686]", "CHACHA20_POLY1305": "ChaCha20-Poly1305 [RFC7634]",
              "AES_GMAC": "AES-GMAC [RFC4543]", "CAST5_CBC": "CAST5-CBC [RFC2144]",
              **{"AES_GCM_%d" % n: "AES-GCM with %d octet ICV [RFC4106]" % n for n in (8, 12, 16)},
              **{"AES_CCM_%d" % n: "AES-CCM with %d octet ICV [RFC4309]" % n for n in (8, 12, 16)}}
AUTHENTICATION = {None: "NULL", "HMAC_MD5_96": "HMAC-MD5-96 [RFC2403]",
                  "HMAC_SHA1_96": "HMAC-SHA-1-96 [RFC2404]",
                  "HMAC_SHA2_256_128": "HMAC-SHA-256-128 [RFC4868]",
                  "HMAC_SHA2_384_192": "HMAC-SHA-384-192 [RFC4868]",
                  "HMAC_SHA2_512_256": "HMAC-SHA-512-256 [RFC4868]",
                  "HMAC_SHA2_256_96": "HMAC-SHA-256-96 [draft-ietf-ipsec-ciph-sha-256-00]",
                  "AES_XCBC_96": "AES-XCBC-MAC-96 [RFC3566]",
                  **{"ANY_%d" % n: "ANY %d bit authentication [no checking]" % n
                     for n in (64, 96, 128, 192, 256)}}


class Sa:
    """One security association, as NAME.sa.json has it.  is_told: the file of keys says its mode and,
    in two columns that newer Wiresharks have, that its sequence numbers are extended."""

    def __init__(self, row):
        self.spi, self.src, self.dst = int(row["spi"], 16), row.get("src") or "*", row["dst"]
        self.enc, self.integ = row["enc"], row.get("integ")
        self.enc_key, self.auth_key = bytes.fromhex(row["enc_key"]), bytes.fromhex(row["auth_key"])
        self.esn, self.esn_high = bool(row.get("esn")), row.get("esn_hi", 0)
        self.mode, self.is_told = row.get("mode"), False
        self.cipher = "_".join(p for p in self.enc.split("_") if p not in ("8", "12", "16"))
        self.is_aead = self.cipher in ("AES_CCM", "AES_GCM", "AES_GMAC", "CHACHA20_POLY1305")
        last = self.enc.rsplit("_", 1)[-1]
        own = int(last) if last.isdigit() else 16
        self.icv_bytes = own if self.is_aead else ICV_BYTES[self.integ]
        self.iv_bytes, self.block = SHAPES.get(self.cipher, (0, 1))

    def row(self):
        """As NAME.sa.json has it."""
        return {"spi": "%#010x" % self.spi, "src": self.src, "dst": self.dst, "enc": self.enc,
                "integ": self.integ, "enc_key": self.enc_key.hex(), "auth_key": self.auth_key.hex(),
                "esn": self.esn, "esn_hi": self.esn_high, "mode": self.mode}

    def told_mode(self):
        return self.mode if self.is_told else None

    def line(self, src=None, dst=None, spi=None):
        """As an esp_sa file has it."""
        fields = ["IPv6" if ":" in self.dst else "IPv4", src or self.src, dst or self.dst,
                  spi or "%#010x" % self.spi, ENCRYPTION[self.enc],
                  "0x" + self.enc_key.hex() if self.enc_key else "", AUTHENTICATION[self.integ],
                  "0x" + self.auth_key.hex() if self.auth_key else ""]
        if self.is_told and self.esn:
            fields += ["64-bit", "%#010x" % self.esn_high]
        line = ",".join('"%s"' % f for f in fields)
        return "# gatecap: mode=%s\n%s" % (self.told_mode(), line) if self.told_mode() else line

    def highs(self):
        """The high halves that are tried: none where nobody says that there is one."""
        if not (self.is_told and self.esn):
            return (b"",)
        tries = (self.esn_high, self.esn_high + 1 & 0xFFFFFFFF, 0, 1)
        return [n.to_bytes(4, "big") for n in tries]


def load_sas(path):
    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    return [Sa(row) for row in document["esp"]], document


def write_lines(path, lines):
    with open(path, "w", encoding="utf-8") as file:
        file.write("".join(line + "\n" for line in lines))
    return path


def find_sa(sas, packet):
    """The first that fits, the exact ones before those with wildcards."""
    spi = struct.unpack(">I", packet.esp[:4])[0]
    fits = [sa for sa in sas if sa.spi == spi and sa.dst in (packet.dst, "*")
            and sa.src in (packet.src, "*")]
    fits.sort(key=lambda sa: sa.dst == "*")
    return fits[0] if fits else None


# Ciphers.

def counter_stream(sa, iv, data):
    """The counter mode inside GCM, CCM, CTR and ChaCha20, from the first byte of the payload."""
    if sa.cipher == "CHACHA20_POLY1305":
        nonce = struct.pack("<I", 1) + sa.enc_key[-4:] + iv
        cipher = Cipher(algorithms.ChaCha20(sa.enc_key[:-4], nonce), mode=None)
    elif sa.cipher == "AES_CCM":  # L - 1 = 3: nonces of 11 bytes
        cipher = Cipher(algorithms.AES(sa.enc_key[:-3]),
                        modes.CTR(b"\x03" + sa.enc_key[-3:] + iv + b"\0\0\0\x01"))
    else:
        first = 2 if sa.cipher == "AES_GCM" else 1
        cipher = Cipher(algorithms.AES(sa.enc_key[:-4]),
                        modes.CTR(sa.enc_key[-4:] + iv + struct.pack(">I", first)))
    return cipher.decryptor().update(data)


def decrypt(sa, iv, data):
    if sa.cipher in ("NULL", "AES_GMAC"):
        return data
    if sa.block == 1:
        return counter_stream(sa, iv, data)
    algorithm = algorithms.TripleDES if sa.cipher == "3DES_CBC" else algorithms.AES
    return Cipher(algorithm(sa.enc_key), modes.CBC(iv)).decryptor().update(data)


@functools.lru_cache(maxsize=4096)
def aes_block(key, data):
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(data)


def xcbc_96(key, data):
    """RFC 3566."""
    k1, k2, k3 = (aes_block(key, bytes([n]) * 16) for n in (1, 2, 3))
    blocks = [data[i:i + 16] for i in range(0, len(data), 16)] or [b""]
    last = blocks.pop()
    state = bytes(16)
    for block in blocks:
        state = aes_block.__wrapped__(k1, xor(state, block))
    if len(last) == 16:
        last = xor(last, k2)
    else:
        last = xor(last + b"\x80" + bytes(15 - len(last)), k3)
    return aes_block.__wrapped__(k1, xor(state, last))[:12]


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def aead_of(sa):
    key, salt_bytes = sa.enc_key, 3 if sa.cipher == "AES_CCM" else 4
    salt, key = key[-salt_bytes:], key[:-salt_bytes]
    if sa.cipher == "CHACHA20_POLY1305":
        return salt, ChaCha20Poly1305(key)
    if sa.cipher == "AES_CCM":
        return salt, AESCCM(key, tag_length=sa.icv_bytes)
    return salt, AESGCM(key)


def icv_of(sa, esp, high):
    """The ICV that RFC and key ask for; esp ends in front of it.  high: of an ESN, 4 bytes, or none.
    plain for AEADs: esp holds ciphertext, so theirs is found by icv_is_good()."""
    data = esp + high
    if sa.integ == "AES_XCBC_96":
        return xcbc_96(sa.auth_key, data)
    n, function = HASHES[sa.integ]
    return hmac.new(sa.auth_key, data, function).digest()[:n]


def icv_is_good(sa, esp, high):
    """Of a whole packet, for one high half (b"" or 4 bytes); None: nothing is known of its ICV."""
    body, icv = esp[:len(esp) - sa.icv_bytes], esp[len(esp) - sa.icv_bytes:]
    if not sa.is_aead:
        if sa.integ is None or sa.integ.startswith("ANY"):
            return None
        return icv_of(sa, body, high) == icv
    salt, aead = aead_of(sa)
    nonce, extra = salt + body[8:16], body[:4] + high + body[4:8]
    try:
        if sa.cipher == "AES_GMAC":
            aead.decrypt(nonce, icv, extra + body[8:])
        elif sa.cipher == "AES_GCM":
            key = Cipher(algorithms.AES(sa.enc_key[:-4]),
                         modes.GCM(nonce, icv, min_tag_length=sa.icv_bytes)).decryptor()
            key.authenticate_additional_data(extra)
            key.update(body[16:])
            key.finalize()
        else:
            aead.decrypt(nonce, body[16:] + icv, extra)
    except InvalidTag:
        return False
    return True


# Outer packets.

class Packet:
    """One outer frame: where its headers lie, its class, its ESP."""

    def __init__(self, frame):
        self.frame = frame
        self.bits, self.esp, self.why = OTHER, None, None
        self.fragment = None  # (key, is_later)
        self.stream = None    # of TCP
        self.is_whole = True  # to the end of ESP
        self.esp_len = None   # as its headers say; None where a fragment hides it
        self.src = self.dst = None
        self.kept = []        # IP header and what stays in front of the payload, for transport mode
        self.protocol_at = None
        self._parse()

    def _parse(self):
        data, at = self.frame.data, 12
        for _ in range(5):
            kind = int.from_bytes(data[at:at + 2], "big")
            if kind not in TAGS:
                break
            at += 4
        else:
            return
        self.link_bytes = at + 2
        self.l3 = at + 2
        if kind == 0x0800:
            self._parse_ipv4(data[self.l3:])
        elif kind == 0x86DD:
            self._parse_ipv6(data[self.l3:])

    def _parse_ipv4(self, ip):
        if len(ip) < 20:
            return
        header, total = (ip[0] & 15) * 4, int.from_bytes(ip[2:4], "big")
        if ip[0] >> 4 != 4 or header < 20 or (total and total < header) or len(ip) < header:
            return
        self.src, self.dst = (str(ipaddress.IPv4Address(ip[i:i + 4])) for i in (12, 16))
        word = int.from_bytes(ip[6:8], "big")
        if word & 0x3FFF:
            key = (self.src, self.dst, ip[4:6], ip[9])
            self.fragment = (key, bool(word & 0x1FFF))
        self.kept, self.version = [ip[:header]], 4
        self._parse_payload(ip[9], ip[header:total or len(ip)], (total or len(ip)) - header)

    def _parse_ipv6(self, ip):
        if len(ip) < 40:
            return
        self.src, self.dst = (str(ipaddress.IPv6Address(ip[i:i + 16])) for i in (8, 24))
        length = int.from_bytes(ip[4:6], "big")
        end = 40 + length if length else len(ip)
        at, protocol = 40, ip[6]
        self.kept, self.version = [ip[:40]], 6
        while protocol in (0, 43, 44, 60):
            if len(ip) < at + 8:
                return
            size = 8 if protocol == 44 else 8 * (ip[at + 1] + 1)
            if protocol == 44:
                word = int.from_bytes(ip[at + 2:at + 4], "big")
                if word & 0xFFF9:
                    self.fragment = ((self.src, self.dst, ip[at + 4:at + 8]), bool(word & 0xFFF8))
            if len(ip) < at + size:
                return
            self.kept.append(ip[at:at + size])
            protocol, at = ip[at], at + size
            if self.fragment and self.fragment[1]:
                break
        self._parse_payload(protocol, ip[at:end], end - at)

    def _parse_payload(self, protocol, payload, length):
        self.protocol = protocol
        if self.fragment and self.fragment[1]:
            return  # classes_of() settles it
        if protocol == 51:
            size = 4 * (payload[1] + 2) if len(payload) >= 12 else 0
            if size < 12:
                return
            protocol, payload, length = payload[0], payload[size:], length - size
        if protocol == 50:
            self._take_esp(payload, length)
        elif protocol == 17 and len(payload) >= 8:
            self._parse_udp(payload, length)
        elif protocol == 6 and len(payload) >= 20:
            self._parse_tcp(payload, length)

    def _parse_udp(self, payload, length):
        source, destination, size = struct.unpack(">HHH", payload[:6])
        if 1194 in (source, destination):
            self.bits = OVPN
        elif 500 in (source, destination):
            self.bits = IKE
        elif 4500 in (source, destination):
            inside, known = payload[8:size], min(length, size) - 8
            if known == 1 and inside[:1] == b"\xff" or inside[:4] == bytes(4):
                self.bits = IKE
            elif known > 4 and len(inside) >= 4:
                self._take_esp(inside, known)

    def _parse_tcp(self, payload, length):
        source, destination = struct.unpack(">HH", payload[:4])
        if 1194 in (source, destination):
            self.bits = OVPN
        elif 4500 in (source, destination):
            header = (payload[12] >> 4) * 4
            stream, n = payload[header:], length - header
            self.bits, self.stream = ESP, stream
            if n == 0 or stream.startswith(b"IKETCP") or stream[:3] == b"\0\x03\xff" or \
                    stream[2:6] == bytes(4):
                self.bits = IKE

    def _take_esp(self, esp, length):
        self.bits, self.esp = ESP, esp
        if self.fragment is None:
            self.esp_len = length
            self.is_whole = len(esp) >= length
        else:
            self.is_whole = False

    def in_tcp(self):
        """(packets, one for each ESP message that begins in a TCP segment, do they fill it)."""
        at, out = 0, []
        while at + 2 + 8 <= len(self.stream):
            size = int.from_bytes(self.stream[at:at + 2], "big")
            if size < 2 + 8:
                break
            if self.stream[at + 2:at + 6] != bytes(4):  # else IKE
                message = copy.copy(self)
                message.stream, message.esp_len = None, size - 2
                message.esp = self.stream[at + 2:at + size]
                message.is_whole = len(message.esp) == size - 2
                out.append(message)
            at += size
        return out, at == len(self.stream)


def packets_of(frames):
    """Every frame in the order of time, with the class that later fragments inherit."""
    packets = [Packet(f) for f in sorted(frames, key=lambda f: f.time_ns)]
    firsts = {}
    for p in packets:
        if p.fragment is None:
            continue
        key, is_later = p.fragment
        if not is_later:
            firsts[key] = (p.frame.time_ns, p.bits)
            continue
        first = firsts.get(key)
        if first and p.frame.time_ns - first[0] <= oracle.FRAGMENT_AGE_S * 10**9:
            p.bits = first[1]
        else:
            p.bits = ESP if p.protocol == 50 else OTHER
        p.why = "fragment"
    return packets


# What is inside.

class Inner:
    """A packet from inside the tunnel: its bytes as far as they are there, and its whole length."""

    def __init__(self, sa, packet, data, length):
        self.sa, self.data, self.length = sa, data[:length], length
        link = packet.frame.data[:packet.link_bytes - 2]
        link += oracle.IPV4 if data[0] >> 4 == 4 else oracle.IPV6
        self.frame = oracle.Frame(packet.frame.time_ns, link + self.data, len(link) + length)
        self.tuple = five_tuple(self.data)


class Outcome:
    """What became of one ESP packet: a name of the report's esp counts, and the inner packet."""

    def __init__(self, name, inner=None, is_unchecked=False):
        self.name, self.inner, self.is_unchecked = name, inner, is_unchecked


def checksum(header):
    total = sum(struct.unpack(">%dH" % (len(header) // 2), header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip_length(data, version):
    """The length that a plausible IP header gives, else None."""
    if version == 4:
        if len(data) < 20 or data[0] >> 4 != 4:
            return None
        header, total = (data[0] & 15) * 4, int.from_bytes(data[2:4], "big")
        if header < 20 or total < header or len(data) < header or checksum(data[:header]):
            return None
        return total
    if len(data) < 40 or data[0] >> 4 != 6:
        return None
    return 40 + int.from_bytes(data[4:6], "big")


def transport_packet(packet, protocol, payload):
    """The outer IP packet without ESP and what carried it."""
    kept = [bytearray(part) for part in packet.kept]
    if packet.version == 4:
        header = kept[0]
        header[9] = protocol
        header[2:4] = (len(header) + len(payload)).to_bytes(2, "big")
        header[10:12] = b"\0\0"
        header[10:12] = checksum(header).to_bytes(2, "big")
    else:
        if len(kept) > 1:
            kept[-1][0] = protocol
        else:
            kept[0][6] = protocol
        kept[0][4:6] = (sum(map(len, kept[1:])) + len(payload)).to_bytes(2, "big")
    return b"".join(kept) + payload


def transport_length(protocol, body, is_told):
    """How long the payload is by its own word, as far as it says; None: that cannot be."""
    if protocol == 6:
        header = body[12] >> 2 & 0x3C if len(body) >= 20 else 0
        return len(body) if 20 <= header <= len(body) else None
    if protocol == 17:  # TFC padding may follow where the payload says its length
        length = int.from_bytes(body[4:6], "big")
        return length if 8 <= length <= len(body) else None
    if protocol == 60:  # the one extension header that may stand behind ESP (RFC 4303, 3.1.1)
        fits = len(body) >= 8 and 8 * (body[1] + 1) <= len(body)
        return len(body) if fits else None
    if is_told:  # numbers that IANA has given out, without a gap up to 142
        known = protocol <= 142 and protocol not in (0, 43, 44) or protocol in USUAL
    else:
        known = protocol in USUAL
    return len(body) if known else None


def read_whole(sa, packet):
    """(name, inner) of a packet whose trailer is there (its ICV may be cut)."""
    esp = packet.esp
    cipher = esp[8 + sa.iv_bytes:packet.esp_len - sa.icv_bytes]
    plain = decrypt(sa, esp[8:8 + sa.iv_bytes], cipher)
    n_pad, protocol = plain[-2], plain[-1]
    if n_pad + 2 > len(plain):
        return "malformed", None
    body, pad = plain[:len(plain) - 2 - n_pad], plain[len(plain) - 2 - n_pad:-2]
    if pad != bytes(range(1, n_pad + 1)):
        return "malformed", None
    if protocol == 59:
        return "dummy", None
    if protocol in (4, 41) and sa.told_mode() != "transport":
        length = ip_length(body, 4 if protocol == 4 else 6)
        if length is None or length > len(body):
            return "malformed", None
        return "decrypted", Inner(sa, packet, body, length)
    length = transport_length(protocol, body, sa.told_mode() == "transport")
    if length is None or sa.told_mode() == "tunnel":
        return "malformed", None
    data = transport_packet(packet, protocol, body[:length])
    return "decrypted", Inner(sa, packet, data, len(data))


def read_part(sa, packet):
    """(name, inner) of a packet whose end is not here: no trailer says what it is."""
    esp, limit = packet.esp, None
    if packet.esp_len is not None:
        limit = packet.esp_len - 8 - sa.iv_bytes - sa.icv_bytes
    cipher = esp[8 + sa.iv_bytes:][:limit]
    cipher = cipher[:len(cipher) // sa.block * sa.block]
    if not cipher or sa.told_mode() == "transport":
        return "malformed", None
    plain = decrypt(sa, esp[8:8 + sa.iv_bytes], cipher)
    version = plain[0] >> 4
    length = ip_length(plain, version) if version in (4, 6) else None
    if length is None or limit is not None and length + 2 > limit:
        return "malformed", None
    ends_soon = limit is not None and limit - 2 - length <= 255
    if version == 6 and not ends_soon and (plain[7] == 0 or plain[6] not in LIKELY):  # no checksum
        return "malformed", None
    return "decrypted", Inner(sa, packet, plain, length)


def can_be(sa, packet):
    """Is it long enough, and a multiple of the cipher's block?"""
    front = 8 + sa.iv_bytes
    if packet.esp_len is None:
        return len(packet.esp) >= front
    payload = packet.esp_len - front - sa.icv_bytes
    return len(packet.esp) >= front and payload >= 2 and payload % sa.block == 0


def read(sas, packet, verify=False):
    """The outcomes of one outer packet of class ESP, one for each ESP packet in it."""
    if packet.why:
        return [Outcome(packet.why)]
    if packet.stream is None:
        return [read_one(sas, packet, verify)]
    messages, fit = packet.in_tcp()
    if not messages or not fit and find_sa(sas, messages[0]) is None:
        return [Outcome("tcp_partial")]  # the middle of a message looks like anything
    return [read_one(sas, message, verify) for message in messages]


def read_one(sas, packet, verify):
    if len(packet.esp) < 8:
        return Outcome("malformed")
    sa = find_sa(sas, packet)
    if sa is None:
        return Outcome("without_key")
    if sa.cipher not in SHAPES:
        return Outcome("unsupported")
    if not can_be(sa, packet):
        return Outcome("malformed")
    good = None
    if verify and packet.is_whole:
        good = [icv_is_good(sa, packet.esp, high) for high in sa.highs()]
        good = None if None in good else any(good)
    if good is False:
        return Outcome("bad_icv")
    has_trailer = packet.esp_len is not None and len(packet.esp) >= packet.esp_len - sa.icv_bytes
    name, inner = (read_whole if has_trailer else read_part)(sa, packet)
    return Outcome(name, inner, is_unchecked=verify and good is None and name == "decrypted")


# Filters.

def five_tuple(ip):
    """(src, dst, protocol, sport, dport, flags, fragment) of an IP packet; None for what it has not."""
    if ip[0] >> 4 == 4:
        at, protocol, word = (ip[0] & 15) * 4, ip[9], int.from_bytes(ip[6:8], "big")
        src, dst = ipaddress.IPv4Address(ip[12:16]), ipaddress.IPv4Address(ip[16:20])
        fragment = (bool(word & 0x1FFF), (src, dst, ip[4:6], protocol)) if word & 0x3FFF else None
    else:
        at, protocol, fragment = 40, ip[6], None
        src, dst = ipaddress.IPv6Address(ip[8:24]), ipaddress.IPv6Address(ip[24:40])
        while protocol in EXTENSIONS and len(ip) >= at + 8 and not (fragment and fragment[0]):
            size = {44: 8, 51: 4 * (ip[at + 1] + 2)}.get(protocol, 8 * (ip[at + 1] + 1))
            if protocol == 44 and int.from_bytes(ip[at + 2:at + 4], "big") & 0xFFF9:
                is_later = bool(int.from_bytes(ip[at + 2:at + 4], "big") & 0xFFF8)
                fragment = (is_later, (src, dst, ip[at + 4:at + 8]))
            protocol, at = ip[at], at + size
    sport = dport = flags = None
    if not (fragment and fragment[0]):
        if protocol in (6, 17, 33, 132, 136) and len(ip) >= at + 4:
            sport, dport = struct.unpack(">HH", ip[at:at + 4])
        if protocol == 6 and len(ip) >= at + 20:
            flags = ip[at + 13]
    return src, dst, protocol, sport, dport, flags, fragment


@functools.lru_cache(maxsize=None)
def network(text):
    return ipaddress.ip_network(text, strict=False)


def in_any(address, subnets):
    return not subnets or any(address.version == network(s).version and address in network(s)
                              for s in subnets)


def direction_matches(f, five, is_swapped, with_headers=True):
    src, dst, protocol, sport, dport, flags, _fragment = five
    if is_swapped:
        src, dst, sport, dport = dst, src, dport, sport
    wanted = max(f.get("TcpFlags", 0), 0)
    if not with_headers and (f.get("SourcePort") or f.get("DestinationPort") or wanted):
        return False
    return in_any(src, f.get("SourceSubnets")) and in_any(dst, f.get("DestinationSubnets")) and \
        (not f.get("Protocol") or protocol in f["Protocol"]) and \
        (not f.get("SourcePort") or sport in f["SourcePort"]) and \
        (not f.get("DestinationPort") or dport in f["DestinationPort"]) and \
        (not wanted or flags is not None and bool(flags & wanted))


def filter_matches(f, five, with_headers=True):
    swaps = (False,) if f.get("CaptureSingleDirectionTrafficOnly") else (False, True)
    return any(direction_matches(f, five, swap, with_headers) for swap in swaps)


def tests_nothing(f):
    return not any(f.get(k) for k in ("SourceSubnets", "DestinationSubnets", "SourcePort",
                                      "DestinationPort", "Protocol")) and f.get("TcpFlags", 0) <= 0


class Capture:
    """What one capture keeps of packets whose outcomes are known."""

    UNREADABLE = ("without_key", "unsupported", "malformed", "fragment", "bad_icv", "tcp_partial")

    def __init__(self, filter_data):
        self.bits = filter_data.get("TracingFlags", 11)
        self.filters = filter_data.get("Filters", [])
        self.firsts = {}  # verdicts of first inner fragments
        self.records, self.n_inner, self.esp = [], 0, {}

    def _verdict(self, inner):
        """The filters that match, with what inner fragments inherit."""
        five, time_ns = inner.tuple, inner.frame.time_ns
        fragment = five[6]
        if fragment is None:
            return [f for f in self.filters if filter_matches(f, five)]
        is_later, key = fragment
        key = (inner.sa, key)
        if not is_later:
            verdict = [f for f in self.filters if filter_matches(f, five)]
            self.firsts[key] = (time_ns, verdict)
            return verdict
        first = self.firsts.get(key)
        if first and time_ns - first[0] <= oracle.FRAGMENT_AGE_S * 10**9:
            return first[1]
        return [f for f in self.filters if filter_matches(f, five, with_headers=False)]

    def _count(self, outcome):
        self.esp[outcome.name] = self.esp.get(outcome.name, 0) + 1
        if outcome.is_unchecked:
            self.esp["unchecked"] = self.esp.get("unchecked", 0) + 1

    def take(self, packet, outcomes):
        if packet.bits != ESP or not self.filters:
            if packet.bits & self.bits:
                self.records.append(packet.frame)
            return
        if not self.bits & (ESP | OVPN):
            return  # whatever is inside, this capture does not want it
        is_wanted, inner = False, []
        for outcome in outcomes:
            self._count(outcome)
            if outcome.inner is None:
                is_wanted |= outcome.name in self.UNREADABLE and any(map(tests_nothing, self.filters))
                continue
            self.n_inner += 1
            verdict = self._verdict(outcome.inner)
            is_wanted |= any(not f.get("CaptureSingleDirectionTrafficOnly") for f in verdict)
            if verdict:
                inner.append(outcome.inner.frame)
        if is_wanted and self.bits & ESP:
            self.records.append(packet.frame)
        self.records += inner
