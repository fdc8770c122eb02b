#!/usr/bin/env python3
"""instructions.py - count each stage's instructions with callgrind and compare them with the table.

  instructions.py          build gatecap-stages, run its cases, compare with instructions.txt
  instructions.py --renew  the same, and write the table anew: look at what changed before committing it

A stage that takes 5 % more than the table, or 5 % less, fails; nothing is timed. Only our own functions count:
what glibc does for us depends on the machine's CPU. A function belongs to the stage of its source file;
one of no stage (headers, fragments, tries) to that of its nearest caller. Each inlined function counts where
it was inlined. Exit: 0 as in the table, 1 not, 77 the compiler is not the table's: nothing was compared.
"""
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TABLE = pathlib.Path(__file__).resolve().parent / "instructions.txt"
BUILD = ROOT / "build" / "check" / "speed"
OBJECT = BUILD / "dataplane" / "libstages.a.p" / "record.c.o"
PROGRAM = "gatecap-stages"
SKIPPED = 77
TOLERANCE = 0.05
SLACK = 0.05  # of an instruction: the table has two digits behind the point

# What each stage's instructions are divided by.
STAGES = {"inner": "packets", "classify": "packets", "match": "packets", "record": "packets", "books": "packets",
          "merge": "records", "store": "records", "commit": "commits"}
# The first that fits.
STAGE_OF_FILE = ((r"dataplane/inner\.c|filters/match_plain\.c", "inner"),
                 (r"dataplane/classify\.c", "classify"), (r"dataplane/match\.c", "match"), (r"dataplane/record\.c", "record"),
                 (r"dataplane/worker\.c", "books"), (r"control/merge[^/]*\.c", "merge"),
                 (r"control/store_index\.c", "commit"), (r"control/store[^/]*\.c", "store"))
COMMIT = "merge_commit"  # and everything below it
HEADER = """\
# Instructions of each stage, as callgrind counts them: of a worker (inner to books) a packet, of the writer
# (merge, store) a record, and of each commit. Renewed by tools/check.d/instructions.py --renew;
# docs/performance.md says what the cases are.
"""


# ---- callgrind's file ----

def functions(lines):
    """Yield (object, file, [function, its caller, ...], instructions of its own) of each place."""
    object_, file, chain, own, is_call = "", "", [], 0, False
    for line in lines:
        key, separator, value = line.rstrip("\n").partition("=")
        if separator and key in ("ob", "fl", "fn"):
            if chain:
                yield object_, file, chain, own
            chain, own = [], 0
            if key == "ob":
                object_ = value
            elif key == "fl":
                file = value
            else:
                chain = value.split("'")
        elif key == "calls":
            is_call = True  # the next line is what the callee took
        elif re.match(r"[-+*\d]", line):
            own += 0 if is_call else int(line.split()[1])
            is_call = False
    if chain:
        yield object_, file, chain, own


def stage_of(chain, stage_of_function):
    if COMMIT in chain:
        return "commit"
    for function in chain:
        if function in stage_of_function:
            return stage_of_function[function]
    return None


def sum_up(lines):
    """Instructions of each stage."""
    found = list(functions(lines))
    ours = [f for f in found if os.path.basename(f[0]) == PROGRAM]
    stage_of_function = {}
    for _, file, chain, _ in ours:
        for pattern, stage in STAGE_OF_FILE:
            if re.search(pattern + "$", file):
                stage_of_function.setdefault(chain[0], stage)
                break
    sums = {}
    for _, _, chain, own in ours:
        stage = stage_of(chain, stage_of_function)
        if stage:
            sums[stage] = sums.get(stage, 0) + own
    return sums


# ---- running ----

def run(*argv, **options):
    try:
        done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, **options)
    except FileNotFoundError:
        sys.exit(f"There is no {argv[0]} here; tools/setup installs what the checks need.")
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, argv))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def build():
    if not (BUILD / "build.ninja").exists():
        # Names and lines change no instruction.
        run("meson", "setup", BUILD, ROOT, "-Ddebug=true", env={**os.environ, "CC": "gcc"})
    run("ninja", "-C", BUILD, PROGRAM)
    return BUILD / PROGRAM


