"""gatecap-xfrm against a real kernel that has ESP, in a user-mode Linux guest, beside `ip xfrm state`.

usage: test_live_xfrm.py GATECAP_XFRM XFRM_FEED_PROBE GATECAPD [unittest arguments]

On the host: the command line, and one test that runs all the others inside a guest, where this file is run
again with --guest (GATECAP_TESTS: names of tests of class Live, all if it is not set). gatecapd's end is xfrm_feed_probe: xfrm_feed.c with a sink that writes down what comes.
"""
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import record_xfrm  # noqa: E402
import uml  # noqa: E402

IS_GUEST = "--guest" in sys.argv
if IS_GUEST:
    sys.argv.remove("--guest")
PROGRAM, PROBE, GATECAPD = ((os.path.abspath(sys.argv.pop(1)) for _ in range(3)) if len(sys.argv) > 3
                            else ("", "", ""))
GUEST_S = 110
DEADLINE_S = 30
NET_ADMIN = 1 << 12
STORM = 12000


# ---- On the host ----

@unittest.skipIf(IS_GUEST, "for the host")
class CommandLine(unittest.TestCase):
    def run_it(self, *arguments):
        return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    def test_help_and_version(self):
        self.assertIn("Example: gatecap-xfrm", self.run_it("--help").stdout)
        self.assertRegex(self.run_it("--version").stdout, r"^gatecap-xfrm \d+\.\d+\.\d+\n$")

    def test_faults_are_exit_2_and_a_sentence(self):
        for arguments, words in ((["--nothing"], "there is no such option"), (["--socket"], "value is missing"),
                                 (["--control-uid", "x"], "must be a number"),
                                 (["--control-gid", "4294967295"], "must be a number"),
                                 (["--control-uid", "-1"], "must be a number"),
                                 (["--socket", "x" * 200], "a path of 1 to 107 bytes"), (["more"], "may stand behind")):
            run = self.run_it(*arguments)
            self.assertEqual((run.returncode, run.stdout), (2, ""), arguments)
            self.assertIn(words, run.stderr)


@unittest.skipIf(IS_GUEST, "for the host")
@unittest.skipUnless(uml.is_there(), "linux.uml is not installed (package user-mode-linux)")
class Guest(unittest.TestCase):
    def test_against_the_kernel_of_a_guest(self):
        programs = [PROGRAM, PROBE, GATECAPD] + [os.path.join(HERE, name) for name in
                                       ("test_live_xfrm.py", "record_xfrm.py", "uml.py")]
        script = ("cd /run/test && exec /usr/bin/python3 -B test_live_xfrm.py ./gatecap-xfrm ./xfrm_feed_probe "
                  "./gatecapd --guest -v " + " ".join(guest_arguments()) + "\n")
        with uml.Guest(script, programs, memory="256M") as guest:
            print(guest.run(GUEST_S), file=sys.stderr)


def guest_arguments():
    return os.environ.get("GATECAP_TESTS", "").split()


# ---- In the guest ----

def ip(*words):
    run = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise AssertionError(f"ip {' '.join(words)}: {run.stderr}")
    return run.stdout


def shell(command):
    subprocess.run(command, shell=True, check=True)


def add(spi, what=record_xfrm.GCM, verb="add"):
    shell(f"ip xfrm state {verb} src 192.0.2.1 dst 192.0.2.2 proto esp spi {spi:#x} {what}")


def delete(spi):
    shell(f"ip xfrm state delete src 192.0.2.1 dst 192.0.2.2 proto esp spi {spi:#x}")


def kernel_sas():
    """What `ip xfrm state` says of each ESP SA that has keys: (spi, src, dst, mode, keys, reqid, if_id, mark, esn)."""
    found = []
    for text in re.split(r"(?m)^(?=src )", ip("-d", "xfrm", "state")):
        m = re.match(r"src (\S+) dst (\S+)\s+proto esp spi (0x[0-9a-f]+)\S* reqid (\d+)\S* mode (\w+)", text)
        if not m or not re.search(r"(?m)^\s+(aead|enc) ", text):
            continue
        src, dst, spi, reqid, mode = m.groups()
        keys = re.findall(r"(?m)^\s+(?:aead|enc|auth-trunc) \S+ ?(0x[0-9a-f]*)?", text)
        mark = re.search(r"mark (0x[0-9a-f]+)/(0x[0-9a-f]+)", text)
        if_id = re.search(r"if_id (0x[0-9a-f]+)", text)
        found.append((int(spi, 16), "any" if "encap type" in text else src, dst, mode,
                      tuple(sorted(k[2:] for k in keys if len(k) > 2)), int(reqid), int(if_id.group(1), 16) if if_id else 0,
                      int(mark.group(1), 16) & int(mark.group(2), 16) if mark else 0,
                      bool(re.search(r"flag .*\besn\b", text))))
    return sorted(found)


