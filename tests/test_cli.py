#!/usr/bin/python3
"""test_cli.py - build/gatecap against a fake daemon that follows docs/http-api.md.

Usage: test_cli.py GATECAP [unittest arguments]
The fake answers from a script (method, path -> function) and keeps what it was asked, so that each
test sees both sides.  Waits end as soon as the condition holds.
"""
import hashlib
import http.server
import json
import os
import pty
import shutil
import signal
import socketserver
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest

GATECAP = os.path.abspath(sys.argv[1])
WAIT_S = 20
SAS = "https://acct.blob.core.windows.net/box?sv=2022-11-02&sp=cw&sig=TOPSECRET"
V1 = "/gatecap/v1"
COMMANDS = ["start", "stop", "abort", "list", "show", "snapshot", "stats", "check-filter",
            "check-sas"]


def capture(state="Running", connection=None, **more):
    c = {"id": "c1", "scope": "connection" if connection else "gateway", "connection": connection,
         "state": state, "started": "2024-05-06T07:08:09.123456789Z", "stopped": None,
         "filter_data": {"TracingFlags": 11, "MaxPacketBufferSize": 120, "MaxFileSize": 100,
                         "Filters": []},
         "counters": {"received": 1234567, "not_matched": 4, "recorded": 1000, "in_file": 900,
                      "overwritten": 100, "in_flight": 0, "lost": {"nic": 3, "ring_full": 4}},
         "file_bytes": 123456, "file_bytes_max": 100000000, "upload": None, "blob_url": None,
         "md5": None, "error": None, "warnings": [], "notes": []}
    c.update(more)
    return c


def error(status, code, message, details=None):
    e = {"code": code, "message": message}
    if details:
        e["details"] = details
    return status, {"error": e}


def contents(path):
    with open(path, "rb") as f:
        return f.read()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def address_string(self):
        return "unix"

    def answer(self):
        n = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(n)
        daemon = self.server.daemon
        with daemon.lock:
            daemon.asked.append((self.command, self.path, json.loads(body) if body else None))
        route = daemon.routes.get((self.command, self.path))
        if route is None:
            result = error(404, "ResourceNotFound", f"There is no {self.path}.")
        else:
            result = route(self) if callable(route) else route
        if result is None:  # the route has written to the socket itself, and wants it closed
            self.close_connection = True
            return
        status, data = result
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = answer


class Daemon(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path):
        super().__init__(path, Handler)
        self.daemon = self
        self.path, self.routes, self.asked = path, {}, []
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # clients that leave are part of the tests


class CliCase(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="gatecap-cli-")
        self.daemon = Daemon(os.path.join(self.dir, "sock"))
        self.routes = self.daemon.routes

    def tearDown(self):
        self.daemon.shutdown()
        self.daemon.server_close()
        shutil.rmtree(self.dir)

    def args(self, *args):
        return [GATECAP, *args, "--socket", self.daemon.path]

    def run_cli(self, *args, stdin="", code=0):
        p = subprocess.run(self.args(*args), input=stdin.encode(), capture_output=True,
                           timeout=WAIT_S)
        p.out, p.err = p.stdout.decode(errors="replace"), p.stderr.decode(errors="replace")
        self.assertEqual(p.returncode, code, p.out + p.err)
        self.assertNotIn("TOPSECRET", p.out + p.err)
        return p

    def file(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o600)
        return path

    def path(self, name):
        return os.path.join(self.dir, name)

    def names(self):
        return sorted(n for n in os.listdir(self.dir) if n != "sock")

    def asked(self, method, path):
        return [b for m, p, b in self.daemon.asked if (m, p) == (method, path)]

    def until(self, condition):
        end = time.monotonic() + WAIT_S
        while not condition():
            self.assertLess(time.monotonic(), end, "the condition never came true")
            time.sleep(0.01)


