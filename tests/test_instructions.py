#!/usr/bin/env python3
"""test_instructions.py - what the guard of the instruction counts reads, adds up and complains of.

Run: test_instructions.py
"""
import importlib.util
import pathlib
import sys
import unittest

sys.dont_write_bytecode = True
PATH = pathlib.Path(__file__).resolve().parent.parent / "tools" / "check.d" / "instructions.py"
spec = importlib.util.spec_from_file_location("instructions", PATH)
guard = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guard)

PROFILE = """\
events: Ir
summary: 999

ob=/usr/lib/libc.so.6
fl=???
fn=memcpy'record_burst'worker_burst'stages_run'main
0 500

ob=/build/gatecap-stages
fl=/src/dataplane/worker.c
fn=worker_burst'stages_run'main
100 7
+2 3
cfn=record_burst'worker_burst'stages_run'main
calls=2 0
100 4000
101 1

fl=/src/dataplane/record.c
fn=record_burst'worker_burst'stages_run'main
50 20
fi=/src/dataplane/record.h
12 5
cob=/usr/lib/libc.so.6
cfi=???
cfn=memcpy'record_burst'worker_burst'stages_run'main
calls=1 0
50 500
fe=/src/dataplane/record.c
51 2

fl=/src/dataplane/headers.c
fn=headers_slow'inner_burst'worker_burst'stages_run'main
9 40

fn=headers_slow'classify_outer_burst'worker_burst'stages_run'main
9 60

fl=/src/dataplane/inner.c
fn=inner_burst'worker_burst'stages_run'main
9 1

fl=/src/dataplane/classify.c
fn=classify_outer_burst'worker_burst'stages_run'main
9 2

fl=/src/control/store_append.c
fn=store_append_run'merge_step'stages_run'main
9 30

fl=/src/control/store.c
fn=store_flush'store_commit'merge_commit'stages_run'main
9 300

fl=/src/control/merge.c
fn=merge_commit'stages_run'main
9 4

fn=merge_step'stages_run'main
9 11

fl=/src/tools/stages_main.c
fn=stages_run'main
9 70
"""


class Adding(unittest.TestCase):
    def setUp(self):
        self.sums = guard.sum_up(PROFILE.splitlines())

    def test_what_is_inlined_counts_where_it_is_and_what_is_called_counts_there(self):
        self.assertEqual(self.sums["record"], 20 + 5 + 2)

    def test_the_c_library_counts_nowhere(self):
        self.assertLess(sum(self.sums.values()), 500 + 300)

    def test_relative_lines_count_too(self):
        self.assertEqual(self.sums["books"], 7 + 3 + 1)

    def test_a_function_of_no_stage_belongs_to_its_nearest_caller(self):
        self.assertEqual(self.sums["inner"], 1 + 40)
        self.assertEqual(self.sums["classify"], 2 + 60)

    def test_files_of_the_store_are_the_store(self):
        self.assertEqual(self.sums["store"], 30)
        self.assertEqual(self.sums["merge"], 11)

    def test_all_below_a_commit_is_the_commit(self):
        self.assertEqual(self.sums["commit"], 300 + 4)

    def test_who_drives_the_stages_is_none(self):
        self.assertEqual(sum(self.sums.values()), 27 + 11 + 41 + 62 + 30 + 11 + 304)


class Comparing(unittest.TestCase):
    TABLE = {"capture": {"record": 60.0, "books": 0.5}, "lists": {"inner": 200.0}}

    def differences(self, found):
        return list(guard.differences(self.TABLE, found))

    def test_the_same_counts_are_no_difference(self):
        self.assertEqual(self.differences(self.TABLE), [])

    def test_five_percent_are_no_difference(self):
        self.assertEqual(self.differences({"capture": {"record": 63.0, "books": 0.5},
                                           "lists": {"inner": 190.0}}), [])

    def test_a_stage_that_costs_more_is_named(self):
        faults = self.differences({"capture": {"record": 63.1, "books": 0.5}, "lists": {"inner": 200.0}})
        self.assertEqual(faults, ["capture, record: 60.00 -> 63.10 instructions (+5.2 %), more."])

    def test_a_stage_that_costs_less_asks_for_a_new_table(self):
        faults = self.differences({"capture": {"record": 60.0, "books": 0.5}, "lists": {"inner": 180.0}})
        self.assertEqual(faults, ["lists, inner: 200.00 -> 180.00 instructions (-10.0 %), less: renew the table."])

    def test_a_small_stage_is_not_judged_by_its_rounding(self):
        self.assertEqual(self.differences({"capture": {"record": 60.0, "books": 0.54},
                                           "lists": {"inner": 200.0}}), [])

    def test_stages_and_cases_that_come_or_go_are_differences(self):
        faults = self.differences({"capture": {"record": 60.0, "match": 1.0}, "new": {}})
        self.assertEqual(faults, ["capture, match: the stage runs now.",
                                  "capture, books: the stage does not run any more.",
                                  "lists: the case is in the table only.",
                                  "new: the case is not in the table."])

    def test_a_table_reads_as_it_was_written(self):
        text = "".join(guard.write_table("gcc 12.2.0", self.TABLE))
        self.assertEqual(guard.read_table(text), ("gcc 12.2.0", self.TABLE))


class TheCompiler(unittest.TestCase):
    def test_it_is_read_from_the_object(self):
        self.assertEqual(guard.compiler_of("  [     1]  GCC: (Debian 12.2.0-14+deb12u1) 12.2.0\n"), "gcc 12.2.0")
        self.assertEqual(guard.compiler_of("  [     1]  Debian clang version 14.0.6\n"), "clang 14.0.6")

    def test_an_object_that_does_not_say_it_stops_the_check(self):
        self.assertRaises(SystemExit, guard.compiler_of, "no strings")


class TheTable(unittest.TestCase):
    def test_each_stage_is_in_some_case_of_it(self):
        compiler, costs = guard.read_table(guard.TABLE.read_text(encoding="utf-8"))
        self.assertRegex(compiler, r"^gcc \d+")
        self.assertEqual({stage for row in costs.values() for stage in row}, set(guard.STAGES))


if __name__ == "__main__":
    unittest.main()
