#!/usr/bin/env python3
"""test_live.py - what users see of the whole appliance when all goes well, and what it refuses.

    test_live.py BIN_DIR GATECAPD_ASAN [unittest arguments]

Traffic comes from capture files (tests/data) on the dataplane's own ports; what is recorded live is
compared with what `gatecap replay` makes of the same files.
"""
import hashlib
import json
import os
import pwd
import subprocess
import tempfile

from live import (ARP, Appliance, Live, Programs, assert_opens_clean, base_config, content,
                  data_frames, main, primed, read_pcap, scope_path, socket_group)

OUTER = ("k-ike1-gcm128-native.pcap", "ovpn-udp1194-plain.pcap", "scapy-special.pcap")
INNER = ("k-ike1-gcm128-native.inner.pcap", "ovpn-udp1194-plain.tap.pcap", "scapy-special.plain.pcap")
SPEED_UP = 4
LEADS = (4, 20)  # seconds of silence in which all captures must have started; then once more

# What runs together: scope -> filterData. None is the gateway.
DEFAULTS = {
    None: {},
    "site-a": {"Filters": [{}], "MaxPacketBufferSize": 1500},
    "users": {"TracingFlags": 8, "MaxPacketBufferSize": 60, "Filters": [{"Protocol": [6]}]},
}
DIRECTIONS = {
    None: {"Filters": [{"SourceSubnets": ["10.1.0.0/24", "10.99.0.1/32"],
                        "CaptureSingleDirectionTrafficOnly": True}]},
    "site-a": {"Filters": [{"SourceSubnets": ["10.1.0.0/24"],
                            "CaptureSingleDirectionTrafficOnly": False}]},
    "users": {"Filters": [{"DestinationSubnets": ["10.99.0.2"],
                           "CaptureSingleDirectionTrafficOnly": True}]},
}
CLASSES = {
    None: {"TracingFlags": 2},
    "site-a": {"TracingFlags": 1, "Filters": [{"TcpFlags": 2}, {"Protocol": [17]}]},
    "users": {"TracingFlags": 9, "Filters": [{"Protocol": [1]}]},
}


class Replay:
    """What `gatecap replay` says of the same frames."""

    def __init__(self, folder, config, outer, inner, connection, filter_data):
        self.out, report = os.path.join(folder, "replay.pcap"), os.path.join(folder, "replay.json")
        command = [Programs.path("gatecap"), "replay", "--config", config, "--inner", inner,
                   "--filter-data", json.dumps(filter_data), "--report", report]
        if connection:
            command += ["--connection", connection]
        subprocess.run(command + [outer, self.out], check=True, capture_output=True, timeout=60)
        with open(report, encoding="utf-8") as stored:
            self.report = json.load(stored)
        self.frames = [f for f in read_pcap(self.out) if f.data != ARP.data]


