#!/usr/bin/env python3
"""style.py - the measurable rules of the house: style.py RULE, or --list for the rules.

Prints each place that breaks the rule. Exit: 0 if there is none. Functions are found by the tree's own
shape: a body begins with { and ends with } in the first column.
"""
import glob
import os
import re
import sys

FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
FOLDERS = ("control", "dataplane", "filters", "tests", "tools")
DPDK_ALLOWED = re.compile(r"dataplane/(rx|main)\.c|tools/(bench|costs)[^/]*")
DPDK_HEADER = re.compile(r'^\s*#\s*include\s*[<"]rte_')


def c_files():
    for folder in FOLDERS:
        yield from sorted(glob.glob(folder + "/*.[ch]"))


def text_files():
    yield from c_files()
    for pattern in ("*/*.py", "*/*/*.py", "tools/*", "tests/peers/*.mjs"):
        for path in sorted(glob.glob(pattern)):
            if os.path.isfile(path) and "node_modules" not in path and not path.endswith((".c", ".h")):
                yield path


def lines_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def files_are_short():
    for path in text_files():
        n = len(lines_of(path))
        if n > FILE_LINES_MAX:
            yield f"{path}: {n} lines; {FILE_LINES_MAX} are the most"


def functions_are_short():
    for path in c_files():
        lines, head = lines_of(path), 0
        for number, line in enumerate(lines, 1):
            if line == "{":
                begin = head or number
            elif line == "}" and number - begin + 1 > FUNCTION_LINES_MAX:
                yield (f"{path}:{begin}: a function of {number - begin + 1} lines; "
                       f"{FUNCTION_LINES_MAX} are the most")
            # The head of a function: the last line that begins a declaration in the first column.
            if re.match(r"[a-zA-Z_]", line) and not line.endswith((";", ":")):
                head = number


def dpdk_stays_in_its_place():
    for path in c_files():
        if DPDK_ALLOWED.fullmatch(path):
            continue
        for number, line in enumerate(lines_of(path), 1):
            if DPDK_HEADER.match(line):
                yield f"{path}:{number}: {line.strip()}: only rx.c, main.c and the bench may"


def files_open_with_their_reason():
    for path in c_files():
        first = (lines_of(path) or [""])[0]
        if not first.startswith(f"/* {os.path.basename(path)} - "):
            yield f'{path}:1: does not open with "/* {os.path.basename(path)} - WHAT IT IS FOR"'


RULES = {
    "files-are-short": files_are_short,
    "functions-are-short": functions_are_short,
    "dpdk-stays-in-its-place": dpdk_stays_in_its_place,
    "files-open-with-their-reason": files_open_with_their_reason,
}


def main(rule):
    faults = list(RULES[rule]())
    print("\n".join(faults) or f"{len(list(c_files()))} C files keep the rule")
    return 1 if faults or not list(c_files()) else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        print("\n".join(RULES))
    elif len(sys.argv) == 2 and sys.argv[1] in RULES:
        sys.exit(main(sys.argv[1]))
    else:
        sys.exit("usage: style.py RULE | --list")
