"""gatecap-supervisor with stand-ins for its children, which write down what happens to them.

usage: test_supervisor.py GATECAP_SUPERVISOR [unittest arguments]
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else ""
DEADLINE_S = 20

STAND_IN = """#!/bin/sh
name=$(basename "$0")
case "$*" in
*--print-dataplane-args*)
    [ -e "{folder}/wrong" ] && {{ echo "gateway.name is missing." >&2; exit 1; }}
    printf '%s\\n' --socket "{folder}/dp sock" --port name=a,source=pcap:x
    exit 0;;
*--print-xfrm-args*)
    [ -e "{folder}/kernel" ] && printf '%s\\n' --socket "{folder}/xfrm sock"
    exit 0;;
esac
say() {{ echo "$name $*" >> "{folder}/journal"; }}
trap 'say hup' HUP
trap 'say term; exit 0' TERM
say start $$ "$@"
while :; do sleep 0.05; done
"""


def wait_for(condition, what):
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"{what} did not come within {DEADLINE_S} s")


class Supervisor(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix=f"gatecap-test-{os.getpid()}-")
        self.addCleanup(shutil.rmtree, self.folder)
        os.chmod(self.folder, 0o777)
        for name in ("gatecapd", "gatecap-dataplane", "gatecap-xfrm"):
            path = os.path.join(self.folder, name)
            with open(path, "w", encoding="ascii") as f:
                f.write(STAND_IN.format(folder=self.folder))
            os.chmod(path, 0o755)
        self.process = None
        self.addCleanup(self.kill)

    def start(self, n_children=2):
        self.log = open(os.path.join(self.folder, "log"), "ab")
        self.addCleanup(self.log.close)
        self.process = subprocess.Popen([PROGRAM, "--config", "my config", "--bin-dir", self.folder],
                                        stderr=self.log)
        self.wait_lines(n_children)

    def log_text(self):
        with open(self.log.name, encoding="ascii") as f:
            return f.read()

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            for line in self.lines(" start "):
                wait_for(lambda pid=line.split()[2]: not alive(pid), "the children's end")

    def lines(self, word):
        try:
            with open(os.path.join(self.folder, "journal"), encoding="ascii") as f:
                return [line.rstrip("\n") for line in f if word in line]
        except FileNotFoundError:
            return []

    def wait_lines(self, n, word=" start "):
        wait_for(lambda: len(self.lines(word)) >= n, f"line {n} with {word}")
        return self.lines(word)

    def pid_of(self, name, nth=-1):
        return int([line for line in self.lines(" start ") if line.startswith(name + " ")][nth].split()[2])

    def test_children_get_their_arguments_word_by_word(self):
        self.start()
        words = {line.split(" ", 3)[0]: line.split(" ", 3)[3] for line in self.lines(" start ")}
        self.assertEqual(words, {
            "gatecapd": "--config my config",
            "gatecap-dataplane": f"--socket {self.folder}/dp sock --port name=a,source=pcap:x"})

    def test_what_dies_is_started_again_and_the_other_is_left_alone(self):
        self.start()
        for name, other in (("gatecapd", "gatecap-dataplane"), ("gatecap-dataplane", "gatecapd")):
            n = len(self.lines(" start "))
            other_pid = self.pid_of(other)
            os.kill(self.pid_of(name), signal.SIGKILL)
            self.wait_lines(n + 1)
            self.assertEqual((self.lines(" start ")[-1].split()[0], self.pid_of(other)), (name, other_pid))

    def test_term_ends_the_dataplane_first_and_exits_0(self):
        self.start()
        self.process.terminate()
        self.assertEqual(self.process.wait(DEADLINE_S), 0)
        self.assertEqual(self.lines(" term"), ["gatecap-dataplane term", "gatecapd term"])

    def test_the_reader_of_the_kernels_sas_runs_where_it_is_wanted(self):
        open(os.path.join(self.folder, "kernel"), "w", encoding="ascii").close()
        self.start(3)
        words = [line.split(" ", 3) for line in self.lines(" start ")]
        self.assertIn(("gatecap-xfrm", f"--socket {self.folder}/xfrm sock"), [(w[0], w[3]) for w in words])
        os.kill(self.pid_of("gatecap-xfrm"), signal.SIGKILL)
        self.wait_lines(4)
        self.assertEqual(self.lines(" start ")[-1].split()[0], "gatecap-xfrm")
        self.process.terminate()
        self.assertEqual(self.process.wait(DEADLINE_S), 0)
        self.assertEqual(self.lines(" term"), ["gatecap-dataplane term", "gatecapd term", "gatecap-xfrm term"])

    def test_hup_goes_to_control_only(self):
        self.start()
        self.process.send_signal(signal.SIGHUP)
        self.assertEqual(self.wait_lines(1, " hup"), ["gatecapd hup"])
        self.assertEqual(len(self.lines(" start ")), 2)

    def test_children_end_when_the_supervisor_is_killed(self):
        self.start()
        self.process.kill()
        self.process.wait()
        self.wait_lines(2, " term")

    def test_wrong_configuration_at_the_start_is_exit_1_and_starts_nothing(self):
        open(os.path.join(self.folder, "wrong"), "w", encoding="ascii").close()
        run = subprocess.run([PROGRAM, "--config", "x", "--bin-dir", self.folder], capture_output=True,
                             timeout=DEADLINE_S)
        self.assertEqual(run.returncode, 1)
        self.assertIn(b"gateway.name is missing.", run.stderr)
        self.assertEqual(self.lines(""), [])

    def test_wrong_configuration_later_is_tried_again(self):
        self.start()
        wrong = os.path.join(self.folder, "wrong")
        open(wrong, "w", encoding="ascii").close()
        os.kill(self.pid_of("gatecap-dataplane"), signal.SIGKILL)
        wait_for(lambda: "gave no arguments" in self.log_text(), "the complaint")
        os.unlink(wrong)
        self.wait_lines(3)

    def test_command_line_faults_exit_2(self):
        for arguments in ([], ["--config"], ["--config", "x", "y"], ["--nothing"]):
            run = subprocess.run([PROGRAM, *arguments], capture_output=True, timeout=DEADLINE_S)
            self.assertEqual(run.returncode, 2)
            self.assertTrue(run.stderr.startswith(b"<3>"), run.stderr)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    unittest.main(verbosity=2)
