"""live.py - the whole appliance for a test: supervisor, dataplane, gatecapd, and a storage.

    with Appliance(config) as gw:
        gw.start(connection="site-b", filter_data={...})
        gw.cli("stop", "--connection", "site-b", "--output", path)

Everything lives in a temporary folder and is ended by its own pid, also when a test fails. Nothing
here sleeps as a proof: until() waits for a condition and fails at its deadline.
The log of all three processes is one file; it is searched for secrets when the appliance ends.
Needs root: gatecapd becomes user gatecap, the dataplane needs its capabilities.
"""
import collections
import contextlib
import ctypes
import glob
import grp
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from urllib.parse import parse_qs, quote, unquote, urlsplit

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "data")
PEERS = os.path.join(HERE, "peers")
sys.path.insert(0, PEERS)
from azurite import Azurite, require  # noqa: E402

DEADLINE = 60
API = "/gatecap/v1"
Frame = collections.namedtuple("Frame", "time_ns data wire_len")


class Programs:
    """Where they are: set by main()."""
    bin_dir = gatecapd_asan = ""

    @classmethod
    def path(cls, name):
        return os.path.join(cls.bin_dir, name)


def until(condition, what, seconds=DEADLINE, every=0.02):
    """Wait until condition() gives something true, and give that."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(every)


# ---- capture files ----

def read_pcap(source):
    """All frames of a classic PCAP, a path or bytes; refuses anything that is not whole."""
    if isinstance(source, str):
        with open(source, "rb") as stored:
            source = stored.read()
    unit = {0xa1b2c3d4: 1000, 0xa1b23c4d: 1}[struct.unpack_from("<I", source)[0]]
    snap, link = struct.unpack_from("<II", source, 16)
    frames, at = [], 24
    while at < len(source):
        sec, part, caplen, wire_len = struct.unpack_from("<IIII", source, at)
        assert caplen <= wire_len and caplen <= snap, "an impossible record"
        data = source[at + 16:at + 16 + caplen]
        assert len(data) == caplen, "a record is cut"
        if link == 101:  # raw IP: give it the header that Ethernet has
            kind = b"\x86\xdd" if data[0] >> 4 == 6 else b"\x08\x00"
            data, wire_len = b"\2\0\0\0\0\1\2\0\0\0\0\2" + kind + data, wire_len + 14
        frames.append(Frame(sec * 10**9 + part * unit, data, wire_len))
        at += 16 + caplen
    return frames


def write_pcap(path, frames):
    with open(path, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xa1b23c4d, 2, 4, 0, 0, 262144, 1))
        for f in frames:
            out.write(struct.pack("<IIII", f.time_ns // 10**9, f.time_ns % 10**9, len(f.data),
                                  f.wire_len) + f.data)


def data_frames(*names):
    """Frames of files in tests/data, each moved so that it begins at time 0, in order of time."""
    frames = []
    for name in names:
        one = read_pcap(os.path.join(DATA, name))
        frames += [f._replace(time_ns=f.time_ns - one[0].time_ns) for f in one]
    return sorted(frames, key=lambda f: f.time_ns)


ARP = Frame(0, bytes.fromhex("ffffffffffff0200000000010806") + bytes(46), 60)


def primed(frames, lead_seconds, start_ns=1_700_000_000 * 10**9):
    """One frame that is of no class, then silence in which captures can start, then the frames."""
    return [ARP._replace(time_ns=start_ns)] + [
        f._replace(time_ns=start_ns + int(lead_seconds * 10**9) + f.time_ns) for f in frames]


def content(frames):
    """What must agree between two recordings: which bytes of which lengths, how often."""
    return collections.Counter((f.data, f.wire_len) for f in frames)


def assert_opens_clean(test, path):
    """tcpdump, tshark and capinfos each check other things."""
    for command in (["tcpdump", "-nn", "-r", path, "-w", os.devnull], ["tshark", "-n", "-r", path],
                    ["capinfos", "-M", path]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        test.assertEqual(done.returncode, 0, f"{command[0]}: {done.stderr}")
        for word in ("cut short", "damaged", "corrupt", "truncated", "bogus"):
            test.assertNotIn(word, done.stderr.lower(), command[0])
    order = subprocess.run(["capinfos", "-o", "-M", path], capture_output=True, text=True,
                           timeout=300, check=False).stdout
    if read_pcap(path):
        test.assertIn("True", order, "in strict order of time")


# ---- HTTP over a unix socket ----

class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=120):
        super().__init__("gatecap", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = {k.lower(): v for k, v in response.getheaders()}
        self.data = response.read()

    @property
    def json(self):
        return json.loads(self.data)

    @property
    def code(self):
        return self.json["error"]["code"]

    @property
    def message(self):
        return self.json["error"]["message"]

    def __repr__(self):
        return f"{self.status} {self.data[:500]!r}"


class Refused(AssertionError):
    def __init__(self, answer):
        super().__init__(repr(answer))
        self.answer = answer


def scope_path(connection):
    return f"{API}/captures/" + ("gateway" if connection is None else
                                 "connections/" + quote(connection, safe=""))


# ---- the processes ----

def end_with_parent():
    """In the child: a test that is killed leaves no appliance behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def process_name(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/comm", encoding="utf-8") as comm:
            return comm.read().strip()
    return ""


def children_of(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as children:
            return [int(word) for word in children.read().split()]
    return []


def base_config(**ports):
    """One gateway, an IPsec and an OpenVPN connection. Ports: name=(role, path[, more])."""
    return {
        "gateway": {"name": "gw", "public_addresses": ["203.0.113.2"]},
        "connections": [
            {"name": "site-a", "type": "IPsec", "peer": {"addresses": ["10.0.9.2"]},
             "remote_subnets": ["10.1.0.0/24"]},
            {"name": "users", "type": "OpenVPN", "peer": {"addresses": ["203.0.113.1"]},
             "remote_subnets": ["10.99.0.0/24"]},
        ] + [{"name": f"spare-{i}", "type": "IPsec", "peer": {"addresses": [f"198.51.100.{i}"]}}
             for i in range(1, 6)],
        "ports": [{"name": name, "source": "pcap:" + port[1], "role": port[0], **dict(*port[2:])}
                  for name, port in ports.items()],
        "dataplane": {"workers": 1, "ring_bytes": 8388608, "idle": "sleep", "memory_mb": 128},
        "upload": {"allow_http_loopback": True},
    }


class Appliance:
    """Both processes under a supervisor. `asan`: gatecapd of the sanitizer build."""

    def __init__(self, config, asan=False, env=None):
        self.config = json.loads(json.dumps(config))
        self.asan = asan
        self.env = env or {}
        self.secrets = []
        self.supervisor = None

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="gatecap-live-")
        try:
            os.chmod(self.dir, 0o755)  # user gatecap must reach the socket and the state in it
            self._lay_out()
            self.launch()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def _lay_out(self):
        os.mkdir(self.path("run"))
        shutil.chown(self.path("run"), "gatecap", "gatecap")
        self.socket = self.path("run/gatecap.sock")
        self.state_dir = self.path("state")
        self.config.setdefault("control", {}).update(socket=self.socket, state_dir=self.state_dir)
        self.config["dataplane"]["socket"] = self.path("dp.sock")
        if self.config.get("esp", {}).get("kernel"):
            self.config["esp"]["kernel_socket"] = self.path("run/xfrm.sock")
        for port in self.config["ports"]:
            kind, _, name = port["source"].partition(":")
            if kind == "pcap":
                copy = self.path(os.path.basename(name))
                if not os.path.exists(copy):
                    shutil.copyfile(name, copy)
                port["source"] = "pcap:" + copy
        self.config_path = self.path("gatecap.json")
        self.log_path = self.path("log")
        self.write_config(self.config)
        os.mkdir(self.path("bin"))
        for name in ("gatecap-supervisor", "gatecap-dataplane", "gatecapd"):
            asan = self.asan and name == "gatecapd"
            shutil.copy2(Programs.gatecapd_asan if asan else Programs.path(name),
                         self.path("bin/" + name))

    def path(self, name):
        return os.path.join(self.dir, name)

    def write_config(self, config):
        with open(self.config_path, "w", encoding="utf-8") as out:
            out.write(config if isinstance(config, str) else json.dumps(config))

    def launch(self, ready=True):
        env = dict(os.environ, ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:disable_coredump=1"
                   ":quarantine_size_mb=16",
                   UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1",
                   TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1", **self.env)
        with open(self.log_path, "ab") as log:
            self.supervisor = subprocess.Popen(
                [self.path("bin/gatecap-supervisor"), "--config", self.config_path],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                preexec_fn=end_with_parent)
        if ready:
            self.wait_ready()

    def wait_ready(self):
        def ready():
            assert self.supervisor.poll() is None, "the supervisor has ended:\n" + self.log()
            try:
                return self.get("/status").json["dataplane"]["connected"]
            except (OSError, http.client.HTTPException):
                return False
        until(ready, "the appliance is ready")

    def pid_of(self, name):
        """Of gatecapd or the dataplane, a child of our own supervisor; 0 while it is not there."""
        for pid in children_of(self.supervisor.pid):
            if process_name(pid) == name[:15]:
                return pid
        return 0

    def pids(self):
        return [self.supervisor.pid] + children_of(self.supervisor.pid)

    def kill(self, name, how=signal.SIGKILL):
        """Kill one of the two and give the pid that it had."""
        pid = until(lambda: self.pid_of(name), f"{name} runs")
        os.kill(pid, how)
        return pid

    def end(self, how=signal.SIGTERM):
        """Ask for the end; gives the exit status."""
        children = children_of(self.supervisor.pid)
        if self.supervisor.poll() is None:
            self.supervisor.send_signal(how)
        try:
            return self.supervisor.wait(90)
        except subprocess.TimeoutExpired:
            self.supervisor.kill()
            self.supervisor.wait()
            for pid in children:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            return "it had to be killed"

    def __exit__(self, kind, *_):
        try:
            if self.supervisor is not None:
                self.end()
            if kind is not None and os.path.exists(self.path("log")):
                print(f"---- log of {self.dir}\n{self.log()[-6000:]}\n----", file=sys.stderr)
            elif os.path.exists(self.path("log")):
                self.assert_clean_log()
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def assert_clean_log(self):
        text = self.log()
        for word in ("Sanitizer", "runtime error", "Assertion"):
            assert word not in text, text[-6000:]
        self.assert_secret_in_no(text, "the log")

    def assert_secret_in_no(self, text, where):
        for secret in self.secrets:
            assert secret not in text and quote(secret, safe="") not in text, f"the SAS is in {where}"

    def assert_unseen(self):
        """The secrets are in no process list and in no answer that anyone may read."""
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                with open(path, encoding="utf-8", errors="replace") as command:
                    self.assert_secret_in_no(command.read(), path)
        for path in ("/status", "/captures", "/stats"):
            self.assert_secret_in_no(self.get(path).data.decode(), path)

    # -- HTTP --

    def request(self, method, path, body=None, timeout=120):
        connection = UnixConnection(self.socket, timeout)
        try:
            data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
            connection.request(method, path if path.startswith(API) else API + path, data,
                               {"Content-Type": "application/json"})
            answer = Answer(connection.getresponse())
        finally:
            connection.close()
        if answer.headers.get("content-type") == "application/json":
            self.assert_secret_in_no(answer.data.decode(), f"the answer to {method} {path}")
        return answer

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, body=None):
        return self.request("POST", path, body)

    def ask(self, method, path, body, status):
        answer = self.request(method, path, body)
        if answer.status != status:
            raise Refused(answer)
        return answer.json

    def start(self, connection=None, filter_data=None, sas_url=None):
        body = {"connection": connection, "filter_data": filter_data, "sas_url": sas_url}
        return self.ask("POST", "/captures", {k: v for k, v in body.items() if v is not None}, 201)

    def show(self, connection=None):
        return self.ask("GET", scope_path(connection), None, 200)

    def stop(self, connection=None, **body):
        return self.ask("POST", scope_path(connection) + "/stop", body, 202)

    def abort(self, connection=None):
        return self.ask("POST", scope_path(connection) + "/abort", None, 200)

    def report(self, connection=None):
        return self.ask("GET", scope_path(connection) + "/report", None, 200)

    def snapshot(self, connection=None):
        answer = self.get(scope_path(connection) + "/snapshot")
        if answer.status != 200:
            raise Refused(answer)
        return answer.data

    def files(self, *endings):
        """Names in the state folder, of these endings."""
        return sorted(name for name in os.listdir(self.state_dir) if name.endswith(endings or ""))

    def wait_no_data(self):
        """Data and secrets are gone; a sync that was under way may still hold a store."""
        until(lambda: not [name for name in self.files() if not name.endswith(".capture")],
              "only what is shown of captures is left")

    def wait_state(self, connection, *states):
        def settled():
            capture = self.show(connection)
            return capture if capture["state"] in states else None
        return until(settled, f"{connection or 'gateway'} is {' or '.join(states)}")

    def stop_to(self, url, connection=None):
        """Stop into a SAS URL and wait for the end of it."""
        self.stop(connection, sas_url=self.secret(url))
        return self.wait_state(connection, "Succeeded", "UploadFailed", "Failed")

    def download(self, connection=None):
        """Stop, fetch, finish; gives the bytes and the capture."""
        self.stop(connection, download=True)
        self.wait_state(connection, "Uploading")
        return self.fetch(connection)

    def fetch(self, connection=None):
        answer = self.get(scope_path(connection) + "/pcap")
        if answer.status != 200:
            raise Refused(answer)
        md5 = hashlib.md5(answer.data).hexdigest()
        return answer.data, self.ask("POST", scope_path(connection) + "/finish", {"md5": md5}, 200)

    def secret(self, url):
        """Remember the signature of a SAS URL: it must be seen nowhere."""
        for sig in parse_qs(urlsplit(url).query).get("sig", []):
            if sig not in self.secrets:
                self.secrets.append(sig)
        return url

    # -- waiting for traffic --

    def ports(self):
        return {p["name"]: p for p in self.get("/stats").json["ports"]}

    def wait_played(self):
        """All files are played to their end and everything is in the stores."""
        def done():
            stats = self.get("/stats").json
            return all(p["done"] for p in stats["ports"]) and stats["ports"] and all(
                w["ring_used_bytes"] == 0 for w in stats["workers"])
        until(done, "the files are played")

    def wait_recorded(self, n, connection=None):
        """At least so many packets are recorded."""
        return until(lambda: (lambda c: c if c["counters"]["recorded"] >= n else None)(
            self.show(connection)), f"{n} packets are recorded")

    # -- CLI --

    def cli(self, *args, stdin="", status=0):
        done = self.try_cli(*args, stdin=stdin)
        if done.returncode != status:
            raise AssertionError(f"gatecap {' '.join(args)}: status {done.returncode}\n{done.stdout}"
                                 f"{done.stderr}")
        return done

    def try_cli(self, *args, stdin="", timeout=180):
        done = subprocess.run([Programs.path("gatecap"), *args, "--socket", self.socket],
                              input=stdin, capture_output=True, text=True, timeout=timeout,
                              check=False)
        self.assert_secret_in_no(done.stdout + done.stderr, f"the output of gatecap {args[0]}")
        return done


# ---- the storage ----

def blob(endpoint, *args):
    done = subprocess.run(["node", os.path.join(PEERS, "blob.mjs"), *args], text=True, check=False,
                          env=dict(os.environ, BLOB_ENDPOINT=endpoint), capture_output=True,
                          timeout=120)
    if done.returncode != 0:
        raise AssertionError(f"blob.mjs {args[0]}: {done.stderr}")
    return done.stdout.strip()


def blob_name(capture, endpoint):
    """The blob's name in the container, from the capture's URL."""
    return unquote(capture["blob_url"].split("/captures/", 1)[1])


class Live(unittest.TestCase):
    """Files of a class lie in a folder of its own; classes with `needs_storage` have Azurite."""

    needs_storage = False

    @classmethod
    def setUpClass(cls):
        cls.files = tempfile.mkdtemp(prefix="gatecap-files-")
        cls.addClassCleanup(shutil.rmtree, cls.files, True)
        os.chmod(cls.files, 0o755)
        cls.made = {}
        if cls.needs_storage:
            cls.storage = cls.enterClassContext(Azurite())
            blob(cls.storage.endpoint, "create-container")

    @classmethod
    def file(cls, name, frames=None):
        path = os.path.join(cls.files, name)
        if frames is not None:
            write_pcap(path, frames)
        return path

    @classmethod
    def sas(cls, *args):
        args = args or ("captures",)
        if args not in cls.made:
            cls.made[args] = blob(cls.storage.endpoint, "sas", *args)
        return cls.made[args]

    def through(self, proxy, *args):
        return self.sas(*args).replace(self.storage.endpoint, proxy.endpoint)

    def stored(self, capture):
        """The bytes of a capture's blob and what the storage says of it."""
        name = blob_name(capture, self.storage.endpoint)
        copy = self.file("copy")
        blob(self.storage.endpoint, "download", name, copy)
        with open(copy, "rb") as data:
            return data.read(), json.loads(blob(self.storage.endpoint, "properties", name))

    def fetch_blob(self, capture, url):
        """The bytes alone, with a SAS that may read: Azure's client takes half a second to start."""
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=30)
        self.addCleanup(connection.close)
        name = quote(blob_name(capture, self.storage.endpoint))
        connection.request("GET", f"{parts.path}/{name}?{parts.query}")
        answer = connection.getresponse()
        self.assertEqual(answer.status, 200)
        return answer.read()

    def stored_report(self, capture):
        copy = self.file("copy.json")
        name = blob_name(capture, self.storage.endpoint).removesuffix(".pcap") + ".json"
        blob(self.storage.endpoint, "download", name, copy)
        with open(copy, encoding="utf-8") as data:
            return json.load(data)

    def assert_refused(self, status, code, *words, answer):
        self.assertEqual((answer.status, answer.code), (status, code), answer)
        for word in words:
            self.assertIn(word, answer.message)
        self.assertRegex(answer.message, r"[.?]$", "a whole sentence")
        return answer.json["error"]

    def assert_books_balance(self, report, final=True):
        for part in [report] + report["ports"]:
            self.assertEqual(part["received"], part["not_matched"] + sum(part["lost"].values()) +
                             part["in_flight"] + part["in_file"] + part["overwritten"], part)
            self.assertEqual(part["recorded"], part["in_file"] + part["overwritten"], part)
            if final:
                self.assertEqual(part["in_flight"], 0, part)
        for key in ("received", "not_matched", "recorded", "in_file", "overwritten"):
            self.assertEqual(report[key], sum(p[key] for p in report["ports"]), key)


def socket_group(path):
    return grp.getgrgid(os.stat(path).st_gid).gr_name


def main(doc):
    """A test's own main: BIN_DIR GATECAPD_ASAN [unittest arguments]."""
    if len(sys.argv) < 3 or not os.path.isdir(sys.argv[1]):
        sys.exit(doc)
    if os.geteuid() != 0:
        print("Not run: root is needed.", file=sys.stderr)
        sys.exit(77)
    require()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a time-out of meson's: clean up, too
    Programs.bin_dir = os.path.abspath(sys.argv.pop(1))
    Programs.gatecapd_asan = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
