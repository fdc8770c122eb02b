"""oracle_replay.py - what `gatecap replay` records beside what tshark's display filters select.

Usage: oracle_replay.py GATECAP SOURCE_ROOT [PART...]

Parts: outer (each capture: tracing flags x snap lengths), inner (each dimension of a filter over the
plaintext captures), files (cut files, link types, wrapping, determinism, refusals).  Default: all.

Compared are the frames themselves: bytes up to the snap length, original length, time, order.  Every
run's report is checked as well: its keys, its sums, its ledger.

Why our filter and tshark's are written differently, rule by rule:
- first layer: `ip.src` also matches the header inside GRE, ICMP errors or IP in IP.  The layer operator
  (ip.src#1) takes the first, but the first IPv4 header of an IPv6 packet with GRE is the inner one: so
  each rule asks frame.protocols for the outermost layer too.
- ports: an ICMP error quotes a TCP or UDP header; ports count only if the transport layer is the
  outermost.
- later fragments carry no ports: with reassembly off tshark shows them without; they inherit from their
  first here as docs/semantics.md says (oracle.inherit), and where that is not known, filters with ports
  or flags do not take them.
- OpenVPN over TCP: `openvpn` names only segments with data; the stream is what is recorded
  (tcp.stream, and -d tcp.port==443,openvpn to make tshark look).
- protocol: ip.proto is the field of IPv4; of IPv6 it is the last next-header field of the chain; behind
  AH it is what AH protects, by name.

Exit: 0, or 1 when anything differs.  77 (skipped) when tshark is missing.
"""

import concurrent.futures
import functools
import ipaddress
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

import oracle

SNAPS = (1, 60, 120, 1500, 65535)
FLAGS = (1, 2, 8, 3, 11)
ESP, IKE, OVPN = 1, 2, 8
REPORT_KEYS = {"received", "not_matched", "recorded", "in_file", "overwritten", "in_flight", "lost",
               "classes", "first_time", "last_time", "exact", "gaps", "warnings"}
LOWER = "(?:(?:eth|ethertype|vlan|ieee8021ad|sll|null|raw|ppp):)+"
EXTENSIONS = "(?::ipv6[.][a-z]+|:ah)*"

faults = []
counts = {"runs": 0, "frames": 0}


def fault(text, *args):
    faults.append(text % args)
    print("DIFFERS: " + faults[-1])


# Running gatecap.

class Run:
    """One replay: exit code, what it said, the PCAP and the report that it wrote."""

    def __init__(self, gatecap, folder, source, filter_data, *options):
        self.what = "%s %s %s" % (os.path.basename(source), json.dumps(filter_data), " ".join(options))
        self.out = os.path.join(folder, "out.pcap")
        report = os.path.join(folder, "report.json")
        for path in (self.out, report):
            if os.path.exists(path):
                os.unlink(path)
        run = subprocess.run(
            [gatecap, "replay", "--filter-data", json.dumps(filter_data), "--report", report, *options,
             source, self.out], capture_output=True, text=True, check=False)
        self.code, self.err = run.returncode, run.stderr
        self.data, self.report = b"", {}
        if os.path.exists(self.out):
            with open(self.out, "rb") as file:
                self.data = file.read()
        if os.path.exists(report):
            with open(report, encoding="utf-8") as file:
                self.report = json.load(file)
        counts["runs"] += 1


def check_sentence(run):
    """A failure is one whole sentence (or several) and no crash."""
    lines = [l for l in run.err.splitlines() if l.startswith("gatecap replay: ")]
    if run.code != 1 or not lines or not lines[-1].rstrip().endswith((".", "!")):
        fault("%s: exit %d and no sentence: %r", run.what, run.code, run.err[-300:])


