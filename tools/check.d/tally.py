#!/usr/bin/env python3
"""tally.py - what meson's tests came to, for tools/check.

  tally.py LOG.json PREFIX           one line a test of a run: STATUS NAME SECONDS LOGFILE SKIPPED, with
                                     tabs between; STATUS is passed, failed or skipped, SKIPPED how many
                                     of its cases it skipped. A line `note TEXT` for each line LEFT OUT
                                     that a test printed. The output of each test goes to PREFIX-NAME.log.
  tally.py --tests BUILD SUITE WORD  names of the tests of a suite that have WORD (a regex) in them
"""
import json
import os
import re
import subprocess
import sys

# What unittest and cmocka print about cases that did not run.
CASES_SKIPPED = (re.compile(r"^(?:OK|FAILED) \(.*skipped=(\d+)", re.M),
                 re.compile(r"^\[  SKIPPED \] (\d+) test\(s\)", re.M))
LEFT_OUT = re.compile(r"^LEFT OUT: (.*)", re.M)
STATUS = {"OK": "passed", "EXPECTEDFAIL": "passed", "SKIP": "skipped"}


def tests(build, suite, word):
    listed = subprocess.run(["meson", "introspect", build, "--tests"], check=True, capture_output=True)
    for test in json.loads(listed.stdout):
        if any(s.split(":")[-1] == suite for s in test["suite"]) and re.search(word, test["name"]):
            print(test["name"])


def tally(log, prefix):
    with open(log, encoding="utf-8") as lines:
        for line in lines:
            one(json.loads(line), prefix)


def one(test, prefix):
    name = test["name"].split(" / ")[-1].strip()
    output = (test.get("stdout") or "") + (test.get("stderr") or "")
    path = f"{prefix}-{name}.log"
    with open(path, "w", encoding="utf-8") as out:
        out.write(output + f"\nmeson says {test['result']}, exit status {test.get('returncode')}\n")
    skipped = sum(int(n) for pattern in CASES_SKIPPED for n in pattern.findall(output))
    print(STATUS.get(test["result"], "failed"), name, f"{test['duration']:.1f}", os.path.relpath(path),
          skipped, sep="\t")
    for text in dict.fromkeys(LEFT_OUT.findall(output)):
        print("note", f"{name}: {text}", sep="\t")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--tests"]:
        tests(*sys.argv[2:])
    else:
        tally(*sys.argv[1:])