def compiler_of(text):
    """From what readelf says of an object file: the build folder may be older than the compiler."""
    found = re.search(r"GCC: \(.*?\) (\S+)|clang version (\S+)", text)
    if not found:
        sys.exit(f"{OBJECT} does not say which compiler made it:\n{text}")
    return f"gcc {found[1]}" if found[1] else f"clang {found[2]}"


def count(program, case):
    """Instructions of each stage a packet, a record or a commit."""
    # Always in memory: a store may write files there in another way.
    with tempfile.TemporaryDirectory(prefix="gatecap-callgrind-", dir="/dev/shm") as folder:
        out = os.path.join(folder, "out")
        printed = run("valgrind", "--tool=callgrind", "--toggle-collect=stages_run", "--separate-callers=24",
                      "--compress-strings=no", "--compress-pos=no", f"--callgrind-out-file={out}", program, case,
                      env={**os.environ, "TMPDIR": folder})
        with open(out, encoding="utf-8") as lines:
            sums = sum_up(lines)
    n = json.loads(printed)
    costs = {}
    for stage, divisor in STAGES.items():
        if n[divisor] > 0 and stage in sums:
            costs[stage] = round(sums[stage] / n[divisor], 2)
    return costs


def count_all(program):
    cases = run(program, "--list").split()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(cases, pool.map(lambda case: count(program, case), cases)))


# ---- the table ----

def write_table(compiler, costs):
    width = max(map(len, costs)) + 2
    yield HEADER + f"compiler: {compiler}\n\n"
    yield "case".ljust(width) + "".join(stage.rjust(10) for stage in STAGES) + "\n"
    for case, row in costs.items():
        cells = (f"{row[stage]:.2f}" if stage in row else "-" for stage in STAGES)
        yield case.ljust(width) + "".join(cell.rjust(10) for cell in cells) + "\n"


def read_table(text):
    """The compiler, and of each case the costs of its stages."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    compiler = lines[0].partition(": ")[2]
    stages = lines[1].split()[1:]
    costs = {}
    for case, *cells in (line.split() for line in lines[2:]):
        costs[case] = {stage: float(cell) for stage, cell in zip(stages, cells) if cell != "-"}
    return compiler, costs


def differences(table, found):
    """A sentence for each stage that is not as the table says."""
    for case in {**table, **found}:
        before, now = table.get(case), found.get(case)
        if before is None or now is None:
            yield f"{case}: the case is {'not in the table' if before is None else 'in the table only'}."
            continue
        for stage in STAGES:
            was, is_ = before.get(stage), now.get(stage)
            if (was is None) != (is_ is None):
                yield f"{case}, {stage}: the stage {'runs now' if was is None else 'does not run any more'}."
            elif was is not None and abs(is_ - was) > max(TOLERANCE * was, SLACK):
                percent = f" ({(is_ / was - 1) * 100:+.1f} %)" if was > 0 else ""
                more = "more" if is_ > was else "less: renew the table"
                yield f"{case}, {stage}: {was:.2f} -> {is_:.2f} instructions{percent}, {more}."


def main(is_renewing):
    program = build()
    compiler = compiler_of(run("readelf", "-p", ".comment", OBJECT))
    table_compiler, table = read_table(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else ("", {})
    if not is_renewing and compiler != table_compiler:
        print(f"The table is of {table_compiler} and this is {compiler}: nothing was compared.")
        return SKIPPED
    found = count_all(program)
    faults = list(differences(table, found))
    if is_renewing:
        TABLE.write_text("".join(write_table(compiler, found)), encoding="utf-8")
    print("".join(write_table(compiler, found)))
    print("\n".join(faults) or f"{sum(map(len, found.values()))} counts are as in the table.")
    return 1 if faults and not is_renewing else 0


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--renew"]):
        sys.exit("usage: instructions.py [--renew]")
    sys.exit(main(sys.argv[1:] == ["--renew"]))