def check_report(run, n_received, n_recorded):
    """Keys, sums and the ledger of a report."""
    r = run.report
    if not REPORT_KEYS <= set(r):
        fault("%s: the report lacks %s", run.what, sorted(REPORT_KEYS - set(r)))
        return
    lost = sum(r["lost"].values())
    if r["received"] != r["not_matched"] + lost + r["in_flight"] + r["in_file"] + r["overwritten"]:
        fault("%s: the ledger does not balance: %s", run.what, r)
    if r["recorded"] != r["in_file"] + r["overwritten"] or r["in_flight"] or lost:
        fault("%s: recorded %d, in flight %d, lost %d", run.what, r["recorded"], r["in_flight"], lost)
    if r["received"] != n_received or r["in_file"] != n_recorded:
        fault("%s: received %d in_file %d, should be %d and %d", run.what, r["received"], r["in_file"],
              n_received, n_recorded)
    if sum(r["classes"].values()) != r["received"] or \
            set(r["classes"]) != {"esp", "ike", "ovpn", "inner", "other"}:
        fault("%s: the classes %s do not add up to %d", run.what, r["classes"], r["received"])
    if r["exact"] is not True or r["gaps"] != [] or not isinstance(r["warnings"], list):
        fault("%s: exact, gaps or warnings: %s", run.what, r)
    if (r["first_time"] is None) != (n_recorded == 0) or (r["last_time"] is None) != (n_recorded == 0):
        fault("%s: first and last time of %d frames: %s", run.what, n_recorded, r)


def compare(run, want, snap):
    """The frames of the PCAP against the wanted ones, all of them, in order."""
    if len(run.data) < 24:
        fault("%s: no PCAP: %s", run.what, run.err)
        return
    link, header_snap, got, left = oracle.read_classic(run.data)
    if (link, header_snap, left) != (oracle.LINK_ETHERNET, snap, 0):
        fault("%s: header says link %d snap %d, %d bytes too many", run.what, link, header_snap, left)
    if len(got) != len(want):
        fault("%s: %d frames, tshark says %d", run.what, len(got), len(want))
        return
    for i, (g, w) in enumerate(zip(got, want)):
        if g.data != w.data[:snap] or g.wire_len != w.wire_len or g.time_ns != w.time_ns // 1000 * 1000:
            fault("%s: record %d is (%d ns, %d of %d bytes), should be (%d ns, %d of %d)", run.what, i,
                  g.time_ns, len(g.data), g.wire_len, w.time_ns, len(w.data[:snap]), w.wire_len)
            return
    if got:
        last = run.report.get("last_time") or ""
        if last[-10:-1] != "%09d" % (want[-1].time_ns % 10**9):
            fault("%s: last_time is %s", run.what, last)
    counts["frames"] += len(got)


def opens_clean(run):
    """tcpdump, tshark and capinfos each check other things."""
    n = run.report.get("in_file")
    dump = subprocess.run(["tcpdump", "-n", "-r", run.out, "-w", "-"], capture_output=True, check=False)
    if dump.returncode != 0 or len(dump.stdout) != len(run.data):
        fault("%s: tcpdump: %s", run.what, dump.stderr[-200:])
    shark = subprocess.run(["tshark", "-n", "-r", run.out, "-T", "fields", "-e", "frame.cap_len",
                            "-e", "frame.len"], capture_output=True, text=True, check=False)
    lengths = [tuple(map(int, line.split())) for line in shark.stdout.splitlines()]
    if shark.returncode != 0 or len(lengths) != n or any(c > w for c, w in lengths):
        fault("%s: tshark: %d frames of %s, %s", run.what, len(lengths), n, shark.stderr[-200:])
    info = subprocess.run(["capinfos", "-c", "-o", "-M", run.out], capture_output=True, text=True,
                          check=False)
    if info.returncode != 0 or "cut short" in info.stdout + info.stderr or \
            not re.search(r"packets: +%d\b" % n, info.stdout) or \
            (n and not re.search(r"order: +True", info.stdout)):
        fault("%s: capinfos: %s %s", run.what, info.stdout[-300:], info.stderr[-200:])


def in_order(frames, numbers=None):
    """The frames of these numbers (1 is the first), stably sorted by time as replay does."""
    chosen = [f for i, f in enumerate(frames, 1) if numbers is None or i in numbers]
    return sorted(chosen, key=lambda f: f.time_ns)


# Outer captures.

def protocols(pattern):
    return 'frame.protocols matches "^%s(?:ip|ipv6)%s:%s(?::|$)"' % (LOWER, EXTENSIONS, pattern)


