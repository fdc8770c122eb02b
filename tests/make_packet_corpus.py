"""make_packet_corpus.py - seeds for fuzz_packet from captures and from hand-made packets.

Usage: make_packet_corpus.py OUT_DIR CAPTURE...

Each seed is a short run of neighbouring frames in fuzz_packet's format: role, time step in 10 ms,
length, bytes.  Frames over 255 bytes are cut: headers are what the fuzzer is after.
"""

import os
import struct
import sys

from scapy.all import PcapReader  # pylint: disable=no-name-in-module

RUN = 6


def record(frame, role, step):
    frame = frame[:255]
    return bytes([role]) + struct.pack("!H", step) + bytes([len(frame)]) + frame


def main():
    out, captures = sys.argv[1], sys.argv[2:]
    os.makedirs(out, exist_ok=True)
    for path in captures:
        name = os.path.basename(path).rsplit(".", 1)[0]
        with PcapReader(path) as reader:
            frames = [bytes(packet) for packet in reader]
        spread = max(RUN, len(frames) // 4)
        for start in range(0, len(frames), spread):
            run = frames[start:start + RUN]
            seed = b"".join(record(f, 0, 1) for f in run) + record(run[0], 1, 1)
            with open(os.path.join(out, "%s-%d" % (name, start)), "wb") as file:
                file.write(seed)


if __name__ == "__main__":
    main()
