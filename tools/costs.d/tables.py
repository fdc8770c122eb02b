"""tables.py - from what gatecap-costs measured to the tables of docs/performance.md.

The floor of a stage: the cache lines that it has to fetch from beyond the first-level cache for each packet,
or write there, each at the rate at which one core of this machine reads or writes lines in the cache, or the
memory, where they lie.  It is what the stage would cost if the work itself cost nothing.
The prediction: each resource alone, from what one core of it does here; the least is what ends first.
"""
import collections
import math
import statistics

LINE = 64
SNAP, RECORD, STORED = 120, 24, 16
FRAME_COUNT = 4096
FCS, GAP = 4, 20  # on the wire; no driver shows the first
IMIX = [60] * 7 + [570] * 4 + [1514]
FRAMES = {"64": [60], "imix": IMIX, "1400": [1396], "reject": [60], "outer": [128]}
WORKER = ("rx", "inner", "classify", "match", "record", "books", "return")
WRITER = ("merge", "store", "write")
WORKERS = (8, 16, 32)
LINKS = (100, 400)
# 16 lanes of version 4 or 5, and what a frame of more than a packet of 256 bytes needs beside its bytes.
PCIE_GB_PER_SECOND = {100: 31.5, 400: 63}
PCIE_HEADER, PCIE_PAYLOAD, PCIE_DESCRIPTORS = 24, 256, 64

Assumed = collections.namedtuple("Assumed", "memory disk file_mb")


def median(runs):
    """Of results of one shape: the same, each number the median of theirs."""
    if isinstance(runs[0], dict):
        return {key: median([run[key] for run in runs]) for key in runs[0]}
    return statistics.median(runs)


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def record_bytes(frame):
    return (RECORD + min(frame, SNAP) + 7) // 8 * 8


def stored_bytes(frame):
    return STORED + min(frame, SNAP)


def lines_of(frame, burst):
    """Of each stage: {(what, where): cache lines a packet}, for one frame of so many bytes."""
    caught = min(frame, SNAP)
    ring, stored = record_bytes(frame) / LINE, stored_bytes(frame) / LINE
    return {
        # The buffer's own line and its pointer; the frame's first line, asked for here; struct pkt.
        "rx": {("read", "L3"): 2 + 1 / 8, ("write", "L1"): 1},
        # The frame's first line, struct pkt; two loads an address, and the kind.
        "inner": {("read", "L1"): 2 + 5},
        # The frame's first line, struct pkt; two words of the ports' bits.
        "classify": {("read", "L1"): 2 + 2, ("write", "L1"): 1},
        "match": {("read", "L1"): 2},
        # struct pkt and the frame's first line; what is copied behind that; the record goes to memory.
        "record": {("read", "L1"): 2, ("read", "L3"): max(0, math.ceil(caught / LINE) - 1),
                   ("write", "memory"): ring},
        "books": {("write", "L1"): 24 / burst},
        "return": {("write", "L1"): 1 + 1 / 8},
        # The line with a record's header comes from memory; the others of it are the store's.
        "merge": {("read", "memory"): min(1, ring)},
        "store": {("read", "memory"): max(0, ring - 1), ("write", "L1"): stored},
        # The file is in memory: through a mapping, past the caches.
        "write": {("read", "L1"): stored, ("stream", "memory"): stored},
    }


SIZE_OF = {"L1": "16 KiB", "L2": "256 KiB", "L3": "4 MiB", "memory": "128 MiB"}


def floor_of(lines, machine):
    """Cycles for what is not in the first-level cache."""
    return sum(n * LINE / machine["gb_per_second"][what][SIZE_OF[where]] for (what, where), n in lines.items()
               if where != "L1") * machine["ghz"]


def costs_of(found, name):
    """Cycles of each stage a packet (worker) or record (writer); merge and store told apart."""
    run = found[name]
    costs = dict(run["worker"])
    if run["writer"]:
        merge = run["merging"]["merge"]
        costs.update(merge=merge, store=run["writer"]["store"] - merge, write=run["writer"]["write"],
                     commit=run["writer"].get("commit", 0))
    return costs


def spread(runs):
    """The least and the most cycles of worker and writer; nothing of the machine's runs."""
    totals = [costs_of({"run": run}, "run") for run in runs if "worker" in run]
    out = {}
    if totals:
        workers = [worker_cycles(costs) for costs in totals]
        out["worker"] = [min(workers), max(workers)]
    if totals and "merge" in totals[0]:
        writers = [writer_cycles(costs) for costs in totals]
        out["writer"] = [min(writers), max(writers)]
    return out