def class_filters(streams):
    """The display filter of each class; OpenVPN's endpoints come before the well-known ports."""
    udp, tcp = protocols("udp"), protocols("tcp")
    ovpn = "(%s and udp.port#1 == 1194) or (%s and tcp.port#1 == 1194)" % (udp, tcp)
    if streams:
        ovpn += " or (%s and tcp.stream in {%s})" % (tcp, ", ".join(sorted(streams)))
    esp = "%s or %s or (%s and tcp.port#1 == 4500 and esp)" % (
        protocols("esp"), protocols("udp:udpencap:esp"), tcp)
    ike = "%s or %s or (%s and udp.length#1 == 9) or (%s and tcp.port#1 == 4500 and not esp)" % (
        protocols("udp:isakmp"), protocols("udp:udpencap:isakmp"), protocols("udp:udpencap"), tcp)
    return {OVPN: ovpn, ESP: "(%s) and not (%s)" % (esp, ovpn), IKE: "(%s) and not (%s)" % (ike, ovpn)}


def outer_classes(path):
    """The bit of each frame by tshark: display filters, then what fragments inherit."""
    rows = oracle.table(path, [])
    forced = oracle.table(path, ["-d", "tcp.port==443,openvpn"])
    bits = {}
    for bit, display_filter in class_filters(oracle.ovpn_streams(rows, forced)).items():
        for number in oracle.select(path, display_filter):
            bits[number] = bit

    def without_first(row):
        later = row["ipv6.fraghdr.nxt"] if row["ipv6.fraghdr.ident"] else row["ip.proto"]
        return ESP if later == "50" else 0

    out = oracle.inherit(rows, lambda row: bits.get(int(row["frame.number"]), 0), without_first)
    for (file, _rule), (numbers, class_, _reason) in oracle.DIFFERENCES.items():
        if file == os.path.basename(path):
            for number in numbers:
                out[number - 1] = {"ESP": ESP, "IKE": IKE}[class_]
    return out


def check_outer(gatecap, folder, path):
    """All tracing flags and snap lengths over one file."""
    name = os.path.basename(path)
    if name in oracle.UNREADABLE:
        run = Run(gatecap, folder, path, {})
        check_sentence(run)
        if oracle.UNREADABLE[name][0] not in run.err:
            fault("%s: should say '%s': %s", name, oracle.UNREADABLE[name][0], run.err)
        return
    link, frames = oracle.read_capture(path)
    frames = [oracle.to_ethernet(link, f) for f in frames]
    classes = outer_classes(path)
    if len(classes) != len(frames):
        fault("%s: tshark reads %d frames and this script %d", name, len(classes), len(frames))
        return
    for flags in FLAGS:
        want = in_order(frames, {i for i, bit in enumerate(classes, 1) if bit & flags})
        for snap in SNAPS:
            run = Run(gatecap, folder, path, {"TracingFlags": flags, "MaxPacketBufferSize": snap})
            if run.code != 0:
                check_sentence(run)  # a file that is cut: its whole frames are there all the same
                if "cut" not in run.err and "truncated" not in run.err:
                    fault("%s: %s", run.what, run.err)
            compare(run, want, snap)
            check_report(run, len(frames), len(want))
        if flags in (1, 11):
            opens_clean(run)


