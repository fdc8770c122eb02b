"""goals.py - the goals that this bench can judge, each with its figure, its limit, and whether it is met.

Every ratio is of two medians of one run.  A goal whose lines were not measured has no figure.
"""
UNITS = {"mpps": "Mpps", "mrps": "M records/s", "gb_per_second": "GB/s"}


def unit_of(result):
    return next(key for key in UNITS if key in result)


def rate_of(result):
    return result[unit_of(result)]


def cycles_of(result):
    return result.get("cycles_per_packet") or result.get("cycles_per_record")


class Figures:
    """Medians by name; None for what was not measured."""

    def __init__(self, results):
        self.by_name = {r["name"]: r for r in results}

    def rate(self, name):
        return rate_of(self.by_name[name]) if name in self.by_name else None

    def rates(self, name, other):
        return self.ratio(self.rate(name), self.rate(other))

    def cycles(self, name, other):
        return self.ratio(*(cycles_of(self.by_name[n]) if n in self.by_name else None for n in (name, other)))

    def condition(self, name, key):
        return self.by_name[name]["conditions"].get(key) if name in self.by_name else None

    @staticmethod
    def ratio(a, b):
        return a / b if a is not None and b else None


def goal(number, what, value, limit, at_least, is_allowed=True):
    """is_allowed: what has to hold besides the limit."""
    met = None
    if value is not None:
        met = bool(is_allowed) and (value >= limit if at_least else value <= limit)
    return {"goal": number, "what": what, "value": None if value is None else round(value, 3),
            "limit": (">= " if at_least else "<= ") + f"{limit:g}", "met": met}


def is_lossless(figures, name):
    return name in figures.by_name and figures.by_name[name]["lost"] == 0


def judge(results):
    f = Figures(results)
    peak = f.condition("overload_3x", "peak_mpps")
    return [
        goal(1, "capture_64, Mpps without loss", f.rate("capture_64"), 40, True, is_lossless(f, "capture_64")),
        goal(1, "capture_imix, Mpps without loss", f.rate("capture_imix"), 30, True, is_lossless(f, "capture_imix")),
        goal(1, "capture_64_pcap / dumpcap_64", f.rates("capture_64_pcap", "dumpcap_64"), 8, True),
        goal(1, "capture_imix_pcap / dumpcap_imix", f.rates("capture_imix_pcap", "dumpcap_imix"), 8, True),
        goal(2, "reject_64, Mpps", f.rate("reject_64"), 80, True),
        goal(3, "five_captures_64 / one_capture_64, worker's cycles", f.cycles("five_captures_64", "one_capture_64"),
             1.25, False, is_lossless(f, "five_captures_64")),
        goal(3, "writer_five, M records/s, each record to all", f.rate("writer_five"), 25, True,
             is_lossless(f, "writer_five")),
        goal(3, "writer_five_spread, M records/s, each record to one", f.rate("writer_five_spread"), 25, True,
             is_lossless(f, "writer_five_spread")),
        goal(4, "long_lists_64 / one_rule_64, worker's cycles", f.cycles("long_lists_64", "one_rule_64"), 1.5, False,
             is_lossless(f, "long_lists_64")),
        goal(5, "esp_gcm_1400, Mpps a worker", f.rate("esp_gcm_1400"), 8, True),
        goal(5, "esp_cbc_1400, Mpps a worker", f.rate("esp_cbc_1400"), 8, True),
        goal(5, "esp_gcm_9000 / esp_gcm_256, cycles", f.cycles("esp_gcm_9000", "esp_gcm_256"), 1.3, False),
        goal(5, "esp_10k_sas / esp_1_sa, cycles", f.cycles("esp_10k_sas", "esp_1_sa"), 1.3, False),
        goal(7, "idle_64 / floor_64, cycles", f.cycles("idle_64", "floor_64"), 1.05, False),
        goal(7, "inline_idle_64 / inline_64, cycles", f.cycles("inline_idle_64", "inline_64"), 1.05, False),
        goal(7, "overload_3x / rate without loss, recorded", f.ratio(f.rate("overload_3x"), peak), 0.9, True,
             f.condition("overload_3x", "ledger_balances")),
    ]


def beside(results):
    """Ratios that say something and are no goals: (what, value)."""
    f = Figures(results)
    found = [("capture_64_pcap / dumpcap_64_quiet", f.rates("capture_64_pcap", "dumpcap_64_quiet")),
             ("capture_64 / dumpcap_64, other sources", f.rates("capture_64", "dumpcap_64")),
             ("merge_8 / merge_1", f.rates("merge_8", "merge_1")),
             ("merge_five_2 / merge_five_1, two writers", f.rates("merge_five_2", "merge_five_1")),
             ("merge_five_spread_2 / merge_five_spread_1, two writers",
              f.rates("merge_five_spread_2", "merge_five_spread_1"))]
    return [(what, round(value, 2)) for what, value in found if value is not None]


# Whose cycles are not the packets' own: the port's, and what a router does.
FLOORS = {"net_ring, 60 bytes (64 with FCS)": "floor_64", "net_ring, IMIX 7x60 4x570 1x1514": "floor_imix"}


def net_cycles(results):
    """Cycles a packet over the floor of the same frames and working set, by name."""
    by_name = {r["name"]: r for r in results}
    net = {}
    for r in results:
        c = r["conditions"]
        floor = by_name.get(FLOORS.get(f"{c['source']}, {c.get('frames')}"))
        if r["name"] == "inline_idle_64":
            floor = by_name.get("inline_64")
        elif r["name"].startswith(("floor", "inline")):
            continue
        if floor is not None and c.get("working_set") == floor["conditions"]["working_set"]:
            net[r["name"]] = round(cycles_of(r) - cycles_of(floor), 1)
    return net
