"""lines.py - what tools/bench measures: the lines, and how each is run."""
import json
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BENCH = ROOT / "build" / "gatecap-bench"
SNAP_BYTES, RECORD_HEADER_BYTES = 120, 16
IMIX = [60] * 7 + [570] * 4 + [1514]


class Context:
    """Where the run happens and what it has found so far."""

    def __init__(self, huge, folder, quick):
        self.huge, self.folder, self.quick = huge, folder, quick
        self.seconds = 0.4 if quick else 10
        self.peak_mpps = None  # of the newest capture_64


def eal(huge_dir, *more):
    return [str(BENCH), "--lcores", "0@0,1@1", "-m", "512", "--no-pci", "--no-telemetry", "--log-level", "error",
            "--huge-dir", huge_dir, *more]


def run_one(argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        sys.exit(f"tools/bench: {' '.join(argv)} failed:\n{done.stdout}{done.stderr}")
    return json.loads(lines[-1])


# ---- gatecap-bench ----

def ours(name, *options, devices=lambda ctx: []):
    def measure(ctx):
        return run_one(eal(ctx.huge, "--in-memory", *devices(ctx)) +
                       ["--", "--name", name, "--huge", "--dir", str(ctx.folder), "--seconds", str(ctx.seconds),
                        *options])
    return measure


def capture_64(ctx):
    result = ours("capture_64", "--kind", "capture")(ctx)
    ctx.peak_mpps = result["mpps"]
    return result


def overload(ctx):
    peak = ["--peak-mpps", str(ctx.peak_mpps)] if ctx.peak_mpps else []
    return ours("overload_3x", "--kind", "overload", *peak)(ctx)


def lookup(name, kind):
    def measure(ctx):
        limit = "10" if ctx.quick else "60"
        return ours(name, "--kind", kind, "--lists", "1000", "--limit-seconds", limit)(ctx)
    return measure


# ---- net_pcap and dpdk-dumpcap ----

def frames_file(folder, mix):
    """4,096 frames as the standard source has them, for net_pcap.

    A secondary process gets 63 bytes of the device's arguments, and no error when they are longer: hence
    the short names.
    """
    path = folder / ("i.pcap" if mix else "f.pcap")
    if not path.exists():
        subprocess.run([str(BENCH), "--no-huge", "-m", "64", "--no-pci", "--no-telemetry",
                        "--lcores", "0@0,1@1", "--log-level", "error", "--", "--kind", "frames",
                        *mix, "--dir", str(path)], check=True, stdout=subprocess.DEVNULL)
    return path


def net_pcap(*mix):
    return lambda ctx: ["--vdev", f"net_pcap0,rx_pcap={frames_file(ctx.folder, mix)},infinite_rx=1"]


def try_dumpcap(ctx, mix, options):
    """Bytes, seconds and the port's own Mpps; None when one of the two processes died.

    dpdk-dumpcap 22.11 frees its packet pool while the primary may still use it, and either may crash at
    attach or detach; what was counted before that is good.
    """
    out = ctx.folder / "dumpcap.pcap"
    primary = subprocess.Popen(eal(ctx.huge, *net_pcap(*mix)(ctx)) + ["--", "--kind", "primary", "--device"],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    dumpcap = None
    try:
        while (line := primary.stdout.readline()) and line.strip() != "ready":
            pass
        dumpcap = subprocess.Popen(["dpdk-dumpcap", "-i", "0", *options, "-w", str(out)],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while dumpcap.poll() is None and (not out.exists() or out.stat().st_size < 1 << 16):
            time.sleep(0.01)
        if dumpcap.poll() is not None:
            return None
        first, start = out.stat().st_size, time.monotonic()
        time.sleep(1.5 if ctx.quick else 10)
        last, elapsed = out.stat().st_size, time.monotonic() - start
        if dumpcap.poll() is not None or primary.poll() is not None:
            return None
    finally:
        primary.send_signal(signal.SIGTERM)
        rest = primary.communicate(timeout=20)[0].split()
        if dumpcap is not None:
            if dumpcap.poll() is None:
                dumpcap.send_signal(signal.SIGINT)
            dumpcap.wait(timeout=20)
        out.unlink(missing_ok=True)
    return last - first, elapsed, float(rest[-1]) if rest else 0.0


def dumpcap(name, *more, mix=()):
    options = ("-s", str(SNAP_BYTES), "-P", *more)
    lengths = IMIX if mix else [60]
    # Of the mix, a packet's mean in the file.
    record_bytes = RECORD_HEADER_BYTES + sum(min(n, SNAP_BYTES) for n in lengths) / len(lengths)

    def measure(ctx):
        for _ in range(8):
            found = try_dumpcap(ctx, mix, options)
            if found:
                break
        else:
            sys.exit("tools/bench: dpdk-dumpcap or its primary died eight times; is dpdk-dev of this DPDK installed?")
        n_bytes, elapsed, port_mpps = found
        mpps = n_bytes / record_bytes / elapsed / 1e6
        return {"name": name, "mpps": round(mpps, 2), "cycles_per_packet": None,
                "lost": max(0, int((port_mpps - mpps) * 1e6 * elapsed)),
                "conditions": {"worker_core": 1, "writer_core": "any", "source": "net_pcap infinite_rx",
                               "frames": "IMIX 7x60 4x570 1x1514" if mix else "60 bytes (64 with FCS)",
                               "five_tuples": 4096, "loop": "closed", "seconds": round(elapsed, 1),
                               "hugepages": True, "captures": 1, "snap_bytes": SNAP_BYTES,
                               "options": " ".join(options), "match": "all", "port_mpps": port_mpps,
                               "file": "in memory"}}
    return measure


# ---- ESP ----

def esp(name, cipher, frame_bytes, *more):
    return ours(name, *WORKER, "--esp", cipher, "--frame-bytes", str(frame_bytes), *more)


def tshark(ctx):
    """The frames of esp_gcm_1400 from a file: all of each is decrypted, dissected and printed as one field."""
    path = ctx.folder / "esp.pcap"
    subprocess.run([str(BENCH), "--no-huge", "-m", "64", "--no-pci", "--no-telemetry", "--lcores", "0@0,1@1",
                    "--log-level", "error", "--", "--kind", "frames", "--esp", "gcm", "--frame-bytes", "1396",
                    "--dir", str(path)], check=True, stdout=subprocess.DEVNULL)
    key = bytes(range(20)).hex()
    sa = f'"IPv4","*","198.18.0.0","0x10000000","AES-GCM with 16 octet ICV [RFC4106]","0x{key}","NULL",""'
    start = time.monotonic()
    done = subprocess.run(["tshark", "-n", "-r", str(path), "-o", "esp.enable_encryption_decode:TRUE",
                           "-o", f"uat:esp_sa:{sa}", "-Y", "tcp", "-T", "fields", "-e", "tcp.dstport"],
                          check=True, capture_output=True, text=True)
    elapsed, n = time.monotonic() - start, len(done.stdout.split())
    path.unlink()
    if n != 4096:
        sys.exit(f"tools/bench: tshark decrypted {n} of 4096 packets.")
    return {"name": "tshark_gcm_1400", "mpps": round(n / elapsed / 1e6, 3), "cycles_per_packet": None, "lost": 0,
            "conditions": {"source": "a file of 4,096 packets", "frames": "1396 bytes (1400 with FCS)",
                           "esp": "AES-GCM-128", "sas": 1, "loop": "start of the program included",
                           "seconds": round(elapsed, 1), "match": "all"}}


# Worker alone: closed, merged and dropped.
WORKER = ("--kind", "capture", "--closed", "--drop")

LINES = {
    "floor_64": ours("floor_64", "--kind", "floor"),
    "floor_imix": ours("floor_imix", "--kind", "floor", "--imix"),
    "idle_64": ours("idle_64", "--kind", "capture", "--captures", "0"),
    "inline_64": ours("inline_64", "--kind", "inline"),
    "inline_idle_64": ours("inline_idle_64", "--kind", "inline-idle"),
    "reject_64": ours("reject_64", "--kind", "capture", "--filter", "reject"),
    "one_capture_64": ours("one_capture_64", *WORKER),
    "five_captures_64": ours("five_captures_64", *WORKER, "--captures", "5"),
    "one_rule_64": ours("one_rule_64", *WORKER, "--filter", "one-rule"),
    "long_lists_64": ours("long_lists_64", *WORKER, "--filter", "lists"),
    "match_long_lists": lookup("match_long_lists", "match"),
    "acl_long_lists": lookup("acl_long_lists", "acl"),
    "cbpf_long_lists": lookup("cbpf_long_lists", "cbpf"),
    "sa_find_10k": ours("sa_find_10k", "--kind", "sa-find"),
    "rte_ipsec_sad": ours("rte_ipsec_sad", "--kind", "sad"),
    "capture_64": capture_64,
    "capture_64_64k": ours("capture_64_64k", "--kind", "capture", "--frames", "65536", "--flows", "65536"),
    "capture_imix": ours("capture_imix", "--kind", "capture", "--imix"),
    "capture_1400": ours("capture_1400", "--kind", "capture", "--frame-bytes", "1396"),
    "overload_3x": overload,
    "esp_gcm_256": esp("esp_gcm_256", "gcm", 252),
    "esp_gcm_1400": esp("esp_gcm_1400", "gcm", 1396),
    "esp_gcm_9000": esp("esp_gcm_9000", "gcm", 8996),
    "esp_cbc_1400": esp("esp_cbc_1400", "cbc", 1396),
    "esp_full_1400": esp("esp_full_1400", "gcm", 1396, "--verify-icv"),
    "esp_1_sa": esp("esp_1_sa", "gcm", 1396, "--frames", "16384"),
    "esp_10k_sas": esp("esp_10k_sas", "gcm", 1396, "--frames", "16384", "--sas", "10000"),
    "tshark_gcm_1400": tshark,
    "capture_64_pcap": ours("capture_64_pcap", "--kind", "capture", "--device", "--closed", devices=net_pcap()),
    "capture_imix_pcap": ours("capture_imix_pcap", "--kind", "capture", "--device", "--closed", "--imix",
                              devices=net_pcap("--imix")),
    "dumpcap_64": dumpcap("dumpcap_64"),
    # Without its count on the terminal, which costs it more than half.
    "dumpcap_64_quiet": dumpcap("dumpcap_64_quiet", "-q"),
    "dumpcap_imix": dumpcap("dumpcap_imix", mix=("--imix",)),
    "writer_five": ours("writer_five", "--kind", "writer", "--captures", "5"),
    "writer_five_spread": ours("writer_five_spread", "--kind", "writer", "--captures", "5", "--spread"),
    "merge_1": ours("merge_1", "--kind", "merge", "--rings", "1"),
    "merge_2": ours("merge_2", "--kind", "merge", "--rings", "2"),
    "merge_4": ours("merge_4", "--kind", "merge", "--rings", "4"),
    "merge_8": ours("merge_8", "--kind", "merge", "--rings", "8"),
    "merge_five_1": ours("merge_five_1", "--kind", "merge", "--captures", "5"),
    "merge_five_2": ours("merge_five_2", "--kind", "merge", "--captures", "5", "--writers", "2"),
    "merge_five_spread_1": ours("merge_five_spread_1", "--kind", "merge", "--captures", "5", "--spread"),
    "merge_five_spread_2": ours("merge_five_spread_2", "--kind", "merge", "--captures", "5", "--spread",
                                "--writers", "2"),
    "memory_bandwidth": ours("memory_bandwidth", "--kind", "memory"),
}