class Usage(CliCase):
    def test_help_of_every_command_shows_an_example(self):
        for command in COMMANDS:
            p = self.run_cli(command, "--help")
            self.assertIn("Usage: gatecap " + command, p.out)
            self.assertIn("Example: gatecap " + command, p.out)
            self.assertEqual(p.err, "")
        self.assertEqual(self.daemon.asked, [])

    def test_main_help_and_version(self):
        p = subprocess.run([GATECAP, "--help"], capture_output=True, text=True)
        self.assertEqual(p.returncode, 0)
        for command in COMMANDS:
            self.assertIn(command, p.stdout)
        p = subprocess.run([GATECAP, "--version"], capture_output=True, text=True)
        self.assertEqual(p.returncode, 0)
        self.assertRegex(p.stdout, r"^gatecap \d+\.\d+\.\d+\n$")

    def test_wrong_usage_is_2_with_a_hint(self):
        for args in (["nonsense"], [], ["--nonsense"]):
            p = subprocess.run([GATECAP, *args], capture_output=True, text=True)
            self.assertEqual((p.returncode, p.stdout), (2, ""))
            self.assertIn("gatecap", p.stderr)
        for args in (["start", "--nope"], ["start", "-x"], ["start", "extra"],
                     ["start", "--connection"], ["start", "--connection", ""],
                     ["start", "--output", "x"], ["list", "--connection", "x"],
                     ["stop", "--force"], ["stop", "--output", "x", "--sas-url-file", "-"],
                     ["snapshot"], ["check-filter"], ["check-filter", "a", "b"], ["check-sas"],
                     ["stats", "--follow=1"],
                     ["start", "--sas-url-file", "-", "--filter-data", "-"],
                     ["show", "--json=x"], ["abort", "now"]):
            p = self.run_cli(*args, stdin=SAS, code=2)
            self.assertIn("--help", p.err, args)
            self.assertEqual(p.out, "", args)
        self.assertEqual(self.daemon.asked, [])

    def test_an_unknown_option_never_shows_its_value(self):
        for args in (["start", "--sas-url", SAS], ["list", "--sas-url=" + SAS],
                     ["start", "--sas=" + SAS], ["show", "--nope=" + SAS]):
            self.assertIn("no option", self.run_cli(*args, code=2).err)


class NoDaemon(CliCase):
    def test_not_running_says_how_to_start_it(self):
        for args in (["list"], ["start"], ["stop"], ["stats"], ["snapshot", "--output", "-"]):
            p = subprocess.run([GATECAP, *args, "--socket", self.path("none")],
                               capture_output=True, text=True)
            self.assertEqual((p.returncode, p.stdout), (1, ""))
            self.assertIn("gatecapd is not running", p.stderr)
            self.assertIn("systemctl start", p.stderr)

    def test_no_permission_names_the_group(self):
        os.chmod(self.dir, 0o755)
        os.chmod(self.daemon.path, 0)
        copy = shutil.copy(GATECAP, self.path("copy"))
        os.chmod(copy, 0o755)
        as_user = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
        p = subprocess.run([copy, "list", "--socket", self.daemon.path], capture_output=True,
                           text=True, **as_user)
        self.assertEqual((p.returncode, p.stdout), (1, ""))
        self.assertIn("join the group gatecap", p.stderr)

    def test_answers_that_are_not_understood(self):
        for answer in ((200, b"<html>hello</html>"), (200, b"[]"), (500, b""), (404, b"nope")):
            self.routes["GET", V1 + "/captures"] = answer
            self.assertIn("is not understood", self.run_cli("list", code=1).err)

    def test_daemon_that_hangs_up_is_a_sentence(self):
        self.routes["GET", V1 + "/captures"] = lambda h: None
        self.assertIn("did not answer", self.run_cli("list", code=1).err)

    def test_texts_of_the_daemon_cannot_drive_the_terminal(self):
        self.routes["GET", V1 + "/captures/gateway"] = error(
            409, "X", "bad \x1b[2J\x9b name\n", [{"target": "/a\x1b", "message": "b\x07\u009b"}])
        err = self.run_cli("show", code=1).stderr.decode()
        self.assertIn("bad ?[2J? name?", err)
        self.assertFalse(set(err) & {"\x1b", "\x07", "\u009b"})


