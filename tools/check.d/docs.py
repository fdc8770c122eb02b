#!/usr/bin/env python3
"""docs.py - the documentation beside the programs: docs.py RULE BUILD_FOLDER, or --list for the rules.

Prints each thing that the documentation does not know, or knows wrongly. Exit: 0 if there is none.
"""
import glob
import os
import re
import subprocess
import sys

PROGRAMS = ("gatecap", "gatecapd", "gatecap-dataplane", "gatecap-supervisor", "gatecap-xfrm")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
KEY = re.compile(r'^\t\{"([a-z_]+)", ', re.M)
ALGORITHM = re.compile(r'^\t\{"([^"]+)", ESP_', re.M)
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]+)?\)")
MENTION = re.compile(r"\bdocs/[\w-]+\.md")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def documents():
    return ["README.md", *sorted(glob.glob("docs/*.md"))]


def help_of(build, *command):
    run = subprocess.run([os.path.join(build, command[0]), *command[1:], "--help"], check=True,
                         capture_output=True, text=True)
    return run.stdout + run.stderr


def commands(build):
    listed = re.search(r"^Commands:\n(.*?)\n\n", help_of(build, "gatecap"), re.M | re.S)
    return [line.split()[0] for line in listed.group(1).splitlines()]


def helps(build):
    for program in PROGRAMS:
        yield program, help_of(build, program)
    for command in commands(build):
        yield f"gatecap {command}", help_of(build, "gatecap", command)


def options_are_documented(build):
    known = "\n".join(read(path) for path in documents())
    for name, text in helps(build):
        for option in sorted(set(OPTION.findall(text))):
            if not re.search(re.escape(option) + r"(?![\w-])", known):
                yield f"{name}: {option} is in no document"


def commands_are_documented(build):
    known = read("docs/cli.md")
    for command in commands(build):
        if f"gatecap {command}" not in known:
            yield f"docs/cli.md does not have: gatecap {command}"


def keys_are_documented(_build):
    keys = KEY.findall(read("control/config_keys.c"))
    if len(keys) < 20:
        yield "control/config_keys.c: the keys were not found; is their table of another shape?"
    for key in keys:
        if f"`{key}`" not in read("docs/configuration.md") and f"## {key}" not in read(
                "docs/configuration.md"):
            yield f"docs/configuration.md does not have the key {key}"


def names_of_algorithms_are_documented(_build):
    names = ALGORITHM.findall(read("control/esp_names.c"))
    page = read("docs/esp-sa-file.md")
    if len(names) < 30:
        yield "control/esp_names.c: the names were not found; is their table of another shape?"
    for name in names:
        # A row has the first of those that differ by the length of their ICV, the others by that alone.
        length = re.search(r" (\d+) (?:octet|bit)\b", name)
        if f"`{name}`" not in page and not (length and f"`{length[1]}" in page):
            yield f"docs/esp-sa-file.md does not have {name}"


def anchors(path):
    """The anchors of a page's headings, as the usual renderers make them."""
    for heading in re.findall(r"^#+ (.*)", read(path), re.M):
        yield re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def links_lead_somewhere(_build):
    for path in documents():
        for target, anchor in LINK.findall(read(path)):
            if "://" in target:
                continue
            there = os.path.normpath(os.path.join(os.path.dirname(path), target))
            if not os.path.exists(there):
                yield f"{path}: {target} is not there"
            elif anchor and anchor[1:] not in anchors(there):
                yield f"{path}: {target} has no heading for {anchor}"


def mentioned_pages_exist(_build):
    for path in sorted(glob.glob("*/*.[ch]") + glob.glob("tests/*.py")):
        for page in MENTION.findall(read(path)):
            if not os.path.exists(page):
                yield f"{path} refers to {page}, which is not there"


RULES = {
    "options-are-documented": options_are_documented,
    "commands-are-documented": commands_are_documented,
    "keys-are-documented": keys_are_documented,
    "names-of-algorithms-are-documented": names_of_algorithms_are_documented,
    "links-lead-somewhere": links_lead_somewhere,
    "mentioned-pages-exist": mentioned_pages_exist,
}


def main(rule, build):
    faults = list(RULES[rule](build))
    print("\n".join(faults) or "The documentation keeps the rule.")
    return 1 if faults else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        print("\n".join(RULES))
    elif len(sys.argv) == 3 and sys.argv[1] in RULES:
        sys.exit(main(*sys.argv[1:]))
    else:
        sys.exit("usage: docs.py RULE BUILD_FOLDER | --list")
