"""oracle.py - what the oracles share: where captures lie, how tshark is asked, how files are read.

tshark is always asked without reassembly, so that a frame is judged by its own bytes, and with the
first (outermost) occurrence of a field.
"""

import os
import struct
import subprocess
import tempfile

OPTIONS = ["-n", "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE",
           "-o", "tcp.desegment_tcp_streams:FALSE"]
FIELDS = ["frame.number", "frame.time_epoch", "frame.protocols", "ip.version", "ipv6.version",
          "ip.src", "ip.dst", "ip.proto", "ip.id", "ip.frag_offset", "ip.flags.mf",
          "ipv6.src", "ipv6.dst", "ipv6.fraghdr.ident", "ipv6.fraghdr.offset", "ipv6.fraghdr.more",
          "ipv6.fraghdr.nxt", "udp.srcport", "udp.dstport", "tcp.srcport", "tcp.dstport",
          "tcp.stream", "tcp.len", "udp.length", "tls.record.version", "openvpn.opcode"]
FRAGMENT_AGE_S = 30

LINK_NULL, LINK_ETHERNET, LINK_PPP, LINK_RAW, LINK_SLL, LINK_SLL2 = 0, 1, 9, 101, 113, 276
SYNTHETIC = bytes.fromhex("020000000002" "020000000001")
IPV4, IPV6 = b"\x08\x00", b"\x86\xdd"

# (file, rule): frames, our class, the reason.
DIFFERENCES = {
    ("scapy-special.pcap", "routing header without a segment list"): (
        {55, 64}, "ESP",
        "The routing header is 8 bytes of type 4 (segment routing) with 0 segments left.  tshark wants "
        "the segment list of RFC 8754 and stops; a receiver skips a routing header with nothing left "
        "by its length (RFC 8200 4.4), and finds ESP.  The file's own sa.json says ESP too."),
    ("tcpdump__isakmp-pointer-loop.pcap", "initiator cookie of zeros"): (
        {1}, "IKE",
        "Ports 500 and 500.  tshark's dissector turns a message with a zero initiator cookie down; "
        "for us port 500 is the class, since a broken message is what a user looks for."),
}

# Files of which libpcap reads less than tshark: what our reader must say, and why that is right.
UNREADABLE = {
    "pcpp__ipsec.pcapng": ("different from the snapshot length of the first interface",
                           "libpcap refuses files whose interfaces differ in snap length"),
}


def table(path, extra):
    """One dict a frame, of the first (outermost) occurrence of each field."""
    args = ["tshark", "-r", path, *OPTIONS, *extra, "-T", "fields", "-E", "separator=/t",
            "-E", "occurrence=f"]
    for field in FIELDS:
        args += ["-e", field]
    # tshark ends with 2 on a file that is cut; what it printed before that still counts.
    out = subprocess.run(args, capture_output=True, text=True, check=False).stdout
    return [dict(zip(FIELDS, line.split("\t"))) for line in out.splitlines()]


def select(path, display_filter, extra=()):
    """The numbers of the frames that a display filter selects."""
    run = subprocess.run(["tshark", "-r", path, *OPTIONS, *extra, "-Y", display_filter,
                          "-T", "fields", "-e", "frame.number"],
                         capture_output=True, text=True, check=False)
    if run.returncode not in (0, 2) or "was unexpected" in run.stderr:
        raise SystemExit("tshark did not take %s: %s" % (display_filter, run.stderr))
    return {int(line) for line in run.stdout.split()}


def is_true(text):
    return text in ("1", "True")


def fragment_of(row):
    """(key, later) of a fragment, else None.  Only the outermost IP header counts."""
    if row["ip.version"] and not row["ipv6.version"]:
        offset, more = int(row["ip.frag_offset"] or 0), is_true(row["ip.flags.mf"])
        if offset or more:
            return (row["ip.src"], row["ip.dst"], row["ip.id"], row["ip.proto"]), offset != 0
    elif row["ipv6.fraghdr.ident"]:
        offset, more = int(row["ipv6.fraghdr.offset"]), is_true(row["ipv6.fraghdr.more"])
        if offset or more:
            return (row["ipv6.src"], row["ipv6.dst"], row["ipv6.fraghdr.ident"]), offset != 0
    return None


def inherit(rows, judge, without_first):
    """What each frame is: judge(row), but for later fragments that of their first, if it came within
    30 s, else without_first(row)."""
    firsts, out = {}, []
    for row in rows:
        fragment = fragment_of(row)
        if fragment is None:
            out.append(judge(row))
            continue
        key, later = fragment
        time = float(row["frame.time_epoch"])
        if not later:
            firsts[key] = (time, judge(row))
            out.append(firsts[key][1])
        elif key in firsts and time - firsts[key][0] <= FRAGMENT_AGE_S:
            out.append(firsts[key][1])
        else:
            out.append(without_first(row))
    return out


