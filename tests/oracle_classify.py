"""oracle_classify.py - our classes beside tshark's dissection, frame by frame.

Usage: oracle_classify.py CLASSIFY_DUMP SOURCE_ROOT

Reads tests/data and, where the folder exists, $GATECAP_SHARED/pcaps/{real,scapy,public} (default:
shared/ beside the source root).  tshark says what protocol a frame carries; what it does not judge
(fragments behind the first, an endpoint's whole TCP flow) is worked out here from its fields, by other
means than ours.  A difference is an error unless it is written down in DIFFERENCES (oracle.py): for
this file, these frames, with the reason; and one that is written down and does not occur is an error
too.

Exit: 0, or 1 when a frame differs.  77 (skipped) when tshark is missing.
"""

import os
import shutil
import subprocess
import sys

import oracle

# Names of layers between Ethernet and the transport header, which leave the class open.
BELOW = {"eth", "ethertype", "vlan", "ieee8021ad", "sll", "null", "raw", "ppp", "ip", "ipv6",
         "ipv6.hopopts", "ipv6.routing", "ipv6.fraghdr", "ipv6.dstopts", "ah"}


def layers(row):
    """The layers from the first one that could decide the class."""
    names = row["frame.protocols"].split(":")
    while names and names[0] in BELOW:
        names.pop(0)
    return names


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


def without_first(row):
    esp = "50" in (row["ip.proto"] if not row["ipv6.fraghdr.ident"] else row["ipv6.fraghdr.nxt"],)
    return "ESP" if esp else "OTHER"


def expected(rows, forced):
    """tshark's class of every frame, fragments inherited from their first within 30 s."""
    streams = oracle.ovpn_streams(rows, forced)
    return oracle.inherit(rows, lambda row: expected_class(row, streams), without_first)


def ours(dump, path):
    run = subprocess.run([dump, path], capture_output=True, text=True, check=False)
    if run.returncode not in (0, 3):
        raise SystemExit("%s: %s" % (path, run.stderr.strip()))
    return [line.split()[1] for line in run.stdout.splitlines()], run.stderr.strip()


def compare(dump, path):
    """The sentences about what differs in one file, and how many frames were compared."""
    name = os.path.basename(path)
    rows = oracle.table(path, [])
    forced = oracle.table(path, ["-d", "tcp.port==443,openvpn"])
    want, faults = expected(rows, forced), []
    got, complaint = ours(dump, path)
    if name in oracle.UNREADABLE:
        sentence, reason = oracle.UNREADABLE[name]
        print("%s: %d of %d frames compared; %s" % (name, len(got), len(want), reason))
        if sentence not in complaint:
            faults.append("%s: our reader should say '%s', but says '%s'" % (
                name, sentence, complaint))
    elif len(want) != len(got):
        faults.append("%s: tshark reads %d frames, we read %d" % (name, len(want), len(got)))
    known = {}
    for (file, rule), (frames, class_, _reason) in oracle.DIFFERENCES.items():
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


def main():
    dump, root = sys.argv[1:3]
    if shutil.which("tshark") is None:
        print("LEFT OUT: everything; tshark is not installed.")
        return 77
    faults, n_files, n_frames, totals = [], 0, 0, {}
    for folder in oracle.folders(root):
        for path in oracle.capture_files(folder):
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
