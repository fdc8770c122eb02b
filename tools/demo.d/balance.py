#!/usr/bin/env python3
"""balance.py - the key lines of a capture's report, and whether its books balance: balance.py REPORT

Exit: 0 if received = not_matched + lost + in_flight + in_file + overwritten, in the sum and for each
port, and the report is exact; else 1.
"""
import json
import sys


def is_balanced(books):
    return books["received"] == (books["not_matched"] + sum(books["lost"].values())
                                 + books["in_flight"] + books["in_file"] + books["overwritten"])


def line(name, books):
    lost = sum(books["lost"].values())
    print(f"  {name:<8} received {books['received']}, not matched {books['not_matched']}, lost {lost}, "
          f"in file {books['in_file']}, overwritten {books['overwritten']}")


def main(path):
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    line("total", report)
    for port in report["ports"]:
        line(port["name"], port)
    print("  classes  " + ", ".join(f"{name} {n}" for name, n in report["classes"].items()))
    return report["exact"] and all(is_balanced(b) for b in [report, *report["ports"]])


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1]) else 1)