def part_outer(gatecap, root, folder):
    paths = [path for place in oracle.folders(root) for path in oracle.capture_files(place)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:  # tshark's start is most of it
        list(pool.map(lambda path: check_outer(gatecap, tempfile.mkdtemp(dir=folder), path), paths))


# Inner captures.

def first_ip(version):
    return 'frame.protocols matches "^%s%s(?::|$)"' % (LOWER, "ip" if version == 4 else "ipv6")


def any_of(parts):
    return "(" + " or ".join("(%s)" % p for p in parts) + ")"


def subnet_rule(side, subnets):
    parts = []
    for text in subnets:
        net = ipaddress.ip_network(text, strict=False)
        parts.append("%s and %s.%s#1 == %s" % (first_ip(net.version),
                                               "ip" if net.version == 4 else "ipv6", side, net))
    return any_of(parts)


def port_rule(side, ports):
    parts = []
    for layer in ("tcp", "udp", "udplite", "sctp", "dccp"):
        field = "udp" if layer == "udplite" else layer
        parts += ["%s and %s.%sport#1 == %d" % (protocols(layer), field, side, p) for p in ports]
    return any_of(parts)


NAMES = {1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 58: "icmpv6", 132: "sctp"}
CHAIN = ("hopopts", "routing", "fraghdr", "dstopts")


def protocol_rule(numbers):
    parts = []
    for n in numbers:
        parts.append("%s and ip.proto#1 == %d" % (first_ip(4), n))
        parts.append("%s and ipv6.nxt#1 == %d" % (first_ip(6), n))
        parts += ["%s and ipv6.%s.nxt == %d" % (first_ip(6), header, n) for header in CHAIN]
        if n in NAMES:
            parts.append(protocols(NAMES[n]))
    return any_of(parts)


def direction_rule(f, swapped, with_headers):
    """One filter, one direction, as a display filter; None where it cannot match without headers."""
    source, destination = ("dst", "src") if swapped else ("src", "dst")
    rules = [any_of([first_ip(4), first_ip(6)])]
    if f.get("SourceSubnets"):
        rules.append(subnet_rule(source, f["SourceSubnets"]))
    if f.get("DestinationSubnets"):
        rules.append(subnet_rule(destination, f["DestinationSubnets"]))
    if f.get("Protocol"):
        rules.append(protocol_rule(f["Protocol"]))
    flags = max(f.get("TcpFlags", 0), 0)
    if not with_headers:
        tests = f.get("SourcePort") or f.get("DestinationPort") or flags
        return None if tests else " and ".join(rules)
    if f.get("SourcePort"):
        rules.append(port_rule(source, f["SourcePort"]))
    if f.get("DestinationPort"):
        rules.append(port_rule(destination, f["DestinationPort"]))
    if flags:
        rules.append("%s and tcp.flags & %#x" % (protocols("tcp"), flags))
    return " and ".join(rules)


def display_filter_of(filters, with_headers):
    parts = []
    for f in filters:
        single = f.get("CaptureSingleDirectionTrafficOnly", False)
        parts += [direction_rule(f, swapped, with_headers) for swapped in ([False] if single else
                                                                         [False, True])]
    parts = [p for p in parts if p]
    return any_of(parts) if parts else None


EXAMPLE = {"TracingFlags": 11, "MaxPacketBufferSize": 120, "MaxFileSize": 200, "Filters": [{
    "SourceSubnets": ["10.1.0.0/24"], "DestinationSubnets": ["10.1.1.0/24"], "SourcePort": [500],
    "DestinationPort": [4500], "Protocol": [6], "TcpFlags": 16,
    "CaptureSingleDirectionTrafficOnly": True}]}
MICROSOFT_1 = {"TracingFlags": 11, "MaxPacketBufferSize": 120, "MaxFileSize": 500, "Filters": [{
    "SourceSubnets": ["10.19.0.4/32", "10.20.0.4/32"],
    "DestinationSubnets": ["10.20.0.4/32", "10.19.0.4/32"], "TcpFlags": -1, "Protocol": [6],
    "CaptureSingleDirectionTrafficOnly": True}]}
MICROSOFT_2 = {"TracingFlags": 11, "MaxPacketBufferSize": 120, "MaxFileSize": 500,
               "Filters": [{"CaptureSingleDirectionTrafficOnly": False}]}
MICROSOFT_UNDOCUMENTED = {"Filters": [{
    "IpSubnetValueAsAny": True, "TcpFlags": -1, "PortValueAsAny": True,
    "CaptureSingleDirectionTrafficOnly": True}]}
VWAN = {"Filters": [{"TcpFlags": 9, "CaptureSingleDirectionTrafficOnly": True}]}
OWN_EXAMPLES = [EXAMPLE, MICROSOFT_1, MICROSOFT_2, MICROSOFT_UNDOCUMENTED, VWAN]


def present(rows):
    """Values that occur: (v4 pairs, v6 pairs, port pairs, protocols), the most frequent first."""
    tallies = [{}, {}, {}, {}]
    for row in rows:
        pairs = [(row["ip.src"], row["ip.dst"]) if row["ip.src"] and not row["ipv6.src"] else None,
                 (row["ipv6.src"], row["ipv6.dst"]) if row["ipv6.src"] else None,
                 (row["tcp.srcport"] or row["udp.srcport"], row["tcp.dstport"] or row["udp.dstport"]),
                 row["ip.proto"] or None]
        for tally, value in zip(tallies, pairs):
            if value and value != ("", ""):
                tally[value] = tally.get(value, 0) + 1
    return [sorted(t, key=lambda v: (-t[v], v)) for t in tallies]


def dimension_filters(rows):
    """Filters on each dimension alone, then together, of values that the file has."""
    v4, v6, ports, numbers = present(rows)
    pairs = v4[:2] + v6[:2]
    for source, destination in pairs:
        bits = 24 if ":" not in source else 64
        yield {"SourceSubnets": [source]}
        yield {"DestinationSubnets": ["%s/%d" % (destination, bits)]}
        yield {"SourceSubnets": ["%s/%d" % (source, bits)], "DestinationSubnets": [destination]}
        yield {"SourceSubnets": [source], "DestinationSubnets": [source]}  # matches nothing
    if v4 and v6:  # mixed lists
        yield {"SourceSubnets": [v4[0][0], v6[0][0]]}
        yield {"SourceSubnets": [v4[0][0]], "DestinationSubnets": [v6[0][1]]}
        yield {"SourceSubnets": [v4[0][0], "%s/32" % v6[0][0]], "DestinationSubnets": ["::/0"]}
    yield {"SourceSubnets": ["0.0.0.0/0"]}
    yield {"DestinationSubnets": ["::/0"]}
    for sport, dport in ports[:2]:
        yield {"SourcePort": [int(sport)]}
        yield {"DestinationPort": [int(dport)]}
        yield {"SourcePort": [int(sport)], "DestinationPort": [int(dport)], "Protocol": [6, 17]}
    yield {"SourcePort": sorted({int(p[0]) for p in ports[:30]})}
    yield {"DestinationPort": [0, 65535]}
    for n in sorted({1, 6, 17, 47, 50, 58, 132, 0, 255, 253} | {int(n) for n in numbers[:6]}):
        yield {"Protocol": [n]}
    for bit in range(8):
        yield {"TcpFlags": 1 << bit}
    yield {"TcpFlags": 9}
    yield {"TcpFlags": 18, "Protocol": [17]}  # matches nothing
    if pairs and ports:
        yield {"SourceSubnets": [pairs[0][0]], "DestinationPort": [int(ports[0][1])], "Protocol": [6],
               "TcpFlags": 16}
    yield {}


def check_inner_run(gatecap, folder, source, prepared, filter_data):
    """One filter over one plaintext file."""
    rows, frames = prepared
    filters = filter_data["Filters"]
    select = functools.partial(oracle.select, source)
    whole = select(display_filter_of(filters, True))
    bare_filter = display_filter_of(filters, False)
    has_fragments = any(oracle.fragment_of(row) for row in rows)
    bare = select(bare_filter) if bare_filter and has_fragments else set()
    wanted = oracle.inherit(rows, lambda row: int(row["frame.number"]) in whole,
                            lambda row: int(row["frame.number"]) in bare)
    if not filter_data.get("TracingFlags", 11) & (ESP | OVPN):
        wanted = [False] * len(rows)
    numbers = {i for i, is_wanted in enumerate(wanted, 1) if is_wanted}
    snap = filter_data.get("MaxPacketBufferSize", 120)
    run = Run(gatecap, folder, os.path.join(folder, "empty.pcap"), filter_data, "--inner", source)
    if run.code != 0:
        fault("%s: %s", run.what, run.err)
    want = in_order(frames, numbers)
    compare(run, want, snap)
    check_report(run, len(frames), len(want))
    return len(want)


def check_inner(gatecap, folder, source, few):
    link, frames = oracle.read_capture(source)
    frames = [oracle.to_ethernet(link, f) for f in frames]
    prepared = (oracle.table(source, []), frames)
    filters = list(dimension_filters(prepared[0]))
    documents = [dict(d) for d in OWN_EXAMPLES]
    if few:  # beside the merged file, which has them all
        filters, documents = filters[::9], [MICROSOFT_2]
    for f in filters:
        for single in (True, False):
            documents.append({"Filters": [dict(f, CaptureSingleDirectionTrafficOnly=single)],
                              "MaxPacketBufferSize": 65535 if single else 60})
    documents.append({"TracingFlags": 2, "Filters": [{}]})
    def matches_some(document):
        own = tempfile.mkdtemp(dir=folder)
        oracle.write_capture(os.path.join(own, "empty.pcap"), oracle.LINK_ETHERNET, [])
        return check_inner_run(gatecap, own, source, prepared, document) > 0

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        n_some = sum(pool.map(matches_some, documents))
    if n_some < len(documents) // 4:
        fault("%s: only %d of %d filters match anything: the test proves little", source, n_some,
              len(documents))


def part_inner(gatecap, root, folder):
    oracle.write_capture(os.path.join(folder, "empty.pcap"), oracle.LINK_ETHERNET, [])
    raw, count = [], 0
    for place in oracle.folders(root):
        for path in oracle.capture_files(place, plaintext=True):
            link, frames = oracle.read_capture(path)
            if link == oracle.LINK_RAW:
                raw += frames
            else:
                count += 1
                check_inner(gatecap, folder, path, few=count > 2)
    merged = os.path.join(folder, "merged.pcap")
    raw.sort(key=lambda f: f.time_ns)
    oracle.write_capture(merged, oracle.LINK_RAW, raw)
    check_inner(gatecap, folder, merged, few=False)


def part_several(gatecap, root, folder):
    """Three filters in one capture are OR-ed, and never mix."""
    config = os.path.join(folder, "config.json")
    with open(config, "w", encoding="utf-8") as file:
        json.dump({"captures": {"max_filters_per_capture": 3}}, file)
    source = os.path.join(root, "tests", "data", "k-ike2-gcm256-natt.inner.pcap")
    link, frames = oracle.read_capture(source)
    prepared = (oracle.table(source, []), [oracle.to_ethernet(link, f) for f in frames])
    filters = list(dimension_filters(prepared[0]))
    dice = random.Random(1)
    for _ in range(12):
        chosen = dice.sample(filters, 3)
        chosen = [dict(f, CaptureSingleDirectionTrafficOnly=dice.random() < 0.5) for f in chosen]
        numbers = oracle.select(source, display_filter_of(chosen, True))
        run = Run(gatecap, folder, os.path.join(folder, "empty.pcap"), {"Filters": chosen}, "--inner",
                  source, "--config", config)
        if run.code != 0:
            fault("%s: %s", run.what, run.err)
            return
        if any(oracle.fragment_of(row) for row in prepared[0]):
            bare = display_filter_of(chosen, False)
            bare = oracle.select(source, bare) if bare else set()
            flags = oracle.inherit(prepared[0], lambda row: int(row["frame.number"]) in numbers,
                                   lambda row: int(row["frame.number"]) in bare)
            numbers = {i for i, wanted in enumerate(flags, 1) if wanted}
        compare(run, in_order(prepared[1], numbers), 120)
        check_report(run, len(frames), len(numbers))


# Files.

def check_deterministic(gatecap, folder, path):
    runs = []
    for _ in range(2):
        run = Run(gatecap, folder, path, {"TracingFlags": 11, "Filters": [{}]})
        runs.append((run.data, run.report))
    if runs[0] != runs[1] or not runs[0][0]:
        fault("%s: two runs give different files or reports", path)


def check_wrap(gatecap, folder, path):
    """Loop a file until it is three times MaxFileSize; the newest that fit must be there."""
    _link, frames = oracle.read_capture(path)
    frames = in_order(frames)
    span = frames[-1].time_ns - frames[0].time_ns + 1000000
    looped, total, turn = [], 0, 0
    while total < 3200000:
        looped += [oracle.Frame(f.time_ns + turn * span, f.data, f.wire_len) for f in frames]
        total += sum(len(f.data) + 16 for f in frames)
        turn += 1
    source = os.path.join(folder, "looped.pcap")
    oracle.write_capture(source, oracle.LINK_ETHERNET, looped)
    classes = outer_classes(source)
    want = in_order(looped, {i for i, bit in enumerate(classes, 1) if bit})
    for snap in (120, 700, 65535):
        run = Run(gatecap, folder, source, {"MaxFileSize": 1, "MaxPacketBufferSize": snap})
        size, first = 24, len(want)
        while first > 0 and size + 16 + len(want[first - 1].data[:snap]) <= 1000000:
            first -= 1
            size += 16 + len(want[first].data[:snap])
        compare(run, want[first:], snap)
        check_report(run, len(looped), len(want) - first)
        if run.report.get("overwritten") != first:
            fault("%s: overwritten %s, should be %d", run.what, run.report.get("overwritten"), first)
        opens_clean(run)


def check_same_file(gatecap, folder, path):
    """IN == OUT, also by another name, is refused and leaves the file as it was."""
    copy = os.path.join(folder, "copy.pcap")
    link = os.path.join(folder, "link.pcap")
    shutil.copy(path, copy)
    os.symlink(copy, link)
    empty = os.path.join(folder, "empty.pcap")
    oracle.write_capture(empty, oracle.LINK_ETHERNET, [])
    for args in ([copy, copy], [copy, link], [link, copy], ["--inner", copy, empty, copy],
                 ["--report", copy, empty, link], ["--report", copy, copy, empty + ".out"]):
        run = subprocess.run([gatecap, "replay", *args], capture_output=True, text=True, check=False)
        with open(path, "rb") as a, open(copy, "rb") as b:
            same = a.read() == b.read()
        if run.returncode != 1 or not same:
            fault("replay %s: exit %d, IN %s: %s", args, run.returncode,
                  "is as it was" if same else "IS LOST", run.stderr)
            shutil.copy(path, copy)
    os.unlink(link)


def check_cuts(gatecap, folder, path):
    """A file cut anywhere: a sentence, exit 1, and the whole frames before the cut."""
    with open(path, "rb") as file:
        data = file.read()
    _link, _snap, frames, _left = oracle.read_classic(data)
    ends = [24]
    for f in frames:
        ends.append(ends[-1] + 16 + len(f.data))
    classes = outer_classes(path)
    cut = os.path.join(folder, "cut.pcap")
    dice = random.Random(2)
    places = list(range(0, 24 + 16 + 20)) + ends[1:6] + [e + 16 for e in ends[1:6]] + \
        [len(data) - 1] + sorted(dice.sample(range(60, len(data)), 60))
    for place in places:
        with open(cut, "wb") as file:
            file.write(data[:place])
        n = sum(e <= place for e in ends) - 1
        run = Run(gatecap, folder, cut, {"MaxPacketBufferSize": 65535})
        run.what += " cut at %d" % place
        if place in ends:
            if run.code != 0:
                fault("%s: a whole file gives exit %d: %s", run.what, run.code, run.err)
        else:
            check_sentence(run)
            if cut not in run.err:
                fault("%s: the sentence does not name the file: %s", run.what, run.err)
        if place >= 24:
            want = in_order(frames[:n], {i for i, bit in enumerate(classes[:n], 1) if bit})
            compare(run, want, 65535)
            check_report(run, n, len(want))


def check_links(gatecap, folder, path):
    """The same packets behind other link headers, and as pcapng."""
    _link, frames = oracle.read_capture(path)
    classes = outer_classes(path)
    numbers = {i for i, bit in enumerate(classes, 1) if bit}
    plain = [f for f in frames if f.data[12:14] in (oracle.IPV4, oracle.IPV6)]
    numbers = {n for n, f in enumerate(plain, 1) if frames.index(f) + 1 in numbers}
    as_synthetic = [oracle.Frame(f.time_ns, oracle.SYNTHETIC + f.data[12:], f.wire_len) for f in plain]
    headers = {oracle.LINK_RAW: lambda f: b"",
               oracle.LINK_NULL: lambda f: b"\x02\0\0\0" if f.data[12:14] == oracle.IPV4
               else b"\x1e\0\0\0",
               oracle.LINK_SLL: lambda f: b"\0\0\0\x01\0\x06" + b"\xaa" * 8 + f.data[12:14],
               oracle.LINK_SLL2: lambda f: f.data[12:14] + b"\0" * 18}
    source = os.path.join(folder, "link_type.pcap")
    for link, header in headers.items():
        made = [oracle.Frame(f.time_ns, header(f) + f.data[14:], f.wire_len - 14 + len(header(f)))
                for f in plain]
        for nano in (False, True):
            oracle.write_capture(source, link, made, nano)
            run = Run(gatecap, folder, source, {"MaxPacketBufferSize": 65535})
            run.what += " as link type %d" % link
            compare(run, in_order(as_synthetic, numbers), 65535)
            check_report(run, len(made), len(numbers))
        opens_clean(run)
    ng = os.path.join(folder, "as.pcapng")
    subprocess.run(["editcap", "-F", "pcapng", path, ng], check=True, capture_output=True)
    run = Run(gatecap, folder, ng, {"MaxPacketBufferSize": 65535})
    compare(run, in_order(frames, {i for i, bit in enumerate(classes, 1) if bit}), 65535)
    oracle.write_capture(source, 105, frames)  # 802.11: not ours
    run = Run(gatecap, folder, source, {})
    check_sentence(run)
    if "802.11" not in run.err and "105" not in run.err:
        fault("a link type that is refused is not named: %s", run.err)


def check_disorder(gatecap, folder, path):
    """Frames out of order are sorted, stably, and the report says so."""
    _link, frames = oracle.read_capture(path)
    shuffled = frames[:]
    random.Random(3).shuffle(shuffled)
    source = os.path.join(folder, "shuffled.pcap")
    oracle.write_capture(source, oracle.LINK_ETHERNET, shuffled)
    expected = in_order(shuffled)
    in_place = os.path.join(folder, "sorted.pcap")
    oracle.write_capture(in_place, oracle.LINK_ETHERNET, expected)
    classes = outer_classes(in_place)
    run = Run(gatecap, folder, source, {"MaxPacketBufferSize": 1500})
    compare(run, in_order(expected, {i for i, bit in enumerate(classes, 1) if bit}), 1500)
    if "out of order" not in json.dumps(run.report.get("warnings")):
        fault("%s: no warning says that the frames were out of order", run.what)


def check_refusals(gatecap, folder, path):
    """What cannot be done is said in a sentence, with exit 1, or 2 where the command line is wrong."""
    missing, out = os.path.join(folder, "missing.pcap"), os.path.join(folder, "o.pcap")
    for code, args in ((1, [missing, out]), (1, [path, os.path.join(folder, "no", "o.pcap")]),
                       (1, ["--filter-data", "{", path, out]),
                       (1, ["--filter-data", '{"TracingFlags":0}', path, out]),
                       (1, ["--filter-data", '{"MaxFileSize":501}', path, out]),
                       (1, ["--filter-data", "@" + missing, path, out]),
                       (1, ["--filter-data", '{"Filters":[{},{}]}', path, out]),
                       (1, ["--connection", "none", path, out]), (1, ["--inner", missing, path, out]),
                       (1, ["--config", missing, path, out]), (2, [path]), (2, ["--what", path, out])):
        run = subprocess.run([gatecap, "replay", *args], capture_output=True, text=True, check=False)
        if run.returncode != code or not run.stderr.strip().endswith("."):
            fault("replay %s: exit %d, %r", args, run.returncode, run.stderr)
    if os.path.exists(out):
        fault("a replay that was refused left %s behind", out)
    if subprocess.run([gatecap, "replay", "--help"], capture_output=True, check=False).returncode:
        fault("replay --help does not end with 0")


def check_streams(gatecap, folder, path):
    """- is standard input and output."""
    run = Run(gatecap, folder, path, {})
    with open(path, "rb") as file:
        piped = subprocess.run([gatecap, "replay", "--filter-data", "{}", "-", "-"], stdin=file,
                               capture_output=True, check=False)
    if piped.returncode != 0 or piped.stdout != run.data:
        fault("replay - -: exit %d, %d bytes, should be %d: %s", piped.returncode, len(piped.stdout),
              len(run.data), piped.stderr)


def part_files(gatecap, root, folder):
    data = os.path.join(root, "tests", "data")
    natt = os.path.join(data, "k-ike2-gcm256-natt.pcap")
    for path in oracle.capture_files(data):
        check_deterministic(gatecap, folder, path)
    check_wrap(gatecap, folder, natt)
    check_same_file(gatecap, folder, natt)
    check_cuts(gatecap, folder, os.path.join(data, "ovpn-udp1194-plain.pcap"))
    check_cuts(gatecap, folder, natt)
    check_links(gatecap, folder, natt)
    check_links(gatecap, folder, os.path.join(data, "ovpn-udp6-1194-tlsauth-reneg.pcap"))
    check_disorder(gatecap, folder, natt)
    check_refusals(gatecap, folder, natt)
    check_streams(gatecap, folder, natt)


PARTS = {"outer": part_outer, "inner": part_inner, "several": part_several, "files": part_files}


def main():
    gatecap, root = (os.path.abspath(a) for a in sys.argv[1:3])
    if shutil.which("tshark") is None:
        print("LEFT OUT: everything; tshark is not installed.")
        return 77
    for part in sys.argv[3:] or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            oracle.write_capture(os.path.join(folder, "empty.pcap"), oracle.LINK_ETHERNET, [])
            PARTS[part](gatecap, root, folder)
        print("%s: done, so far %d runs, %d records compared" % (part, counts["runs"],
                                                                 counts["frames"]))
    print("%d differences without a reason" % len(faults))
    return 1 if faults or counts["frames"] == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