class Start(CliCase):
    def test_start_sends_what_is_given_and_prints_the_settings(self):
        self.routes["POST", V1 + "/captures"] = (201, capture(
            connection="a b", warnings=[{"pointer": "/Filters", "message": "missing"}]))
        doc = '{"MaxFileSize": 100}'
        for given, stdin in ((doc, ""), ("@" + self.file("f.json", doc), ""), ("-", doc)):
            p = self.run_cli("start", "--connection", "a b", "--filter-data", given,
                             "--sas-url-file", self.file("sas", SAS + "\n"), stdin=stdin)
            self.assertEqual(self.daemon.asked[-1][2],
                             {"connection": "a b", "filter_data": doc, "sas_url": SAS})
            self.assertIn("connection a b runs since 2024-05-06T07:08:09", p.out)
            self.assertIn("gatecap stop --connection 'a b'\n", p.out)
            self.assertIn("MaxPacketBufferSize: 120", p.out)
            self.assertEqual(p.err, "warning: /Filters: missing\n")

    def test_start_of_the_gateway_sends_an_empty_object(self):
        self.routes["POST", V1 + "/captures"] = (201, capture())
        self.assertIn("--output", self.run_cli("start").out)
        self.assertEqual(self.daemon.asked[-1][2], {})

    def test_json_is_the_capture_on_one_line(self):
        self.routes["POST", V1 + "/captures"] = (201, capture())
        p = self.run_cli("start", "--json")
        self.assertEqual(json.loads(p.out), capture())
        self.assertEqual(p.out.count("\n"), 1)

    def test_every_fault_is_a_line_with_its_pointer(self):
        details = [{"code": "InvalidPacketCaptureFilter", "message": "0: 1 to 500",
                    "target": "/MaxFileSize"},
                   {"code": "InvalidPacketCaptureFilter", "message": "70000: 0-65535",
                    "target": "/Filters/0/SourcePort/1"}]
        self.routes["POST", V1 + "/captures"] = error(
            400, "InvalidPacketCaptureFilter", "The filter is wrong.", details)
        p = self.run_cli("start", "--filter-data", "{}", code=1)
        self.assertEqual(p.err, "gatecap start: The filter is wrong.\n  /MaxFileSize: 0: 1 to 500\n"
                                "  /Filters/0/SourcePort/1: 70000: 0-65535\n")
        self.assertEqual(p.out, "")
        p = self.run_cli("start", "--filter-data", "{}", "--json", code=1)
        self.assertEqual(json.loads(p.out)["error"]["details"], details)

    def test_documents_that_cannot_be_read_are_refused_here(self):
        p = self.run_cli("start", "--filter-data", "@" + self.path("none"), code=1)
        self.assertIn("No such file", p.err)
        with open(self.path("big"), "wb") as f:
            f.write(b" " * ((1 << 20) + 1))
        self.assertIn("too large",
                      self.run_cli("start", "--filter-data", "@" + self.path("big"), code=1).err)
        self.assertIn("NUL", self.run_cli("start", "--filter-data", "-", stdin="{\0}", code=1).err)
        self.assertIn("is empty", self.run_cli("start", "--sas-url-file", "-", stdin="\n",
                                               code=1).err)
        self.assertEqual(self.daemon.asked, [])

    def test_sas_file_others_can_read_is_warned_about(self):
        self.routes["POST", V1 + "/captures"] = (201, capture())
        path = self.file("sas", "  " + SAS + "\r\n\n")
        os.chmod(path, 0o644)
        self.assertIn("chmod 600", self.run_cli("start", "--sas-url-file", path).err)
        self.assertEqual(self.daemon.asked[-1][2]["sas_url"], SAS)