def worker_cycles(costs):
    return sum(costs.get(stage, 0) for stage in WORKER)


def writer_cycles(costs):
    return sum(costs[stage] for stage in ("merge", "store", "write", "commit"))


def row(*cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def head(*cells):
    yield row(*cells)
    yield "|" + "---|" * len(cells)


# ---- the tables ----

def machine_table(machine):
    rates = machine["gb_per_second"]
    yield from head("memory in use", "reads, GB/s", "writes, GB/s", "copies, GB/s", "writes past the caches, GB/s",
                    "load to use, ns", "in cycles")
    for size, ns in machine["latency_ns"].items():
        yield row(size, *(f"{rates[what][size]:.1f}" for what in ("read", "write", "copy", "stream")), f"{ns:.1f}",
                  f"{ns * machine['ghz']:.0f}")
    yield ""
    yield (f"Of one core. Two at once copy {machine['copy_on_two_gb_per_second']:.1f} GB/s in memory, which is three "
           f"times as much traffic; pwrite() brings {machine['file_gb_per_second']:.1f} GB/s into a file. "
           f"The TSC runs at {machine['ghz']:.1f} GHz; reading it takes up to {machine['border_cycles']:.0f} cycles, once "
           "a burst and stage: they are in the figures.")


def cycles_table(found):
    """A column for each burst and number of five-tuples."""
    names = [name for name in found if name.startswith("64/")]
    columns = [(name, *name.split("/")[1:]) for name in names]
    yield from head("stage", *(f"{int(flows):,} / {burst}" for _, burst, flows in columns))
    costs = [costs_of(found, name) for name in names]
    for stage in ("rx", "inner", "record", "books", "return"):
        yield row(stage, *(f"{c[stage]:.1f}" for c in costs))
    yield row("**worker**", *(f"**{worker_cycles(c):.0f}**" for c in costs))
    for stage in ("merge", "store", "write", "commit"):
        yield row(stage, *(f"{c[stage]:.1f}" for c in costs))
    yield row("**writer**", *(f"**{writer_cycles(c):.0f}**" for c in costs))
    for thread in ("worker", "writer"):
        yield row(f"{thread}, least and most", *(f"{low:.0f}-{high:.0f}" for low, high in (
            found["spread"][name][thread] for name in names)))


def outer_table(found):
    names = [name for name in found if name.startswith("outer/")]
    yield from head("stage", *(f"bursts of {name.split('/')[1]}" for name in names))
    costs = [costs_of(found, name) for name in names]
    for stage in ("rx", "classify", "match", "record", "books", "return"):
        yield row(stage, *(f"{c[stage]:.1f}" for c in costs))
    yield row("**worker**", *(f"**{worker_cycles(c):.0f}**" for c in costs))


def mean_lines(kind, stage):
    """{(what, where): lines} of a stage, over the frames of a kind."""
    of_frames = [lines_of(frame, 64)[stage] for frame in FRAMES[kind]]
    return {key: mean(of[key] for of in of_frames) for key in of_frames[0]}


def floor_row(kind, name, cycles, lines, machine):
    touched = {place: sum(n for (_, where), n in lines.items() if where == place) for place in SIZE_OF}
    moved = sum(n for place, n in touched.items() if place != "L1") * LINE
    return row(kind, name, f"{cycles:.1f}", ", ".join(f"{n:.1f} {place}" for place, n in touched.items() if n),
               f"{moved:.0f}", f"{floor_of(lines, machine):.1f}")


def floor_table(found, kinds):
    """Each stage at bursts of 64 beside its floor, then worker and writer as a whole."""
    yield from head("frames", "stage", "cycles", "lines touched a packet", "bytes moved", "floor, cycles")
    for kind in kinds:
        costs = costs_of(found, f"{kind}/64/1000")
        for thread, stages in (("worker", WORKER), ("writer", WRITER)):
            total, all_lines = 0, collections.Counter()
            for stage in stages:
                if stage in costs:
                    lines = mean_lines(kind, stage)
                    total += costs[stage]
                    all_lines.update(lines)
                    yield floor_row(kind, stage, costs[stage], lines, found["machine"])
            yield floor_row(kind, f"**{thread}**", total, all_lines, found["machine"])


# ---- other machines ----

def offered_mpps(link, frames):
    return link * 1e3 / 8 / mean(frame + FCS + GAP for frame in frames)


def memory_bytes(frames):
    """Traffic of a recorded packet: the ring is fetched, written back and read; the file's page is written past
    the caches.  Buffers stay in the last-level cache (DDIO)."""
    return mean(3 * record_bytes(frame) + stored_bytes(frame) for frame in frames)


def pcie_bytes(frames):
    return mean(frame + PCIE_HEADER * math.ceil(frame / PCIE_PAYLOAD) + PCIE_DESCRIPTORS for frame in frames)


def limits(found, kind, link, share, assumed):
    """Mpps that each resource allows, when so large a share of the packets is recorded."""
    hz = found["machine"]["ghz"] * 1e3
    frames = FRAMES[kind]
    costs, reject = costs_of(found, f"{kind}/64/1000"), costs_of(found, "reject/64/1000")
    worker = share * worker_cycles(costs) + (1 - share) * worker_cycles(reject)
    stored = mean(map(stored_bytes, frames))
    # A sync a second writes back no more than the whole file.
    disk = assumed.disk * 1e3 / (share * stored) if assumed.file_mb / 1e3 > assumed.disk else math.inf
    out = {f"{n} workers": n * hz / worker for n in WORKERS}
    out.update(writer=hz / (share * writer_cycles(costs)), memory=assumed.memory * 1e3 / (share * memory_bytes(frames)),
               disk=disk, PCIe=PCIE_GB_PER_SECOND[link] * 1e3 / pcie_bytes(frames))
    return out


def ends_first(found_limits, n, offered):
    """The least of them with n workers; the link, if all is well."""
    mine = {name: mpps for name, mpps in found_limits.items()
            if not name.endswith("workers") or name == f"{n} workers"}
    name = min(mine, key=mine.get)
    return f"{name} ({mine[name]:.0f})" if mine[name] < offered else "none"


def prediction_table(found, share, assumed):
    names = [f"{n} workers" for n in WORKERS] + ["writer", "memory", "disk", "PCIe"]
    yield from head("link, Gbit/s", "frames", "offered", *names, *(f"first with {n}" for n in WORKERS))
    for link in LINKS:
        for kind in ("64", "imix", "1400"):
            offered = offered_mpps(link, FRAMES[kind])
            mpps = limits(found, kind, link, share, assumed)
            cells = ("-" if math.isinf(mpps[name]) else f"{mpps[name]:.0f}" for name in names)
            yield row(link, kind, f"{offered:.1f}", *cells, *(ends_first(mpps, n, offered) for n in WORKERS))


def markdown(found, assumed):
    c = found["conditions"]
    yield (f"{c['cpu']}, {c['cores']} cores, Linux {c['kernel']}, {c['date']}: the worker on core 1, the writer on "
           f"core 0, {c['runs']} runs of {c['seconds']:g} s after 0.3 s of warming up, medians; standard source of {FRAME_COUNT:,} buffers, "
           "snap length 120, one capture, files in memory.")
    yield from ("", "**The machine:**", "")
    yield from machine_table(found["machine"])
    yield from ("", "**Cycles of each stage** (inner packets, 64 bytes, all recorded), worker per packet, writer per "
                "record; columns: five-tuples / burst:", "")
    yield from cycles_table(found)
    stalls = sum(run.get("stalls", 0) for run in found.values() if isinstance(run, dict))
    yield ""
    yield (f"Left out: {stalls:.0f} times that another program had one of the two cores for half a millisecond or "
           "more; what it did to the caches is in the figures. With a million five-tuples the source readdresses "
           "each buffer that it gets back: that is in `return`, and brings the frame's first line into the cache.")
    yield from ("", "**Outer packets** (ESP, IKE, OpenVPN, 128 bytes, seven of eight recorded), cycles a packet:", "")
    yield from outer_table(found)
    yield from ("", "**Beside their floors** (bursts of 64, 1,000 five-tuples):", "")
    yield from floor_table(found, ("64", "imix", "1400", "outer"))
    for share, text in ((1, "Everything recorded"), (0.01, "One packet in a hundred recorded")):
        yield from ("", f"**{text}:** Mpps that each resource allows, and which ends first:", "")
        yield from prediction_table(found, share, assumed)
    yield ""
    yield (f"Assumed: a worker and the writer of another machine are as fast as ours, and workers do not disturb "
           f"each other; {assumed.memory:g} GB/s of memory traffic; buffers stay in the last-level cache; a disk of "
           f"{assumed.disk:g} GB/s, to which a sync a second brings at most MaxFileSize ({assumed.file_mb:g} MB), "
           "so that \"-\" is no limit; PCIe with 16 lanes of version 4 (100 Gbit/s) or 5 (400), 24 bytes for each 256 "
           "of a frame and 64 of descriptors. The NIC's own packet rate is not in it.")