class Together(Live):
    """Three captures at once, two workers with two queues each, against replay."""

    needs_storage = True

    def config(self, outer, inner):
        config = base_config(wan=("outer", outer, {"queues": 2}), lan=("inner", inner, {"queues": 2}))
        config["dataplane"]["workers"] = 2
        config["captures"] = {"max_filters_per_capture": 3}
        return config

    def play(self, filters, finish):
        """Start all before the first real frame comes, play, and let finish() take the rest."""
        for lead in LEADS:
            faster = [[f._replace(time_ns=f.time_ns // SPEED_UP) for f in data_frames(*names)]
                      for names in (OUTER, INNER)]
            self.outer = self.file("outer.pcap", primed(faster[0], lead))
            self.inner = self.file("inner.pcap", primed(faster[1], lead))
            with Appliance(self.config(self.outer, self.inner)) as gw:
                for connection, filter_data in filters.items():
                    gw.cli("start", *(["--connection", connection] if connection else []),
                           "--filter-data", json.dumps(filter_data))
                if any(port["received"] > 1 for port in gw.ports().values()):
                    continue  # this machine was too slow: nothing is proved, once more
                gw.wait_played()
                self.assertTrue(all(sum(w["verdicts"].values()) > 1
                                    for w in gw.get("/stats").json["workers"]), "both workers work")
                finish(gw)
                return
        self.fail("the captures could not be started before the traffic")

    def assert_as_replayed(self, gw, connection, filter_data, data, report, first):
        folder = tempfile.mkdtemp(dir=self.files)
        replay = Replay(folder, gw.config_path, self.outer, self.inner, connection, filter_data)
        frames = [f for f in read_pcap(data) if f.data != ARP.data]
        self.assertEqual(content(frames), content(replay.frames))
        self.assertGreater(len(frames), 0)
        self.assertTrue(all(a.time_ns <= b.time_ns for a, b in zip(frames, frames[1:])),
                        "in order of time over both workers")
        # A worker that comes late gives a frame of its second port the time of the first one's last:
        # times may be later than the file's, by as much as this machine makes a thread wait.
        late = [a.time_ns - b.time_ns for a, b in
                zip(*(sorted(all_frames, key=lambda f: (f.data, f.wire_len, f.time_ns))
                      for all_frames in (frames, replay.frames)))]
        self.assertLess(max(late) - min(late), 10**9, "the file's own times")
        self.assert_books_balance(report)
        missed = 0 if first else 1  # the frame of no class that set the file going
        for live, replayed in zip(report["ports"], replay.report["ports"]):
            for key in ("received", "not_matched"):
                self.assertEqual(live[key] + missed, replayed[key], (live["name"], key))
            for key in ("recorded", "in_file", "overwritten"):
                self.assertEqual(live[key], replayed[key], (live["name"], key))
        self.assertEqual(report["classes"]["esp"], replay.report["classes"]["esp"])
        self.assertEqual([p["name"] for p in report["ports"]], ["wan", "lan"])

    def test_uploads_are_bit_for_bit_what_was_recorded(self):
        def finish(gw):
            for n, (connection, filter_data) in enumerate(DEFAULTS.items()):
                snapshot = gw.snapshot(connection)
                url = self.file("url")
                with open(url, "w", encoding="utf-8") as out:
                    out.write(gw.secret(self.sas()) + "\n")
                os.chmod(url, 0o600)
                scope = ["--connection", connection] if connection else []
                done = gw.cli("stop", *scope, "--sas-url-file", url, "--json")
                gw.assert_unseen()
                capture = json.loads(done.stdout)
                self.assertEqual((capture["state"], capture["error"]), ("Succeeded", None))
                data, properties = self.stored(capture)
                md5 = hashlib.md5(data).hexdigest()
                self.assertEqual((capture["md5"], properties["md5"]), (md5, md5))
                self.assertEqual(properties["type"], "application/vnd.tcpdump.pcap")
                self.assertEqual(data, snapshot, "nothing came since: the same bytes")
                self.assertEqual(capture["file_bytes"], len(data))
                self.check_report(gw, connection, filter_data, capture, data, n == 0)
            gw.cli("list")
            gw.wait_no_data()
        self.play(DEFAULTS, finish)

    def check_report(self, gw, connection, filter_data, capture, data, first):
        report = self.stored_report(capture)
        self.assertEqual(report, gw.report(connection), "the one beside the PCAP")
        for key in ("gatecap", "gateway", "filter_data", "received", "not_matched", "recorded",
                    "in_file", "overwritten", "in_flight", "lost", "classes", "first_time",
                    "last_time", "exact", "gaps", "ports", "file_bytes", "warnings", "notes"):
            self.assertIn(key, report)
        self.assertEqual(report.get("connection"), connection)
        self.assertEqual((report["exact"], report["gaps"]), (True, []))
        self.assertEqual(report["file_bytes"], len(data))
        self.assertEqual(report["in_file"], len(read_pcap(data)))
        self.assertRegex(report["notes"][0], "at least 600 s are recommended")
        for key in capture["counters"]:
            self.assertEqual(capture["counters"][key], report[key], key)
        self.assert_as_replayed(gw, connection, filter_data, data, report, first)
        path = self.file("opened.pcap")
        with open(path, "wb") as out:
            out.write(data)
        assert_opens_clean(self, path)

    def outputs_as_replayed(self, filters):
        def finish(gw):
            for n, (connection, filter_data) in enumerate(filters.items()):
                path = os.path.join(tempfile.mkdtemp(dir=self.files), "out.pcap")
                scope = ["--connection", connection] if connection else []
                gw.cli("stop", *scope, "--output", path)
                with open(path, "rb") as data, open(path + ".json", encoding="utf-8") as report:
                    with self.subTest(connection=connection):
                        self.assert_as_replayed(gw, connection, filter_data, data.read(),
                                                json.load(report), n == 0)
                assert_opens_clean(self, path)
        self.play(filters, finish)

    def test_directions_and_scopes_are_those_of_replay(self):
        self.outputs_as_replayed(DIRECTIONS)

    def test_classes_and_filters_are_those_of_replay(self):
        self.outputs_as_replayed(CLASSES)


class TogetherByTwoWriters(Together):
    """The same, with two threads that write the three captures."""

    def config(self, outer, inner):
        config = super().config(outer, inner)
        config["control"] = {"writers": 2}
        return config

    def check_report(self, gw, connection, filter_data, capture, data, first):
        super().check_report(gw, connection, filter_data, capture, data, first)
        folder = f"/proc/{gw.pid_of('gatecapd')}/task"
        names = []
        for task in os.listdir(folder):
            with open(f"{folder}/{task}/comm", encoding="utf-8") as comm:
                names.append(comm.read().strip())
        self.assertEqual(sorted(n for n in names if n.startswith("merge")), ["merge.0", "merge.1"])


class Refusals(Live):
    """Everything that a start or a stop can be refused for leaves all as it was."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        path = cls.file("outer.pcap", primed(data_frames(OUTER[0]), 0))
        config = base_config(wan=("outer", path, {"loops": 0}))
        config["connections"][2]["name"] = "Straße 1% ?"
        cls.gw = cls.enterClassContext(Appliance(config))

    def tearDown(self):
        for capture in self.gw.get("/captures").json["captures"]:
            if capture["state"] not in ("Succeeded", "Failed"):
                self.gw.abort(capture["connection"])

    def refused(self, status, code, *words, **body):
        return self.assert_refused(status, code, *words, answer=self.gw.post("/captures", body))

    def test_a_second_capture_of_a_scope_is_refused_and_names_the_first(self):
        for scope in ({}, {"connection": "site-a"}, {"connection": "Straße 1% ?"}):
            first = self.gw.start(**scope)
            self.refused(409, "PacketCaptureAlreadyRunning", first["id"], "stop it first", **scope)
            self.assertEqual(self.gw.show(first["connection"])["id"], first["id"])
            self.assertEqual(self.gw.abort(first["connection"])["state"], "Failed")

    def test_a_sixth_capture_is_refused_and_names_the_five(self):
        names = ["site-a", "users", "Straße 1% ?", "spare-2"]
        self.gw.start()
        for name in names:
            self.gw.start(name)
        self.refused(409, "PacketCaptureLimitReached", "5 captures", "the gateway",
                     *[f"connection {name}" for name in names], connection="spare-3")
        self.gw.abort("spare-2")
        self.gw.start("spare-3")

    def test_an_unknown_connection_is_not_found(self):
        self.refused(404, "ResourceNotFound", "no connection named nowhere", "gateway gw",
                     connection="nowhere")
        for method, tail in (("GET", ""), ("GET", "/report"), ("GET", "/snapshot"), ("GET", "/pcap")):
            answer = self.gw.request(method, scope_path("nowhere") + tail)
            self.assert_refused(404, "ResourceNotFound", "nowhere", answer=answer)
        for tail in ("/stop", "/abort", "/finish"):
            answer = self.gw.post(scope_path("nowhere") + tail, {"download": True, "md5": "0"})
            self.assert_refused(404, "ResourceNotFound", "nowhere", answer=answer)

    def test_what_does_not_run_cannot_be_stopped(self):
        for connection in (None, "users"):
            for tail in ("/stop", "/abort"):
                answer = self.gw.post(scope_path(connection) + tail, {})
                self.assert_refused(409, "PacketCaptureNotRunning", "No capture is running",
                                    answer=answer)

    def test_all_faults_of_a_filter_come_in_one_reply_with_pointers(self):
        bad = {"TracingFlags": 16, "MaxFileSize": 501, "MaxPacketBufferSize": 0,
               "Filters": [{"SourceSubnets": ["10.1.0.0/33"], "Protocol": [256]}]}
        want = {"/TracingFlags", "/MaxFileSize", "/MaxPacketBufferSize",
                "/Filters/0/SourceSubnets/0", "/Filters/0/Protocol/0"}
        for data in (bad, json.dumps(bad)):
            error = self.refused(400, "InvalidPacketCaptureFilter", "5 faults", filter_data=data)
            self.assertEqual({d["target"] for d in error["details"]}, want)
            self.assertIn(error["target"], want)
            checked = self.gw.post("/check-filter", {"filter_data": data})
            checked = self.assert_refused(400, "InvalidPacketCaptureFilter", "5 faults", answer=checked)
            self.assertEqual(checked, error, "check-filter says what start says")
        one = {"filter_data": {"TracingFlags": 0}}
        self.assertIn("1 fault:", self.gw.post("/check-filter", one).message)
        self.assertEqual(self.gw.get("/captures").json["captures"], self.tried_before())

    def tried_before(self):
        return [c for c in self.gw.get("/captures").json["captures"] if c["state"] == "Failed"]

    def test_more_filters_than_the_setting_allows_are_refused(self):
        error = self.refused(400, "InvalidPacketCaptureFilter", filter_data={"Filters": [{}, {}]})
        self.assertIn("/Filters", error["details"][0]["target"])

    def test_a_filter_that_is_odd_but_allowed_is_taken_with_warnings(self):
        capture = self.gw.start(filter_data={"TracingFlags": 15, "Filters": [{"Whatever": 1}]})
        pointers = [w["pointer"] for w in capture["warnings"]]
        self.assertIn("/TracingFlags", pointers)
        self.assertIn("/Filters/0/Whatever", pointers)

    def test_a_stop_without_a_target_is_refused_and_the_capture_goes_on(self):
        self.gw.start()
        for body in ({}, {"download": False}):
            self.assert_refused(400, "InvalidSasUrl", "start was given none",
                                answer=self.gw.post(scope_path(None) + "/stop", body))
        recorded = self.gw.show()["counters"]["recorded"]
        self.assertEqual(self.gw.wait_recorded(recorded + 10)["state"], "Running")

    def test_captures_on_a_policy_based_gateway_are_refused(self):
        config = base_config(wan=("outer", self.file("outer.pcap")))
        config["gateway"]["vpn_type"] = "PolicyBased"
        with Appliance(config) as gw:
            answer = gw.post("/captures", {})
            self.assert_refused(409, "PolicyBasedGatewayNotSupported", "policy-based", answer=answer)
            self.assertEqual(gw.get("/status").json["gateway"]["vpn_type"], "PolicyBased")

    def test_the_cli_tells_what_was_refused(self):
        self.gw.cli("start")
        done = self.gw.try_cli("start")
        self.assertEqual(done.returncode, 1)
        self.assertIn("stop it first", done.stderr)
        done = self.gw.try_cli("start", "--connection", "nowhere")
        self.assertEqual((done.returncode, "nowhere" in done.stderr), (1, True))

    def test_the_socket_is_of_the_group_and_of_nobody_else(self):
        mode = os.stat(self.gw.socket).st_mode & 0o7777
        self.assertEqual((mode, socket_group(self.gw.socket)), (0o660, "gatecap"))
        self.assertEqual(os.stat(self.gw.state_dir).st_mode & 0o777, 0o700)
        with open(f"/proc/{self.gw.pid_of('gatecapd')}/status", encoding="utf-8") as status:
            lines = dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)
        uid = str(pwd.getpwnam("gatecap").pw_uid)
        self.assertEqual(lines["Uid"].split(), [uid] * 4)
        self.assertEqual(int(lines["CapEff"], 16), 0)
        self.assertEqual(int(lines["CapPrm"], 16), 0)
        self.assertEqual(lines["NoNewPrivs"].strip(), "1")


class Wrap(Live):
    """A file that goes round and round, faster than anyone would send."""

    FILE_MAX = 1_000_000
    SNAP = 200

    def test_a_small_file_wraps_many_times_and_every_packet_is_accounted_for(self):
        path = self.file("outer.pcap", primed(data_frames(*OUTER), 0))
        config = base_config(wan=("outer", path, {"loops": 10000, "pace": "fast", "queues": 2}))
        config["dataplane"]["workers"] = 2
        with Appliance(config) as gw:
            gw.start(filter_data={"MaxFileSize": 1, "MaxPacketBufferSize": self.SNAP})
            n_snapshots = 0
            while not all(p["done"] for p in gw.ports().values()):
                self.check_file(gw.snapshot())
                n_snapshots += 1
            gw.wait_played()
            data, capture = gw.download()
            report = gw.report()
        self.assert_books_balance(report)
        received = report["received"]
        self.assertEqual(received, 10000 * len(read_pcap(path)), "of every loop, every frame")
        self.assertEqual(report["in_file"], len(read_pcap(data)))
        self.assertGreater(report["overwritten"], 3 * report["in_file"], "it wrapped many times")
        self.check_file(data)
        self.assertGreater(len(data), self.FILE_MAX - self.SNAP - 16, "full but for one record")
        self.assertEqual(capture["file_bytes"], len(data))
        whole = self.file("whole.pcap")
        with open(whole, "wb") as out:
            out.write(data)
        assert_opens_clean(self, whole)
        print(f"{n_snapshots} snapshots while it ran; lost {report['lost']}")

    def check_file(self, data):
        """Whole records in order; a snapshot may be short: what is lapped while it is copied goes."""
        frames = read_pcap(data)
        self.assertLessEqual(len(data), self.FILE_MAX)
        self.assertTrue(all(a.time_ns <= b.time_ns for a, b in zip(frames, frames[1:])))


class CheckConfig(Live):
    """gatecapd's words about a configuration, before anything runs."""

    def run_with(self, config, *args):
        path = self.file("gatecap.json")
        with open(path, "w", encoding="utf-8") as out:
            out.write(config if isinstance(config, str) else json.dumps(config))
        return subprocess.run([Programs.path("gatecapd"), "--config", path, *args], text=True,
                              capture_output=True, timeout=30, check=False)

    def test_a_gateway_without_ports_is_refused(self):
        done = self.run_with({}, "--check-config")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/ports: none: a gateway needs a port at least", done.stderr)

    def test_memory_cores_and_disk_are_told(self):
        config = base_config()
        config["dataplane"].update(workers=2, cores=[0, -1], ring_bytes=8 << 20)
        config["ports"] = [{"name": "wan", "source": "af_packet:eth0", "role": "outer"}]
        done = self.run_with(config, "--check-config")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for words in ("128.0 MiB  dataplane.memory_mb", "16.0 MiB  workers x", "worker 0: core 0",
                      "worker 1: any core", "Disk, in /var/lib/gatecap", "in all, at the most",
                      "7 connections"):
            self.assertIn(words, done.stdout)
        self.assertRegex(done.stdout, r"gatecapd: [1-5] writers?, .*the CPUs that the workers leave")
        config["control"] = {"writers": 3}
        self.assertIn("gatecapd: 3 writers, ", self.run_with(config, "--check-config").stdout)

    def test_every_fault_is_a_sentence_with_its_pointer(self):
        config = base_config()
        config["dataplane"]["workes"] = config["dataplane"].pop("workers")
        config["connections"][1]["name"] = "site-a"
        config["upload"]["block_bytes"] = "8M"
        for action in ("--check-config", "--print-dataplane-args"):
            done = self.run_with(config, action)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            for words in ("/dataplane/workes: ", 'nearest known one is "workers"',
                          "/connections/1/name: ", "/upload/block_bytes: "):
                self.assertIn(words, done.stderr)
        self.assertEqual(self.run_with("[", "--check-config").returncode, 1)
        done = subprocess.run([Programs.path("gatecapd"), "--config", self.file("none.json")],
                              capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("none.json", done.stderr)

    def test_a_wrong_configuration_ends_the_supervisor_at_once(self):
        path = self.file("bad.json")
        with open(path, "w", encoding="utf-8") as out:
            out.write("{}x")
        done = subprocess.run([Programs.path("gatecap-supervisor"), "--config", path], text=True,
                              capture_output=True, timeout=30, check=False)
        self.assertEqual(done.returncode, 1)

    def test_the_dataplanes_arguments_are_those_of_the_configuration(self):
        config = base_config(wan=("outer", "/a,b.pcap", {"queues": 1, "pace": "fast", "loops": 7}))
        config["dataplane"]["eal_args"] = ["--log-level=3"]
        done = self.run_with(config, "--print-dataplane-args")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.splitlines()
        for option, value in (("--workers", "1"), ("--ring-bytes", "8388608"), ("--idle", "sleep"),
                              ("--memory-mb", "128"), ("--eal", "--log-level=3"),
                              ("--port", "name=wan,role=outer,queues=1,pace=fast,loops=7,"
                                         "source=pcap:/a,b.pcap")):
            self.assertEqual(lines[lines.index(option) + 1], value)
        self.assertIn("--no-huge", lines)

    def test_usage_is_told_and_wrong_usage_is_status_2(self):
        gatecapd = Programs.path("gatecapd")
        for args, status in ((["--help"], 0), (["--version"], 0), ([], 2), (["--nonsense"], 2),
                             (["--config", "x", "more"], 2)):
            done = subprocess.run([gatecapd, *args], capture_output=True, text=True, timeout=30,
                                  check=False)
            self.assertEqual(done.returncode, status, args)


if __name__ == "__main__":
    main(__doc__)