def ovpn_streams(rows, forced):
    """TCP streams on 443 that are OpenVPN: tshark finds no TLS record in them and, made to dissect
    OpenVPN there, finds an opcode in their first payload."""
    tls, first = set(), {}
    for row, other in zip(rows, forced):
        if "443" not in (row["tcp.srcport"], row["tcp.dstport"]) or not int(row["tcp.len"] or 0):
            continue
        stream = row["tcp.stream"]
        if row["tls.record.version"]:
            tls.add(stream)
        first.setdefault(stream, other["openvpn.opcode"])
    return {s for s, opcode in first.items()
            if s not in tls and opcode and 1 <= int(opcode, 0) <= 11}


def capture_files(folder, plaintext=False):
    """The outer captures of a folder, or the plaintext beside them."""
    for name in sorted(os.listdir(folder)):
        is_plaintext = name.endswith((".inner.pcap", ".tap.pcap", ".plain.pcap"))
        if name.endswith((".pcap", ".pcapng", ".cap")) and is_plaintext == plaintext:
            yield os.path.join(folder, name)


def folders(root):
    """tests/data, and the shared folders where they exist; says what is left out."""
    shared = os.environ.get("GATECAP_SHARED", os.path.join(root, "..", "shared"))
    yield os.path.join(root, "tests", "data")
    for name in ("real", "scapy", "public"):
        folder = os.path.join(shared, "pcaps", name)
        if os.path.isdir(folder):
            yield folder
        else:
            print("LEFT OUT: %s does not exist; set GATECAP_SHARED to the folder that has "
                  "pcaps/%s" % (folder, name))


class Frame:
    """One frame: ns since 1970, bytes, original length."""

    __slots__ = ("time_ns", "data", "wire_len")

    def __init__(self, time_ns, data, wire_len):
        self.time_ns, self.data, self.wire_len = time_ns, data, wire_len


def read_classic(data):
    """(link type, snap length, frames, bytes left over) of a classic PCAP."""
    magic = data[:4]
    order = "<" if magic in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    unit = 1 if magic in (b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d") else 1000
    snap, link = struct.unpack_from(order + "II", data, 16)
    frames, at = [], 24
    while at + 16 <= len(data):
        seconds, part, caplen, wire_len = struct.unpack_from(order + "IIII", data, at)
        if at + 16 + caplen > len(data):
            break
        frames.append(Frame(seconds * 10**9 + part * unit, data[at + 16:at + 16 + caplen], wire_len))
        at += 16 + caplen
    return link & 0xFFFF, snap, frames, len(data) - at


def read_capture(path):
    """(link type, frames) of any capture; pcapng through Wireshark's own editcap."""
    with open(path, "rb") as file:
        data = file.read()
    if data[:4] == b"\x0a\x0d\x0d\x0a":
        with tempfile.TemporaryDirectory() as folder:
            classic = os.path.join(folder, "classic.pcap")
            subprocess.run(["editcap", "-F", "nsecpcap", path, classic], capture_output=True,
                           check=False)
            with open(classic, "rb") as file:
                data = file.read()
    link, _snap, frames, _left = read_classic(data)
    return link, frames


def write_capture(path, link, frames, nano=True):
    """A classic PCAP of these frames."""
    unit = 1 if nano else 1000
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHIIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, 262144, link))
        for f in frames:
            file.write(struct.pack("<IIII", f.time_ns // 10**9, f.time_ns % 10**9 // unit,
                                   len(f.data), f.wire_len))
            file.write(f.data)


def to_ethernet(link, frame):
    """What capture_file.h promises of link types that are not Ethernet."""
    if link == LINK_ETHERNET:
        return frame
    if link == LINK_RAW:
        header, kind = 0, IPV6 if frame.data[:1] and frame.data[0] >> 4 == 6 else IPV4
    elif link == LINK_NULL:
        header, kind = 4, IPV6 if frame.data[4:5] and frame.data[4] >> 4 == 6 else IPV4
    elif link == LINK_SLL:
        header, kind = 16, frame.data[14:16]
    elif link == LINK_SLL2:
        header, kind = 20, frame.data[:2]
    else:
        return frame
    return Frame(frame.time_ns, SYNTHETIC + kind + frame.data[header:],
                 14 + frame.wire_len - header)
