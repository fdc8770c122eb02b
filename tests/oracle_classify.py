"""oracle_classify.py - our classes beside tshark's dissection, frame by frame.

Usage: oracle_classify.py CLASSIFY_DUMP SOURCE_ROOT

Reads tests/data and, where the folder exists, $GATECAP_SHARED/pcaps/{real,scapy,public} (default:
shared/ beside the source root).  tshark says what protocol a frame carries; what it does not judge
(fragments behind the first, an endpoint's whole TCP flow) is worked out here from its fields, by other
means than ours.  A difference is an error unless it is written down in DIFFERENCES: for this file,
these frames, with the reason; and one that is written down and does not occur is an error too.

Exit: 0, or 1 when a frame differs.  77 (skipped) when tshark is missing.
"""

import os
import shutil
import subprocess
import sys

FIELDS = ["frame.number", "frame.time_epoch", "frame.protocols", "ip.version", "ipv6.version",
          "ip.src", "ip.dst", "ip.proto", "ip.id", "ip.frag_offset", "ip.flags.mf",
          "ipv6.src", "ipv6.dst", "ipv6.fraghdr.ident", "ipv6.fraghdr.offset", "ipv6.fraghdr.more",
          "ipv6.fraghdr.nxt", "udp.srcport", "udp.dstport", "tcp.srcport", "tcp.dstport",
          "tcp.stream", "tcp.len", "udp.length", "tls.record.version", "openvpn.opcode"]
OPTIONS = ["-n", "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE",
           "-o", "tcp.desegment_tcp_streams:FALSE"]
# Names of layers between Ethernet and the transport header, which leave the class open.
BELOW = {"eth", "ethertype", "vlan", "ieee8021ad", "sll", "null", "raw", "ppp", "ip", "ipv6",
         "ipv6.hopopts", "ipv6.routing", "ipv6.fraghdr", "ipv6.dstopts", "ah"}

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


def layers(row):
    """The layers from the first one that could decide the class."""
    names = row["frame.protocols"].split(":")
    while names and names[0] in BELOW:
        names.pop(0)
    return names


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


def expected_class(row, streams):
    """What tshark's dissection says, from the outermost transport layer on."""
    names = layers(row)
    top = names[0] if names else ""
    if top == "esp":
        return "ESP"
    ports = {row["udp.srcport"], row["udp.dstport"]} if top == "udp" else {
        row["tcp.srcport"], row["tcp.dstport"]}
    if top == "udp":
        if "1194" in ports:
            return "OVPN"
        if "esp" in names[:3]:
            return "ESP"
        keepalive = names[:2] == ["udp", "udpencap"] and row["udp.length"] == "9"
        return "IKE" if "isakmp" in names[:3] or keepalive else "OTHER"
    if top == "tcp":
        if "1194" in ports or row["tcp.stream"] in streams:
            return "OVPN"
        if "4500" in ports:
            return "ESP" if "esp" in names[:3] else "IKE"
    return "OTHER"


def expected(rows, forced):
    """tshark's class of every frame, fragments inherited from their first within 30 s."""
    streams, firsts, classes = ovpn_streams(rows, forced), {}, []
    for row in rows:
        fragment = fragment_of(row)
        if fragment is None:
            classes.append(expected_class(row, streams))
            continue
        key, later = fragment
        time = float(row["frame.time_epoch"])
        if not later:
            firsts[key] = (time, expected_class(row, streams))
            classes.append(firsts[key][1])
        elif key in firsts and time - firsts[key][0] <= 30:
            classes.append(firsts[key][1])
        else:
            esp = "50" in (row["ip.proto"] if not row["ipv6.fraghdr.ident"]
                           else row["ipv6.fraghdr.nxt"],)
            classes.append("ESP" if esp else "OTHER")
    return classes


def ours(dump, path):
    run = subprocess.run([dump, path], capture_output=True, text=True, check=False)
    if run.returncode not in (0, 3):
        raise SystemExit("%s: %s" % (path, run.stderr.strip()))
    return [line.split()[1] for line in run.stdout.splitlines()], run.stderr.strip()


def compare(dump, path):
    """The sentences about what differs in one file, and how many frames were compared."""
    name = os.path.basename(path)
    rows = table(path, [])
    forced = table(path, ["-d", "tcp.port==443,openvpn"])
    want, faults = expected(rows, forced), []
    got, complaint = ours(dump, path)
    if name in UNREADABLE:
        sentence, reason = UNREADABLE[name]
        print("%s: %d of %d frames compared; %s" % (name, len(got), len(want), reason))
        if sentence not in complaint:
            faults.append("%s: our reader should say '%s', but says '%s'" % (
                name, sentence, complaint))
    elif len(want) != len(got):
        faults.append("%s: tshark reads %d frames, we read %d" % (name, len(want), len(got)))
    known = {}
    for (file, rule), (frames, class_, _reason) in DIFFERENCES.items():
        if file == name:
            known.update({frame: (class_, rule) for frame in frames})
    for number, (theirs, our) in enumerate(zip(want, got), 1):
        if number in known:
            class_, rule = known.pop(number)
            if our != class_ or our == theirs:
                faults.append("%s frame %d: rule '%s' says we differ with %s, but we say %s and "
                              "tshark %s" % (name, number, rule, class_, our, theirs))
        elif theirs != our:
            faults.append("%s frame %d: we say %s, tshark %s (%s)" % (
                name, number, our, theirs, rows[number - 1]["frame.protocols"]))
    faults += ["%s frame %d: no such frame, but a rule names it" % (name, n) for n in known]
    return faults, min(len(want), len(got)), want


def capture_files(folder):
    """The outer captures of a folder: not the plaintext beside them."""
    for name in sorted(os.listdir(folder)):
        if name.endswith((".pcap", ".pcapng", ".cap")) and not name.endswith(
                (".inner.pcap", ".tap.pcap", ".plain.pcap")):
            yield os.path.join(folder, name)


def folders(root):
    shared = os.environ.get("GATECAP_SHARED", os.path.join(root, "..", "shared"))
    yield os.path.join(root, "tests", "data")
    for name in ("real", "scapy", "public"):
        folder = os.path.join(shared, "pcaps", name)
        if os.path.isdir(folder):
            yield folder
        else:
            print("LEFT OUT: %s does not exist; set GATECAP_SHARED to the folder that has "
                  "pcaps/%s" % (folder, name))


def main():
    dump, root = sys.argv[1:3]
    if shutil.which("tshark") is None:
        print("LEFT OUT: everything; tshark is not installed.")
        return 77
    faults, n_files, n_frames, totals = [], 0, 0, {}
    for folder in folders(root):
        for path in capture_files(folder):
            found, n, classes = compare(dump, path)
            faults += found
            n_files, n_frames = n_files + 1, n_frames + n
            for class_ in classes:
                totals[class_] = totals.get(class_, 0) + 1
    print("\n".join(faults))
    print("%d files, %d frames, tshark says %s, %d differences without a reason" % (
        n_files, n_frames, totals, len(faults)))
    return 1 if faults or n_frames == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