class Read(CliCase):
    def test_list_is_a_table(self):
        self.routes["GET", V1 + "/captures"] = (200, {"captures": [
            capture(), capture("UploadFailed", "site-b")]})
        lines = self.run_cli("list").out.splitlines()
        self.assertEqual(lines[0].split()[:3], ["SCOPE", "STATE", "STARTED"])
        self.assertEqual(lines[1].split(), ["gateway", "Running", "2024-05-06T07:08:09", "1,000",
                                            "900", "7", "123.5", "kB"])
        self.assertEqual(lines[2].split()[:3], ["connection", "site-b", "UploadFailed"])
        self.assertEqual(len(json.loads(self.run_cli("list", "--json").out)["captures"]), 2)

    def test_empty_list_says_so(self):
        self.routes["GET", V1 + "/captures"] = (200, {"captures": []})
        self.assertIn("no captures", self.run_cli("list").out)

    def test_show_has_every_number_and_encodes_the_name(self):
        c = capture("Uploading", "s/\u00e9 %", notes=["Shorter than 600 s."], error="Why.",
                    upload={"url": "https://a/b?<redacted>", "bytes_sent": 5, "bytes_total": 10})
        path = V1 + "/captures/connections/s%2F%C3%A9%20%25"
        self.routes["GET", path] = (200, c)
        p = self.run_cli("show", "--connection", "s/\u00e9 %")
        for text in ("1,234,567", "nic: 3", "ring_full: 4", "Shorter than 600 s.", "Why.",
                     "5 B of 10 B", "TracingFlags: 11", "2024-05-06T07:08:09.123456789Z"):
            self.assertIn(text, p.out)
        self.assertEqual(json.loads(self.run_cli("show", "--connection", "s/\u00e9 %",
                                                 "--json").out), c)

    def test_show_without_a_capture_is_1(self):
        self.assertIn("There is no", self.run_cli("show", code=1).err)

    def test_abort_says_what_is_gone(self):
        self.routes["POST", V1 + "/captures/gateway/abort"] = (200, capture("Failed"))
        self.assertIn("(900 packets) is deleted", self.run_cli("abort").out)
        self.assertEqual(len(self.asked("POST", V1 + "/captures/gateway/abort")), 1)

    stats = {"time": "2024-05-06T07:08:09.000000000Z",
             "ports": [{"name": "wan", "role": "outer", "received": 1000, "lost_nic": 2,
                        "classes": {"esp": 900, "other": 100}}],
             "workers": [{"ring_bytes": 1 << 20, "ring_used_bytes": 4096,
                          "verdicts": {"recorded": 7}}],
             "captures": [capture()]}

    def test_stats_has_ports_workers_and_captures(self):
        self.routes["GET", V1 + "/stats"] = (200, self.stats)
        out = self.run_cli("stats").out
        for text in ("wan", "esp 900", "4.1 kB", "recorded 7", "gateway"):
            self.assertIn(text, out)
        self.assertEqual(json.loads(self.run_cli("stats", "--json").out), self.stats)

    def test_follow_goes_on_with_rates_until_interrupted(self):
        def answer(handler):
            n = len(self.asked("GET", V1 + "/stats"))
            return 200, dict(self.stats, ports=[dict(self.stats["ports"][0], received=n * 1000000)])
        self.routes["GET", V1 + "/stats"] = answer
        for extra in ([], ["--json"]):
            self.daemon.asked.clear()
            p = subprocess.Popen(self.args("stats", "--follow", *extra), stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
            self.until(lambda: len(self.asked("GET", V1 + "/stats")) >= 3)
            p.send_signal(signal.SIGINT)
            out, err = p.communicate(timeout=WAIT_S)
            self.assertEqual(p.returncode, 0, err)
            if extra:
                self.assertGreaterEqual(len([json.loads(x) for x in out.splitlines()]), 2)
            else:
                self.assertRegex(out, r"wan +outer +2,000,000 +[0-9,]+/s")
                self.assertRegex(out, r"wan +outer +1,000,000 +- ")


class Check(CliCase):
    def test_filter_by_the_daemon(self):
        self.routes["POST", V1 + "/check-filter"] = (200, {
            "valid": True, "filter_data": {"MaxFileSize": 7},
            "warnings": [{"pointer": "/Filters", "message": "missing"}]})
        p = self.run_cli("check-filter", '{"MaxFileSize":7}')
        self.assertEqual(self.daemon.asked[-1][2], {"filter_data": '{"MaxFileSize":7}'})
        self.assertIn('"MaxFileSize":\t7', p.out)
        self.assertIn("warning: /Filters: missing", p.err)
        self.assertNotIn("without gatecapd", p.out)

    def test_filter_refused_by_the_daemon(self):
        self.routes["POST", V1 + "/check-filter"] = error(
            400, "InvalidPacketCaptureFilter", "Wrong.", [{"target": "/x", "message": "y"}])
        self.assertIn("  /x: y\n", self.run_cli("check-filter", "{}", code=1).err)

    def local(self, *args, code):
        p = subprocess.run([GATECAP, "check-filter", "--socket", self.path("none"), *args],
                           capture_output=True, text=True)
        self.assertEqual(p.returncode, code, p.stderr)
        return p

    def test_filter_without_a_daemon(self):
        p = self.local('{"MaxFileSize":7}', code=0)
        self.assertIn("without gatecapd", p.stdout)
        self.assertIn('"MaxFileSize":\t7', p.stdout)
        j = json.loads(self.local("--json", '{"MaxFileSize":7}', code=0).stdout)
        self.assertEqual((j["valid"], j["filter_data"]["MaxFileSize"]), (True, 7))
        self.assertIn("/TracingFlags", [w["pointer"] for w in j["warnings"]])

    def test_filter_refused_without_a_daemon_lists_all_faults(self):
        bad = '{"MaxFileSize":0,"Filters":[{"SourceSubnets":["10.1.0.0/33"]}]}'
        p = self.local(bad, code=1)
        self.assertIn("  /MaxFileSize: ", p.stderr)
        self.assertIn("  /Filters/0/SourceSubnets/0: ", p.stderr)
        j = json.loads(self.local("--json", bad, code=1).stdout)
        self.assertEqual(j["error"]["code"], "InvalidPacketCaptureFilter")
        self.assertEqual([d["target"] for d in j["error"]["details"]],
                         ["/MaxFileSize", "/Filters/0/SourceSubnets/0"])

    def test_sas(self):
        self.routes["POST", V1 + "/check-sas"] = (200, {
            "ok": True, "url": "https://acct.blob.core.windows.net/box?<redacted>",
            "warnings": [{"pointer": "/sasUrl", "message": "expires within the hour"}]})
        p = self.run_cli("check-sas", "--sas-url-file", "-", stdin=SAS)
        self.assertEqual(self.daemon.asked[-1][2], {"sas_url": SAS})
        self.assertIn("box?<redacted>", p.out)
        self.assertIn("expires within the hour", p.err)
        self.assertTrue(json.loads(self.run_cli("check-sas", "--json", "--sas-url-file", "-",
                                                stdin=SAS).out)["ok"])

    def test_sas_refused(self):
        self.routes["POST", V1 + "/check-sas"] = error(400, "InvalidSasUrl", "sp has no w.")
        self.assertIn("sp has no w.", self.run_cli("check-sas", "--sas-url-file", "-", stdin=SAS,
                                                   code=1).err)


class StopUpload(CliCase):
    def states(self, *captures):
        """POST stop and each GET give the next one; the last one stays."""
        rest = list(captures)

        def answer(handler):
            return 200, rest.pop(0) if len(rest) > 1 else rest[0]
        self.routes["POST", V1 + "/captures/gateway/stop"] = lambda h: (202, answer(h)[1])
        self.routes["GET", V1 + "/captures/gateway"] = answer

    uploading = capture("Uploading", upload={"url": "https://a/b?<redacted>",
                                             "bytes_sent": 50000000, "bytes_total": 100000000})
    done = capture("Succeeded", blob_url="https://acct/box/x.pcap", md5="0" * 32)

    def test_stop_waits_for_success(self):
        self.states(capture("Stopping"), self.uploading, self.done)
        p = self.run_cli("stop", "--sas-url-file", "-", stdin=SAS)
        self.assertEqual(self.asked("POST", V1 + "/captures/gateway/stop"), [{"sas_url": SAS}])
        self.assertIn("https://acct/box/x.pcap", p.out)
        self.assertIn("1,234,567", p.out)
        self.assertEqual(p.err, "")

    def test_stop_without_a_target_uses_the_url_of_start(self):
        self.states(self.done)
        self.run_cli("stop")
        self.assertEqual(self.asked("POST", V1 + "/captures/gateway/stop"), [{}])

    def test_json_is_the_finished_capture(self):
        self.states(capture("Stopping"), self.done)
        self.assertEqual(json.loads(self.run_cli("stop", "--json").out), self.done)

    def test_failures_are_1_and_say_what_to_do(self):
        self.states(capture("Stopping"), capture("UploadFailed", error="403 from the storage."))
        err = self.run_cli("stop", code=1).err
        self.assertIn("403 from the storage.", err)
        self.assertIn("data is kept", err)
        self.states(capture("Failed", error="The disk is gone."))
        self.assertIn("The disk is gone.", self.run_cli("stop", code=1).err)
        self.routes["POST", V1 + "/captures/gateway/stop"] = error(400, "InvalidSasUrl", "No w.")
        self.assertIn("No w.", self.run_cli("stop", code=1).err)

    def test_sas_url_is_wiped_from_argv_and_warned_about(self):
        seen = []

        def answer(handler):
            seen.append(contents(f"/proc/{p.pid}/cmdline"))
            return 202, self.done
        self.routes["POST", V1 + "/captures/gateway/stop"] = answer
        for args in (["--sas-url", SAS], ["--sas-url=" + SAS]):
            p = subprocess.Popen(self.args("stop", *args), stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
            out, err = p.communicate(timeout=WAIT_S)
            self.assertEqual(p.returncode, 0, err)
            self.assertIn("warning: --sas-url", err)
            self.assertNotIn("TOPSECRET", out + err)
        self.assertEqual(len(seen), 2)
        for line in seen:
            self.assertIn(b"stop", line)
            self.assertNotIn(b"TOPSECRET", line)
            self.assertNotIn(b"blob", line)
        self.assertEqual(self.asked("POST", V1 + "/captures/gateway/stop")[0], {"sas_url": SAS})

    def test_progress_is_shown_on_a_terminal(self):
        self.states(capture("Stopping"), self.uploading, self.done)
        master, slave = pty.openpty()
        p = subprocess.Popen(self.args("stop"), stdout=subprocess.PIPE, stderr=slave)
        os.close(slave)
        p.communicate(timeout=WAIT_S)
        shown = b""
        try:
            while more := os.read(master, 65536):
                shown += more
        except OSError:
            pass
        os.close(master)
        self.assertEqual(p.returncode, 0)
        self.assertIn(b"Stopping", shown)

    def interrupted(self, method, path):
        p = subprocess.Popen(self.args("stop"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True)
        self.until(lambda: len(self.asked(method, path)) >= 1)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=WAIT_S)
        self.assertEqual((p.returncode, out), (1, ""))
        self.daemon.asked.clear()
        return err

    def test_interrupted_wait_says_that_the_upload_goes_on(self):
        self.states(self.uploading)
        self.assertIn("goes on with the upload",
                      self.interrupted("GET", V1 + "/captures/gateway"))

    def test_interrupted_in_mid_request_says_what_is_known(self):
        hold = threading.Event()

        def answer(handler):
            hold.wait(WAIT_S)
            return 200, self.uploading
        self.states(self.uploading)
        self.routes["GET", V1 + "/captures/gateway"] = answer
        self.assertIn("goes on with the upload",
                      self.interrupted("GET", V1 + "/captures/gateway"))
        self.routes["POST", V1 + "/captures/gateway/stop"] = answer
        self.assertIn("may have stopped",
                      self.interrupted("POST", V1 + "/captures/gateway/stop"))
        hold.set()


class StopDownload(CliCase):
    data = bytes(range(256)) * 4096
    report = {"received": 7, "exact": True}
    scope = V1 + "/captures/gateway"

    def setUp(self):
        super().setUp()
        states = [capture("Stopping"), capture("Uploading")]
        self.routes["POST", self.scope + "/stop"] = lambda h: (202, states[0])
        self.routes["GET", self.scope] = lambda h: (200, states[1])
        self.routes["GET", self.scope + "/pcap"] = (200, self.data)
        self.routes["GET", self.scope + "/report"] = (200, self.report)
        self.routes["POST", self.scope + "/finish"] = self.finish

    def finish(self, handler):
        if self.daemon.asked[-1][2]["md5"] != hashlib.md5(self.data).hexdigest():
            return error(409, "InvalidRequestContent", "The digest is another.")
        return 200, capture("Succeeded", md5=hashlib.md5(self.data).hexdigest())

    def out(self):
        return self.path("out.pcap")

    def test_file_and_report_are_there_and_private(self):
        p = self.run_cli("stop", "--output", self.out())
        self.assertEqual(contents(self.out()), self.data)
        self.assertEqual(json.loads(contents(self.out() + ".json")), self.report)
        self.assertEqual(stat.S_IMODE(os.stat(self.out()).st_mode), 0o600)
        self.assertEqual(self.names(), ["out.pcap", "out.pcap.json"])
        self.assertEqual(self.asked("POST", self.scope + "/stop"), [{"download": True}])
        self.assertIn("1.0 MB", p.out)
        self.assertEqual(p.err, "")
        paths = [x[1] for x in self.daemon.asked]
        self.assertLess(paths.index(self.scope + "/report"), paths.index(self.scope + "/finish"))

    def test_relative_path_and_json(self):
        p = subprocess.run(self.args("stop", "--output", "rel.pcap", "--json"), cwd=self.dir,
                           capture_output=True, text=True)
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertEqual(json.loads(p.stdout)["state"], "Succeeded")
        self.assertEqual(self.names(), ["rel.pcap", "rel.pcap.json"])

    def test_kept_capture_is_downloaded_at_once(self):
        self.routes["POST", self.scope + "/stop"] = (202, capture("Uploading"))
        self.run_cli("stop", "--output", self.out())
        self.assertEqual(self.asked("GET", self.scope), [])
        self.assertEqual(contents(self.out()), self.data)

    def test_existing_names_are_refused_before_the_capture_is_stopped(self):
        for name in ("out.pcap", "out.pcap.json"):
            self.file(name, "old")
            err = self.run_cli("stop", "--output", self.out(), code=1).err
            self.assertIn("--force", err)
            self.assertEqual(self.names(), [name])
            os.unlink(self.path(name))
        self.assertIn("cannot be written",
                      self.run_cli("stop", "--output", self.path("none/x"), code=1).err)
        os.symlink("/dev/null", self.out())
        self.assertIn("not a regular file",
                      self.run_cli("stop", "--force", "--output", self.out(), code=1).err)
        self.assertEqual(self.daemon.asked, [])

    def test_force_replaces_both(self):
        self.file("out.pcap", "old")
        self.file("out.pcap.json", "old")
        self.run_cli("stop", "--output", self.out(), "--force")
        self.assertEqual(contents(self.out()), self.data)
        self.assertEqual(json.loads(contents(self.out() + ".json")), self.report)
        self.assertEqual(self.names(), ["out.pcap", "out.pcap.json"])

    def test_name_taken_meanwhile_is_not_replaced_and_the_data_is_kept(self):
        def finish(handler):
            self.file("out.pcap", "other")
            return self.finish(handler)
        self.routes["POST", self.scope + "/finish"] = finish
        err = self.run_cli("stop", "--output", self.out(), code=1).err
        self.assertEqual(contents(self.out()), b"other")
        part = [n for n in self.names() if n.endswith(".part")]
        self.assertEqual(len(part), 1)
        self.assertIn(part[0], err)
        self.assertEqual(contents(self.path(part[0])), self.data)

    def cut(self, handler, n=300000, hold=None):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self.data))
        handler.wfile.write(self.data[:n])
        handler.wfile.flush()
        if hold is not None:
            hold.wait(WAIT_S)

    def test_cut_transfer_leaves_no_file_and_says_how_to_go_on(self):
        self.file("out.pcap", "old")
        self.routes["GET", self.scope + "/pcap"] = self.cut
        err = self.run_cli("stop", "--output", self.out(), "--force", code=1).err
        self.assertIn("run the same command again", err)
        self.assertEqual(contents(self.out()), b"old")
        self.assertEqual(self.names(), ["out.pcap"])
        self.assertEqual(self.asked("POST", self.scope + "/finish"), [])
        self.routes["GET", self.scope + "/pcap"] = (200, self.data)
        self.run_cli("stop", "--output", self.out(), "--force")
        self.assertEqual(contents(self.out()), self.data)

    def test_signals_in_mid_transfer_leave_no_file(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            hold = threading.Event()
            self.routes["GET", self.scope + "/pcap"] = lambda h: self.cut(h, hold=hold)
            p = subprocess.Popen(self.args("stop", "--output", self.out()),
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.until(lambda: any(os.path.getsize(self.path(n)) >= 300000 for n in self.names()))
            p.send_signal(number)
            out, err = p.communicate(timeout=WAIT_S)
            hold.set()
            self.assertEqual((p.returncode, out), (1, ""))
            self.assertIn(f"run \"gatecap stop --output {self.out()}\" again", err)
            self.assertEqual(self.names(), [])
        self.assertEqual(self.asked("POST", self.scope + "/finish"), [])

    def test_other_digest_leaves_no_file(self):
        self.routes["GET", self.scope + "/pcap"] = (200, self.data[:-1] + b"x")
        err = self.run_cli("stop", "--output", self.out(), code=1).err
        self.assertIn("The digest is another.", err)
        self.assertIn("again", err)
        self.assertEqual(self.names(), [])

    def test_finish_without_an_answer_keeps_the_whole_file(self):
        self.routes["POST", self.scope + "/finish"] = lambda h: None
        err = self.run_cli("stop", "--output", self.out(), code=1).err
        self.assertIn("has not confirmed", err)
        self.assertEqual(contents(self.out()), self.data)

    def test_report_that_does_not_come_leaves_no_file(self):
        self.routes["GET", self.scope + "/report"] = error(500, "InternalError", "Oh.")
        self.assertIn("Oh.", self.run_cli("stop", "--output", self.out(), code=1).err)
        self.assertEqual(self.names(), [])

    def test_refusals_leave_no_file(self):
        self.routes["GET", self.scope + "/pcap"] = error(409, "PacketCaptureNotRunning", "Gone.")
        self.assertIn("Gone.", self.run_cli("stop", "--output", self.out(), code=1).err)
        self.routes["GET", self.scope] = (200, capture("Failed", error="Broken."))
        self.assertIn("Broken.", self.run_cli("stop", "--output", self.out(), code=1).err)
        self.routes["GET", self.scope] = (200, capture("Succeeded", blob_url="https://x/y"))
        self.assertIn("https://x/y", self.run_cli("stop", "--output", self.out(), code=1).err)
        self.routes["POST", self.scope + "/stop"] = error(409, "PacketCaptureNotRunning", "None.")
        self.assertIn("None.", self.run_cli("stop", "--output", self.out(), code=1).err)
        self.assertEqual(self.names(), [])

    def test_full_disk_is_a_sentence(self):
        p = subprocess.run(["/bin/sh", "-c", 'ulimit -f 200; trap "" XFSZ; exec "$@"', "sh",
                            *self.args("stop", "--output", self.out())],
                           capture_output=True, text=True)
        self.assertEqual(p.returncode, 1)
        self.assertIn("File too large", p.stderr)
        self.assertEqual(self.names(), [])

    def test_progress_of_a_download_is_shown_on_a_terminal_only(self):
        master, slave = pty.openpty()
        p = subprocess.Popen(self.args("stop", "--output", self.out()), stdout=subprocess.PIPE,
                             stderr=slave)
        os.close(slave)
        p.communicate(timeout=WAIT_S)
        shown = b""
        try:
            while more := os.read(master, 65536):
                shown += more
        except OSError:
            pass
        os.close(master)
        self.assertEqual(p.returncode, 0)
        self.assertRegex(shown, rb"Receiving  .* of 1.0 MB  \d+ %  .*/s")
        self.assertTrue(shown.endswith(b"\r\x1b[K"))


class Snapshot(CliCase):
    data = b"\xd4\xc3\xb2\xa1" + bytes(100000)
    route = V1 + "/captures/connections/b/snapshot"

    def setUp(self):
        super().setUp()
        self.routes["GET", self.route] = (200, self.data)

    def test_to_a_file(self):
        p = self.run_cli("snapshot", "--connection", "b", "--output", self.path("s.pcap"))
        self.assertIn("the capture goes on", p.out)
        self.assertEqual(contents(self.path("s.pcap")), self.data)
        self.assertEqual(self.names(), ["s.pcap"])
        self.assertIn("--force", self.run_cli("snapshot", "--connection", "b", "--output",
                                              self.path("s.pcap"), code=1).err)
        j = json.loads(self.run_cli("snapshot", "--connection", "b", "--force", "--json",
                                    "--output", self.path("s.pcap")).out)
        self.assertEqual(j, {"output": self.path("s.pcap"), "bytes": len(self.data),
                             "md5": hashlib.md5(self.data).hexdigest()})

    def test_to_standard_output(self):
        p = self.run_cli("snapshot", "--connection", "b", "--output", "-")
        self.assertEqual((p.stdout, p.err), (self.data, ""))

    def test_not_to_a_terminal(self):
        master, slave = pty.openpty()
        p = subprocess.run(self.args("snapshot", "--output", "-"), stdout=slave,
                           stderr=subprocess.PIPE, text=True)
        os.close(slave)
        os.close(master)
        self.assertEqual(p.returncode, 1)
        self.assertIn("not written to a terminal", p.stderr)

    def test_refused(self):
        self.routes["GET", self.route] = error(409, "PacketCaptureNotRunning", "Nothing runs.")
        for output in ("-", self.path("s.pcap")):
            p = self.run_cli("snapshot", "--connection", "b", "--output", output, code=1)
            self.assertIn("Nothing runs.", p.err)
            self.assertEqual(p.out, "")
        self.assertEqual(self.names(), [])

    def test_output_that_is_full_is_1(self):
        with open("/dev/full", "wb") as full:
            p = subprocess.run(self.args("snapshot", "--connection", "b", "--output", "-"),
                               stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(p.returncode, 1)
        self.assertIn("written", p.stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0]] + sys.argv[2:])