def wait_for(condition, what, seconds=DEADLINE_S):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come within {seconds} s")


def read(path):
    try:
        with open(path, encoding="ascii", errors="replace") as f:
            return f.read()
    except FileNotFoundError:
        return ""


@unittest.skipUnless(IS_GUEST, "for the guest")
class Live(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.minute = tempfile.mkdtemp()
        ip("netns", "add", "minute")
        shell(f"ip netns exec minute ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x30 {record_xfrm.GCM}")
        cls.minute_pair = [subprocess.Popen(["ip", "netns", "exec", "minute", *command]) for command in (
            [PROBE, cls.minute + "/sock", cls.minute], [PROGRAM, "--socket", cls.minute + "/sock"])]
        wait_for(lambda: read(cls.minute + "/journal") == "replace 1\n", "the list")
        cls.minute_began = time.monotonic()

    @classmethod
    def tearDownClass(cls):
        for process in cls.minute_pair:
            process.kill()
            process.wait()
        shutil.rmtree(cls.minute)

    def setUp(self):
        ip("xfrm", "state", "flush")
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        os.chmod(self.folder, 0o777)
        self.socket = os.path.join(self.folder, "xfrm.sock")
        self.processes = []
        self.addCleanup(self.end_all)

    def end_all(self):
        for process in self.processes:
            process.kill()
            process.wait()

    def start(self, *command, log, **options):
        with open(os.path.join(self.folder, log), "ab") as f:
            process = subprocess.Popen(command, stderr=f, **options)
        self.processes.append(process)
        return process

    def start_probe(self, **options):
        return self.start(PROBE, self.socket, self.folder, log="probe.log", **options)

    def start_xfrm(self, *arguments, **options):
        return self.start(PROGRAM, "--socket", self.socket, *arguments, log="xfrm.log", **options)

    def text(self, name):
        return read(os.path.join(self.folder, name))

    def status(self):
        return [int(word) for word in self.text("status").split()]

    def journal(self):
        return self.text("journal").splitlines()

    def listed(self):
        """The probe's list, as kernel_sas() has it; what gatecap does not read has no keys and keeps its mode
        to itself."""
        found = []
        for line in self.text("list").splitlines():
            w = dict(word.split("=", 1) for word in line.split(" text=")[0].split(" "))
            found.append((int(w["spi"], 16), w["src"], w["dst"], {"1": "tunnel", "2": "transport"}.get(w["mode"], "-"),
                          tuple(sorted(k for k in (w["enc"], w["key"]) if k)), int(w["reqid"]), int(w["if_id"]),
                          int(w["mark"]), w["esn"] == "1"))
        return sorted(found)

    def is_same(self, readable=lambda sa: True):
        kernel, ours = kernel_sas(), self.listed()
        if [sa[:3] for sa in kernel] != [sa[:3] for sa in ours]:
            return False
        for theirs, our in zip(kernel, ours):
            if readable(theirs):
                if theirs != our:
                    return False
            elif our[4] or theirs[5:] != our[5:]:
                return False
        return True

    def wait_same(self, what, **options):
        try:
            wait_for(lambda: self.is_same(**options), what)
        except AssertionError:
            print("kernel:", *kernel_sas()[:50], "ours:", *self.listed()[:50], self.text("xfrm.log"),
                  self.text("probe.log"), sep="\n")
            raise

    def start_both(self):
        self.start_probe()
        self.xfrm = self.start_xfrm()
        self.wait_complete()

    def wait_complete(self):
        wait_for(lambda: self.status()[:2] == [1, 1], "a whole list")

    # -- what is there

    def test_all_that_is_there_at_the_start_is_told(self):
        for i, (name, what) in enumerate(record_xfrm.ADDED):
            add(0x101 + i, what)
        for _, command in record_xfrm.OTHERS[:3]:
            shell(command)
        ip("xfrm", "state", "allocspi", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "mode", "tunnel",
           "min", "0x300", "max", "0x300")
        self.start_both()
        names = [name for name, _ in record_xfrm.ADDED]
        given_up = {0x101 + names.index(name) for name in ("camellia-sha1", "beet", "cbc-128-sha512-512")}
        hidden = {0x101 + names.index(name) for name in ("keys-hidden-gcm", "keys-hidden-cbc")}
        # A MAC that cannot be checked has no key either.
        unchecked = {0x101 + names.index(name) for name in ("cbc-128-cmac", "cbc-128-sha1-160", "keys-hidden-null")}

        def readable(sa):
            return sa[0] not in given_up | hidden | unchecked
        wait_for(lambda: len(self.listed()) == len(names) + 1, "all SAs")
        kernel, ours = kernel_sas(), self.listed()
        self.assertEqual([sa for sa in kernel if readable(sa)], [sa for sa in ours if readable(sa)])
        self.assertEqual([sa[:3] + sa[5:] for sa in kernel], [sa[:3] + sa[5:] for sa in ours])
        self.assertTrue(all(sa[4] == () for sa in ours if sa[0] in given_up | hidden))
        self.assertEqual(self.status()[2:], [len(names) + 1, len(hidden), len(given_up), 3])
        self.assertEqual(self.text("probe.log").count("hides the keys"), 1)
        self.assertNotIn("000102", self.text("probe.log") + self.text("xfrm.log"))

    # -- what happens

    def test_added_rekeyed_updated_deleted_flushed(self):
        self.start_both()
        add(0x10)
        self.wait_same("the first SA")
        add(0x11)  # rekeyed: both live
        self.wait_same("the second SA")
        self.assertEqual(len(self.listed()), 2)
        add(0x11, record_xfrm.GCM + " replay-oseq 9", verb="update")
        wait_for(lambda: self.journal().count("put 0x11") == 2, "the update")
        delete(0x10)
        self.wait_same("the deletion")
        self.assertEqual([sa[0] for sa in self.listed()], [0x11])
        # One with keys in place of a reserved SPI: the kernel says that it is updated.
        ip("xfrm", "state", "allocspi", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "mode", "tunnel",
           "min", "0x300", "max", "0x300")
        add(0x300, record_xfrm.GCM, verb="update")
        self.wait_same("the one whose SPI was reserved")
        ip("xfrm", "state", "flush", "proto", "ah")
        add(0x12)
        self.wait_same("all after a flush of AH")
        self.assertEqual(len(self.listed()), 3)
        ip("xfrm", "state", "flush", "proto", "esp")
        self.wait_same("nothing")
        self.assertEqual(self.listed(), [])
        # All of it by events: one list was told, at the start, and one is the flush.
        self.assertEqual([line for line in self.journal() if line.startswith("replace")], ["replace 0", "replace 0"])

    def test_expired_ones_go(self):
        self.start_both()
        add(0x20, record_xfrm.GCM + " limit time-soft 1 limit time-hard 2")
        self.wait_same("the SA")
        self.assertEqual(len(self.listed()), 1)
        wait_for(lambda: "remove 0x20" in self.journal(), "its end")
        self.wait_same("nothing")
        self.assertEqual(kernel_sas(), [])

    def test_lost_events_are_mended_by_another_dump(self):
        self.start_both()
        self.xfrm.send_signal(signal.SIGSTOP)
        null = f"enc 'ecb(cipher_null)' '' auth-trunc 'hmac(md5)' {record_xfrm.key(16)} 96"
        with open(os.path.join(self.folder, "batch"), "w", encoding="ascii") as f:
            for i in range(STORM):
                f.write(f"xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi {0x1000 + i:#x} mode tunnel {null}\n")
        ip("-batch", os.path.join(self.folder, "batch"))
        delete(0x1000)
        delete(0x1000 + STORM - 1)
        self.xfrm.send_signal(signal.SIGCONT)
        wait_for(lambda: f"replace {STORM - 2}" in self.journal(), "a second list")
        self.wait_same("the same list")
        puts = [line for line in self.journal() if line.startswith("put")]
        self.assertLess(len(puts), STORM, "no event was lost: the storm is too small for this test")
        ip("xfrm", "state", "flush")
        self.wait_same("nothing")

    def test_within_a_minute_all_are_told_anew(self):
        # The last one: it has waited in a network namespace of its own since the others began.
        wait_for(lambda: len(read(self.minute + "/journal").splitlines()) > 1, "another list", 75)
        self.assertGreater(time.monotonic() - self.minute_began, 50)
        self.assertEqual(read(self.minute + "/journal").splitlines(), ["replace 1", "replace 1"])

    # -- who goes and comes

    def test_gatecapd_started_again_is_told_all_anew(self):
        add(0x40)
        probe = self.start_probe()
        self.start_xfrm()
        self.wait_same("the SA")
        probe.kill()
        probe.wait()
        for name in ("list", "journal", "status"):
            os.unlink(os.path.join(self.folder, name))
        add(0x41)  # while nobody listens
        self.start_probe()
        self.wait_complete()
        self.wait_same("both")
        self.assertEqual(self.journal(), ["replace 2"])
        add(0x42)
        self.wait_same("all three")
        self.assertIn("has gone; trying again", self.text("xfrm.log"))

    def test_what_a_killed_gatecap_xfrm_told_stays_in_force(self):
        add(0x50)
        self.start_both()
        self.wait_same("the SA")
        before = self.listed()
        self.xfrm.kill()
        self.xfrm.wait()
        wait_for(lambda: self.status()[:2] == [0, 0], "its end")
        delete(0x50)
        add(0x51)
        self.assertEqual(self.listed(), before)
        self.assertIn("stay in force", self.text("probe.log"))
        self.start_xfrm()
        self.wait_complete()
        self.wait_same("the new SA alone")

    def test_one_that_is_refused_is_said_once(self):
        self.start_both()
        add(0xdead)
        wait_for(lambda: "refused 0xdead" in self.journal(), "the refusal")
        add(0xdead, record_xfrm.GCM + " replay-oseq 1", verb="update")
        wait_for(lambda: self.journal().count("refused 0xdead") == 2, "the second")
        self.assertEqual(self.text("probe.log").count("There is no room."), 1)

    # -- gatecapd itself

    def ask(self, path):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.folder + "/gatecap.sock")
            s.sendall(f"GET /gatecap/v1/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: s.recv(65536), b""))
        return json.loads(answer.split(b"\r\n\r\n", 1)[1])

    def test_gatecapd_has_the_kernels_sas_and_says_how_it_stands_with_them(self):
        config = self.folder + "/gatecap.json"
        with open(config, "w", encoding="ascii") as f:
            json.dump({"gateway": {"name": "g"}, "ports": [{"name": "p", "source": "af_packet:lo", "role": "outer"}],
                       "esp": {"kernel": True, "kernel_socket": self.socket}, "dataplane": {"socket": self.folder + "/dp"},
                       "control": {"socket": self.folder + "/gatecap.sock", "state_dir": self.folder + "/state"}}, f)
        os.chmod(config, 0o644)
        arguments = subprocess.run([GATECAPD, "--config", config, "--print-xfrm-args"], capture_output=True, text=True,
                                   check=True).stdout.splitlines()
        gatecap = pwd.getpwnam("gatecap")
        self.assertEqual(arguments, ["--socket", self.socket, "--control-uid", str(gatecap.pw_uid), "--control-gid",
                                     str(gatecap.pw_gid)])
        self.start(GATECAPD, "--config", config, log="gatecapd.log")
        wait_for(lambda: "serves gateway" in self.text("gatecapd.log"), "gatecapd")
        self.assertFalse(self.ask("status")["esp"]["kernel"]["connected"])
        add(0x90)
        add(0x91, record_xfrm.enc("cbc(camellia)", 32))
        xfrm = self.start(PROGRAM, *arguments, log="xfrm.log")
        kernel = wait_for(lambda: (k := self.ask("status")["esp"]["kernel"])["complete"] and k, "the list")
        self.assertEqual((kernel["connected"], kernel["sas"], kernel["unsupported"]), (True, 2, 1))
        sas = self.ask("sas")["sas"]
        self.assertEqual({sa["origin"] if "origin" in sa else sa["source"] for sa in sas}, {"kernel"}, sas)
        self.assertNotIn("000102", json.dumps(sas) + self.text("gatecapd.log"))
        delete(0x91)
        wait_for(lambda: self.ask("status")["esp"]["kernel"]["sas"] == 1, "the deletion")
        xfrm.kill()
        xfrm.wait()
        kernel = wait_for(lambda: not (k := self.ask("status")["esp"]["kernel"])["connected"] and k, "its end")
        self.assertEqual(kernel["sas"], 1)

    # -- privileges

    def test_it_keeps_net_admin_and_nothing_else(self):
        self.start_probe()
        xfrm = self.start_xfrm("--control-gid", "7")
        wait_for(lambda: "Seccomp:\t2" in read(f"/proc/{xfrm.pid}/status"), "the filter")
        status = dict(line.split(":\t", 1) for line in read(f"/proc/{xfrm.pid}/status").splitlines() if ":\t" in line)
        self.assertEqual({int(status[k], 16) for k in ("CapPrm", "CapEff")}, {NET_ADMIN})
        self.assertEqual({int(status[k], 16) for k in ("CapInh", "CapBnd", "CapAmb")}, {0})
        self.assertEqual((status["NoNewPrivs"], status["Seccomp"], status["Gid"].split()), ("1", "2", ["7"] * 4))
        self.assertEqual(status["Groups"].strip(), "")
        locked, size = (int(status[k].split()[0]) for k in ("VmLck", "VmSize"))
        self.assertGreaterEqual(locked + 16, size)  # the kernel's own page cannot be
        self.assertRegex(read(f"/proc/{xfrm.pid}/limits"), r"Max core file size +0 +0 ")
        self.assertEqual(status["CoreDumping"], "0")

    def test_it_works_for_gatecapds_user_through_a_socket_of_the_group(self):
        user = pwd.getpwnam("games")
        os.chown(self.folder, user.pw_uid, user.pw_gid)
        os.chmod(self.folder, 0o755)
        self.start_probe(user=user.pw_uid, group=user.pw_gid, extra_groups=[])
        wait_for(lambda: os.path.exists(self.socket), "the socket")
        self.assertEqual(os.stat(self.socket).st_mode & 0o777, 0o660)
        self.start_xfrm("--control-uid", str(user.pw_uid), "--control-gid", str(user.pw_gid))
        add(0x60)
        self.wait_same("the SA")

    def test_a_listener_of_another_user_is_told_nothing(self):
        user = pwd.getpwnam("games")
        add(0x70)
        self.start_probe(user=user.pw_uid, group=0, extra_groups=[])
        self.start_xfrm("--control-uid", "1234")
        wait_for(lambda: "it is told nothing" in self.text("xfrm.log"), "the refusal")
        self.assertEqual(self.text("xfrm.log").count("it is told nothing"), 1)
        self.assertEqual((self.journal(), self.listed()), ([], []))

    def test_somebody_else_than_root_is_turned_away(self):
        user = pwd.getpwnam("games")
        self.start_probe()
        wait_for(lambda: os.path.exists(self.socket), "the socket")
        os.chmod(self.socket, 0o666)
        code = ("import socket,sys; s=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET); s.connect(sys.argv[1]); "
                "print(s.recv(1))")
        run = subprocess.run([sys.executable, "-c", code, self.socket], user=user.pw_uid, capture_output=True,
                             text=True, check=False, timeout=DEADLINE_S)
        self.assertEqual(run.stdout, "b''\n")
        self.assertIn("was turned away", self.text("probe.log"))

    def test_without_the_capability_it_says_what_to_do(self):
        run = subprocess.run([PROGRAM, "--socket", self.socket], user=pwd.getpwnam("games").pw_uid, capture_output=True,
                             text=True, check=False, timeout=DEADLINE_S)
        self.assertEqual(run.returncode, 1)
        self.assertIn("needs CAP_NET_ADMIN in this network namespace: start it as root", run.stderr)

    def test_term_ends_it(self):
        self.start_both()
        self.xfrm.terminate()
        self.assertEqual(self.xfrm.wait(DEADLINE_S), -signal.SIGTERM)


if __name__ == "__main__":
    unittest.main()
