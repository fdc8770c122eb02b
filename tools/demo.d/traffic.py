#!/usr/bin/env python3
"""traffic.py - the demo's traffic, from the bundled captures: traffic.py DATA_DIR OUT_DIR

Writes OUT_DIR/wan.pcap (the encrypted side, Ethernet) and OUT_DIR/lan.pcap (the plaintext side, raw IP).
The demo's gateway is 203.0.113.1. It has two tunnels, each a real capture of both sides:
  site-b         IKEv2 and ESP behind NAT, peer 203.0.113.2
  road-warriors  OpenVPN over UDP, client 203.0.113.77 (in the file 203.0.113.1, the server .2)
The real traffic has nothing that the filter of Azure's documentation describes, so one conversation is
made here that has: TCP from 10.1.0.7 port 500 to 10.1.1.9 port 4500 through site-b. Its ESP packets
carry random bytes: without the key nobody could tell.
The captures were made minutes apart and wait for seconds in between: each starts at 0 here, and no gap
is longer than GAP_MAX_S.
"""
import os
import random
import struct
import sys

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import PcapReader

GAP_MAX_S = 0.1
START_US = 1_700_000_000 * 10**6
GATEWAY, SITE_B, CLIENT = "203.0.113.1", "203.0.113.2", "203.0.113.77"
WAN, LAN = "wan", "lan"
LINK_ETHERNET, LINK_RAW = 1, 101


def read(data, name, side):
    """(time, side, packet) of one bundled capture."""
    with PcapReader(os.path.join(data, name + ".pcap")) as packets:
        return [(float(p.time), side, p) for p in packets]


def tighten(packets, start):
    """The same packets from `start` on, without long gaps; both sides share the time."""
    out, last, now = [], None, start
    for time, side, packet in sorted(packets, key=lambda p: p[0]):
        if last is not None:
            now += min(time - last, GAP_MAX_S)
        last = time
        out.append((now, side, packet))
    return out


def move(packets, addresses):
    """Other outer addresses; scapy computes the checksums again."""
    for _, side, packet in packets:
        if side == WAN and IP in packet:
            ip = packet[IP]
            ip.src, ip.dst = addresses.get(ip.src, ip.src), addresses.get(ip.dst, ip.dst)
            del ip.chksum
            if UDP in ip:
                del ip[UDP].chksum
    return packets


def conversation(rng):
    """(from_here, TCP flags, bytes) of a small exchange."""
    yield True, "S", 0
    yield False, "SA", 0
    yield True, "A", 0
    for _ in range(8):
        yield True, "PA", rng.randrange(100, 900)
        yield False, "A", 0
        yield False, "PA", rng.randrange(100, 900)
        yield True, "A", 0
    yield True, "FA", 0
    yield False, "FA", 0
    yield True, "A", 0


def documented(rng):
    """What the filter of Azure's documentation describes, and its answers, on both sides."""
    here, there, seq = ("10.1.0.7", 500), ("10.1.1.9", 4500), {True: 1000, False: 5000}
    out = []
    for n, (from_here, flags, length) in enumerate(conversation(rng)):
        (src, sport), (dst, dport) = (here, there) if from_here else (there, here)
        inner = IP(src=src, dst=dst, id=n) / TCP(
            sport=sport, dport=dport, flags=flags, seq=seq[from_here], ack=seq[not from_here])
        if length:
            inner /= Raw(rng.randbytes(length))
        seq[from_here] += length + ("S" in flags or "F" in flags)
        spi = 0xC0FFEE01 if from_here else 0xC0FFEE02
        esp = spi.to_bytes(4, "big") + n.to_bytes(4, "big") + rng.randbytes(len(inner) + 34)
        outer = (Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
                 / IP(src=GATEWAY if from_here else SITE_B, dst=SITE_B if from_here else GATEWAY)
                 / UDP(sport=4500, dport=4500, chksum=0) / Raw(esp))
        out += [(n * 0.012, LAN, inner), (n * 0.012 + 0.0001, WAN, outer)]
    return out


def write(path, link, packets):
    """A pcap file, in microseconds."""
    with open(path, "wb") as out:
        out.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link))
        for time, packet in packets:
            frame, us = bytes(packet), START_US + round(time * 1e6)
            out.write(struct.pack("=IIII", us // 10**6, us % 10**6, len(frame), len(frame)))
            out.write(frame)


def main(data, out):
    site_b = read(data, "k-ike2-gcm256-natt", WAN) + read(data, "k-ike2-gcm256-natt.inner", LAN)
    users = read(data, "ovpn-udp1194-plain", WAN) + read(data, "ovpn-udp1194-plain.tap", LAN)
    packets = (tighten(site_b, 0)
               + tighten(move(users, {"203.0.113.1": CLIENT, "203.0.113.2": GATEWAY}), 0.05)
               + tighten(documented(random.Random(1)), 0.1))
    packets.sort(key=lambda p: p[0])
    for side, link in ((WAN, LINK_ETHERNET), (LAN, LINK_RAW)):
        chosen = [(time, packet) for time, where, packet in packets if where == side]
        write(os.path.join(out, side + ".pcap"), link, chosen)
        print(f"{side}: {len(chosen)} packets in {chosen[-1][0]:.1f} s")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__.splitlines()[0])
    main(*sys.argv[1:])
