"""plot.py - bar charts of one saved run of tools/bench, as SVG, by hand: nothing to install.

Every chart has a background of its own, so that it reads the same on a light and on a dark page.  Labels stand
left of the bars and figures right of them, so that no two texts can meet.
"""
from html import escape

import goals

WIDTH, LABEL, RIGHT, MARGIN = 860, 300, 120, 16
BAR, STEP, GROUP = 16, 24, 30
CHAR = 6.6  # width of a character of 12 px, generously
PAPER, INK, FAINT = "#ffffff", "#1f2328", "#d0d7de"
COLORS = {"source": "#8c959f", "ours": "#1f6feb", "theirs": "#d1702a"}
GOAL_COLOR = "#1a7f37"
CLIP = 3  # a bar this much longer than the next is cut


class Bar:
    def __init__(self, result, kind, label, value, spread=None, goal=None):
        self.result, self.kind, self.label = result, kind, label
        self.value, self.spread, self.goal = value, spread, goal


def text(x, y, words, size=12, anchor="start", weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{escape(words)}</text>')


def wrapped(words, width, size=12):
    """Lines that are surely no wider."""
    lines, line = [], ""
    for word in words.split():
        if line and (len(line) + 1 + len(word)) * CHAR * size / 12 > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return lines + [line]


def scale_of(bars):
    """The longest bar, or, where one is far longer than the others, the next: that one is cut."""
    values = sorted((max([bar.value, bar.goal or 0] + (bar.spread or [])) for bar in bars), reverse=True)
    if len(values) > 1 and values[0] > CLIP * values[1]:
        return values[1] * 1.15
    return values[0] or 1


def draw_bar(bar, y, scale):
    room = WIDTH - LABEL - RIGHT - MARGIN
    length = min(bar.value / scale, 1) * room
    middle = y + BAR / 2
    out = [text(LABEL - 8, middle + 4, bar.label, anchor="end"),
           f'<rect x="{LABEL}" y="{y}" width="{max(length, 1):.1f}" height="{BAR}" fill="{COLORS[bar.kind]}"/>']
    if bar.value > scale:
        cut = LABEL + room - 30
        out.append(f'<path d="M{cut} {y + BAR + 2}l8 -{BAR + 4}M{cut + 7} {y + BAR + 2}l8 -{BAR + 4}" '
                   f'stroke="{PAPER}" stroke-width="3"/>')
    elif bar.spread and bar.spread[1] > bar.spread[0]:
        low, high = (LABEL + value / scale * room for value in bar.spread)
        out.append(f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {y + 4}v{BAR - 8}M{high:.1f} {y + 4}v{BAR - 8}" '
                   f'stroke="{INK}" stroke-width="1.5"/>')
        length = max(length, high - LABEL)
    if bar.goal is not None:
        at = bar.goal / scale * room
        out.append(f'<path d="M{LABEL + at:.1f} {y - 3}v{BAR + 6}" stroke="{GOAL_COLOR}" stroke-width="3"/>')
        if length - 4 < at < length + 60:  # the figure must not lie on the mark
            length = at
    out.append(text(LABEL + length + 8, middle + 4, figure(bar.value)))
    return out


def figure(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def legend(bars, names, y):
    out, x = [], MARGIN
    for kind, words in names.items():
        if not any(bar.kind == kind for bar in bars):
            continue
        color = COLORS[kind]
        out += [f'<rect x="{x:.1f}" y="{y - 10}" width="12" height="12" fill="{color}"/>', text(x + 18, y, words)]
        x += 18 + len(words) * CHAR + 22
    if any(bar.goal is not None for bar in bars):
        out += [f'<path d="M{x + 4:.1f} {y - 12}v16" stroke="{GOAL_COLOR}" stroke-width="3"/>', text(x + 12, y, "goal")]
        x += 12 + 5 * CHAR + 22
    if any(bar.spread and bar.spread[1] > bar.spread[0] for bar in bars):
        out += [f'<path d="M{x:.1f} {y - 4}h16M{x:.1f} {y - 8}v8M{x + 16:.1f} {y - 8}v8" stroke="{INK}" '
                f'stroke-width="1.5"/>', text(x + 24, y, "lowest to highest run")]
    return out


def place_of(report):
    m = report["machine"]
    runs = max(r["conditions"].get("runs", 1) for r in report["results"])
    return (f"{m['cpu']}, {m['cores']} cores, Linux {m['kernel']}, {m['date']}; worker on core 1, merge and store on "
            f"core 0, files on tmpfs; median of {runs} run{'s' if runs > 1 else ''}"
            f"{' (--quick)' if report['quick'] else ''}. {report['note']}")


def chart(report, title, names, groups):
    """names: what the colours are.  groups: (heading, bars); those without bars are left out."""
    groups = [(heading, bars) for heading, bars in groups if bars]
    bars = [bar for _, group in groups for bar in group]
    if not bars:
        return None
    scale, y, out = scale_of(bars), 30, []
    out.append(text(MARGIN, y, title, size=17, weight="bold"))
    for line in wrapped(place_of(report), WIDTH - 2 * MARGIN):
        y += 18
        out.append(text(MARGIN, y, line))
    y += 26
    out += legend(bars, names, y)
    for heading, group in groups:
        y += GROUP
        out.append(text(MARGIN, y, heading, size=13, weight="bold"))
        y += 10
        out.append(f'<path d="M{LABEL} {y - 2}v{len(group) * STEP - 2}" stroke="{FAINT}"/>')
        for bar in group:
            out += draw_bar(bar, y, scale)
            y += STEP
    height = y + MARGIN
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" role="img" font-family="Helvetica, Arial, sans-serif" fill="{INK}">\n'
            f'<title>{escape(title)}</title>\n'
            f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>\n' + "\n".join(out) + "\n</svg>\n")


# ---- what is drawn ----

def rate_bars(by_name, rows):
    return [Bar(by_name[name], kind, label, goals.rate_of(by_name[name]),
                by_name[name]["conditions"].get("spread"), goal)
            for name, kind, label, goal in rows if name in by_name]


def cycle_bars(by_name, rows):
    out = []
    for name, kind, label in rows:
        if name in by_name and goals.cycles_of(by_name[name]):
            c = by_name[name]["conditions"]
            out.append(Bar(by_name[name], kind, label.format(n=c.get("list_length")), goals.cycles_of(by_name[name]),
                           c.get("spread_cycles")))
    return out


def packets_chart(report, by_name):
    return chart(report, "Packets a second, in millions", {
        "source": "the port alone", "ours": "gatecap", "theirs": "dpdk-dumpcap"}, [
        ("Standard source: frames that come back", rate_bars(by_name, [
            ("floor_64", "source", "floor, 64 bytes", None),
            ("floor_imix", "source", "floor, IMIX", None),
            ("reject_64", "ours", "reject, 64 bytes", 80),
            ("capture_64", "ours", "record without loss, 64 bytes", 40),
            ("capture_64_64k", "ours", "the same, 65,536 frames", None),
            ("capture_imix", "ours", "record without loss, IMIX", 30),
            ("capture_1400", "ours", "record without loss, 1400 bytes", None),
            ("overload_3x", "ours", "recorded at 3 x that of 64 bytes", None)])),
        ("dpdk-dumpcap's source: net_pcap, infinite_rx", rate_bars(by_name, [
            ("capture_64_pcap", "ours", "gatecap, 64 bytes", None),
            ("dumpcap_64", "theirs", "dpdk-dumpcap, 64 bytes", None),
            ("dumpcap_64_quiet", "theirs", "dpdk-dumpcap -q, 64 bytes", None),
            ("capture_imix_pcap", "ours", "gatecap, IMIX", None),
            ("dumpcap_imix", "theirs", "dpdk-dumpcap, IMIX", None)]))])


def cycles_chart(report, by_name):
    return chart(report, "Cycles a packet on the worker's core", {
        "source": "without gatecap", "ours": "gatecap", "theirs": "rte_acl, libpcap"}, [
        ("Source included, 64 bytes", cycle_bars(by_name, [
            ("floor_64", "source", "floor"),
            ("idle_64", "ours", "no capture"),
            ("inline_64", "source", "router without gatecap"),
            ("inline_idle_64", "ours", "router, no capture"),
            ("reject_64", "ours", "all looked up, nothing recorded"),
            ("one_capture_64", "ours", "one capture, all recorded"),
            ("five_captures_64", "ours", "five captures, all recorded by each"),
            ("one_rule_64", "ours", "one rule, half recorded"),
            ("long_lists_64", "ours", "lists of {n}, the same half recorded")])),
        ("Look-up only, lists x lists x lists x both ways", cycle_bars(by_name, [
            ("match_long_lists", "ours", "gatecap, lists of {n}"),
            ("acl_long_lists", "theirs", "rte_acl, lists of {n}: the longest"),
            ("cbpf_long_lists", "theirs", "libpcap cBPF, lists of {n}: the longest")]))])


def writer_chart(report, by_name):
    return chart(report, "Records a second, in millions: merger and stores", {"ours": "gatecap"}, [
        ("Rings filled beforehand, merged into one store", rate_bars(by_name, [
            ("merge_1", "ours", "1 ring", None), ("merge_2", "ours", "2 rings", None),
            ("merge_4", "ours", "4 rings", None), ("merge_8", "ours", "8 rings", None)])),
        ("One ring filled beforehand, five stores, all stores together", rate_bars(by_name, [
            ("merge_five_1", "ours", "each record to all five, one writer", None),
            ("merge_five_2", "ours", "two writers on two cores", None),
            ("merge_five_spread_1", "ours", "each record to one of them, one writer", None),
            ("merge_five_spread_2", "ours", "two writers on two cores", None)])),
        ("One ring, five stores, all stores together", rate_bars(by_name, [
            ("writer_five", "ours", "each record to all five", 25),
            ("writer_five_spread", "ours", "each record to one of them", 25)]))])


CHARTS = {"bench-packets.svg": packets_chart, "bench-cycles.svg": cycles_chart, "bench-writer.svg": writer_chart}


def draw(report, folder):
    """Writes the charts that the run has lines for; gives their paths."""
    by_name = {r["name"]: r for r in report["results"]}
    paths = []
    for name, make in CHARTS.items():
        svg = make(report, by_name)
        if svg is not None:
            (folder / name).write_text(svg)
            paths.append(folder / name)
    return paths
