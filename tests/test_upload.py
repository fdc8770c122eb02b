#!/usr/bin/env python3
"""test_upload.py - the real uploader against a real blob storage, and against every fault of one.

    test_upload.py UPLOAD_CLI [unittest arguments]

Peers: Azurite and the Azure SDK (tests/peers). Everything listens on loopback, on free ports, and is
ended by its own pid. Each run of the uploader is searched for the SAS' signature: it must show nowhere.
"""
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
from email.utils import formatdate
from urllib.parse import unquote, urlsplit

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = os.path.join(HERE, "peers")
sys.path.insert(0, PEERS)
from azurite import Azurite, require  # noqa: E402
from fault_proxy import FaultProxy  # noqa: E402

BLOCK = 64 * 1024
CLI = ""


def node(endpoint, *args, ca_file=None):
    env = dict(os.environ, BLOB_ENDPOINT=endpoint)
    if ca_file:
        env["BLOB_CA_FILE"] = ca_file
    done = subprocess.run(["node", os.path.join(PEERS, "blob.mjs"), *args], env=env, text=True,
                          capture_output=True, timeout=60, check=False)
    if done.returncode != 0:
        raise AssertionError(f"blob.mjs {args[0]}: {done.stderr}")
    return done.stdout.strip()


def content(size):
    """Bytes that differ from block to block and from size to size."""
    return hashlib.shake_128(f"capture of {size}".encode()).digest(size)


class Peers(unittest.TestCase):
    """One storage for the whole class; SAS URLs are made once a kind."""

    cert = None

    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.TemporaryDirectory(prefix="gatecap-upload-")
        cls.addClassCleanup(cls.dir.cleanup)
        key = cls.make_cert() if cls.cert else None
        cls.storage = cls.enterClassContext(Azurite(cls.ca(), key))
        node(cls.storage.endpoint, "create-container", ca_file=cls.ca())
        cls.made = {}

    @classmethod
    def ca(cls):
        return cls.path("cert.pem") if cls.cert else None

    @classmethod
    def make_cert(cls):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=gatecap test",
                        "-addext", "subjectAltName=IP:127.0.0.1",
                        "-keyout", cls.path("key.pem"), "-out", cls.path("cert.pem")],
                       check=True, capture_output=True)
        return cls.path("key.pem")

    @classmethod
    def path(cls, name):
        return os.path.join(cls.dir.name, name)

    @classmethod
    def sas(cls, *args):
        args = args or ("captures",)
        if args not in cls.made:
            cls.made[args] = node(cls.storage.endpoint, "sas", *args)
        return cls.made[args]

    def through(self, proxy, *args):
        """The same SAS with the proxy's port."""
        return self.sas(*args).replace(self.storage.endpoint, proxy.endpoint)

    @classmethod
    def file(cls, size):
        path = cls.path(f"file-{size}")
        if not os.path.exists(path):
            with open(path, "wb") as out:
                out.write(content(size))
        return path

    def command(self, url, size=BLOCK, name="blob", extra=(), files=None, loopback=True):
        with open(self.path("url"), "w", encoding="utf-8") as out:
            out.write(url)
        command = [CLI, "--url-file", self.path("url"), "--name", name, "--block-bytes", str(BLOCK),
                   "--backoff-first-ms", "20", "--backoff-max-ms", "100", "--tries", "3"]
        for path in files or [self.file(size)]:
            command += ["--file", path]
        return command + (["--allow-http-loopback"] if loopback else []) + list(extra)

    def upload(self, url, *args, env=None, **kwargs):
        done = subprocess.run(self.command(url, *args, **kwargs), text=True, capture_output=True,
                              timeout=120, check=False, env=dict(os.environ, **(env or {})))
        self.assertIn(done.returncode, (0, 1), done.stdout + done.stderr)
        self.assert_secret_kept(url, done.stdout + done.stderr)
        out = json.loads(done.stdout)
        self.assertEqual(done.returncode == 0, self.all_ok(out), done.stdout)
        return out

    @staticmethod
    def all_ok(out):
        return out["parse"] == "ok" and all(r["ok"] for r in out.get("results", [{"ok": False}]))

    def assert_secret_kept(self, url, text):
        query = urlsplit(url).query
        self.assertTrue(not query or query not in text, "the query shows in the output")
        for part in query.split("&"):
            if part.startswith("sig=") and len(part) > 12:
                for secret in (part[4:], unquote(part[4:])):
                    self.assertNotIn(secret[:8], text)

    def assert_sent(self, out):
        self.assertEqual(out["parse"], "ok")
        for result in out["results"]:
            self.assertTrue(result["ok"], result["error"])
            self.assertEqual(result["done_calls"], 1)

    def assert_failed(self, out, *words):
        self.assertEqual(out["parse"], "ok")
        result = out["results"][0]
        self.assertFalse(result["ok"])
        self.assertEqual(result["done_calls"], 1)
        for word in words:
            self.assertIn(word, result["error"])
        return result

    def assert_stored(self, name, data, kind="application/vnd.tcpdump.pcap"):
        copy = self.path("copy")
        node(self.storage.endpoint, "download", name, copy, ca_file=self.ca())
        with open(copy, "rb") as stored:
            self.assertEqual(stored.read(), data)
        self.assertEqual(json.loads(node(self.storage.endpoint, "properties", name, ca_file=self.ca())),
                         {"length": len(data), "type": kind, "blobType": "BlockBlob",
                          "md5": hashlib.md5(data).hexdigest()})

    def names(self):
        return json.loads(node(self.storage.endpoint, "list", ca_file=self.ca()))


class Upload(Peers):
    def test_every_size_around_a_block_arrives_whole(self):
        for size in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17, 9 * BLOCK):
            with self.subTest(size=size):
                out = self.upload(self.sas(), size, name=f"size/{size}")
                self.assert_sent(out)
                self.assertEqual(out["results"][0]["md5"], hashlib.md5(content(size)).hexdigest())
                self.assert_stored(f"size/{size}", content(size))

    def test_the_report_lies_beside_the_pcap_with_its_own_type(self):
        out = self.upload(self.sas(), files=[self.file(2 * BLOCK + 1), self.file(77)], name="pair.pcap")
        self.assert_sent(out)
        self.assertEqual(out["results"][0]["md5_report"], hashlib.md5(content(77)).hexdigest())
        self.assert_stored("pair.pcap", content(2 * BLOCK + 1))
        self.assert_stored("pair.pcap.json", content(77), "application/json")

    def test_a_name_with_odd_characters_is_encoded_segment_by_segment(self):
        name = "gw 1/connection+50%/a&b=c?d#e.pcap"
        self.assert_sent(self.upload(self.sas(), 10, name=name))
        self.assert_stored(name, content(10))

    def test_a_second_upload_replaces_the_first(self):
        self.assert_sent(self.upload(self.sas(), 3 * BLOCK, name="again"))
        self.assert_sent(self.upload(self.sas(), 5, name="again"))
        self.assert_stored("again", content(5))

    def test_a_path_below_the_container_is_a_prefix(self):
        self.assert_sent(self.upload(self.sas().replace("/captures?", "/captures/site/a?"), 9, name="p"))
        self.assert_stored("site/a/p", content(9))

    def test_an_account_sas_works(self):
        self.assert_sent(self.upload(self.sas("captures", "--account"), 9, name="account"))
        self.assert_stored("account", content(9))

    def test_five_uploads_at_once_do_not_mix(self):
        self.assert_sent(self.upload(self.sas(), 7 * BLOCK + 5, name="five", extra=["--jobs", "5"]))
        for i in range(5):
            self.assert_stored(f"five-{i}", content(7 * BLOCK + 5))

    def test_two_uploads_of_one_name_leave_one_of_them_whole(self):
        url = self.sas()
        with open(self.path("url"), "w", encoding="utf-8") as out:
            out.write(url)
        sizes = (5 * BLOCK, 6 * BLOCK)
        running = [subprocess.Popen(self.command(url, size, name="race"), stdout=subprocess.DEVNULL)
                   for size in sizes]
        # Whoever commits second may find its blocks discarded by the first commit; never a mixture.
        self.assertIn(0, [p.wait(60) for p in running])
        node(self.storage.endpoint, "download", "race", self.path("copy"))
        with open(self.path("copy"), "rb") as stored:
            self.assertIn(stored.read(), [content(size) for size in sizes])

    def test_a_probe_writes_a_block_and_leaves_no_blob(self):
        with FaultProxy(self.storage.port) as proxy:
            self.assert_sent(self.upload(self.through(proxy), name="probe", extra=["--probe"]))
        self.assertEqual([r["headers"]["content-length"] for r in proxy.requests], ["16"])
        self.assertNotIn("probe", self.names())

    def test_a_probe_tells_what_an_upload_would(self):
        out = self.upload(self.sas("captures", "--permissions", "cw").replace("/captures?", "/missing?"),
                          name="probe", extra=["--probe"])
        self.assert_failed(out, "403 AuthorizationFailure", "generate a new SAS URL")


class Wire(Peers):
    def test_requests_are_what_the_contract_says(self):
        with FaultProxy(self.storage.port) as proxy:
            url = self.through(proxy)
            self.assert_sent(self.upload(url, 2 * BLOCK + 1, name="wire/x"))
        query = urlsplit(url).query
        path = urlsplit(url).path
        *blocks, blocklist = proxy.requests
        self.assertEqual(len(blocks), 3)
        ids = set()
        for r in proxy.requests:
            self.assertEqual(r["method"], "PUT")
            self.assertTrue(r["target"].startswith(f"{path}/wire/x?{query}&comp=block"), "not as given")
            self.assertEqual(r["headers"]["x-ms-version"], "2021-12-02")
            self.assertIn("content-length", r["headers"])
            for absent in ("authorization", "transfer-encoding", "expect"):
                self.assertNotIn(absent, r["headers"])
        for r in blocks:
            self.assertIn("content-md5", r["headers"])
            ids.add(r["target"].split("&blockid=")[1])
        self.assertEqual(len(ids), 3)
        self.assertEqual({len(i) for i in ids}, {32})
        self.assertTrue(blocklist["target"].endswith("&comp=blocklist"))
        self.assertEqual(blocklist["headers"]["x-ms-blob-content-type"], "application/vnd.tcpdump.pcap")

    def test_the_environment_names_no_proxy(self):
        dead = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9",
                "all_proxy": "http://127.0.0.1:9"}
        self.assert_sent(self.upload(self.sas(), 5, name="env", env=dead))

    def test_the_setting_names_the_proxy_and_no_proxy_does_not_undo_it(self):
        with FaultProxy(self.storage.port) as proxy:
            self.assert_sent(self.upload(self.sas(), 5, name="proxied",
                                         extra=["--proxy", f"http://127.0.0.1:{proxy.port}"],
                                         env={"no_proxy": "*"}))
        self.assertEqual(len(proxy.requests), 2)
        self.assert_stored("proxied", content(5))


class Faults(Peers):
    """One block, so that request 1 is the block and the last one is the list."""

    def run_with(self, faults=None, every=None, extra=(), name="fault", size=BLOCK):
        with FaultProxy(self.storage.port, faults, every) as proxy:
            return self.upload(self.through(proxy), size, name=name, extra=extra), proxy.requests

    def test_what_passes_is_tried_again(self):
        cases = {str(status): {"kind": "status", "status": status, "code": "X"}
                 for status in (408, 429, 500, 502, 503, 504)}
        cases |= {kind: {"kind": kind} for kind in ("reset", "lost", "truncated", "flood", "stall")}
        for name, fault in cases.items():
            for at in (1, 2):
                with self.subTest(fault=name, request=at):
                    out, requests = self.run_with({at: fault}, extra=["--stall-seconds", "1"],
                                                  name=f"again-{name}-{at}")
                    self.assert_sent(out)
                    self.assertEqual(len(requests), 3)
                    self.assert_stored(f"again-{name}-{at}", content(BLOCK))

    def test_many_blocks_with_a_fault_each_arrive_in_order(self):
        faults = {n: {"kind": kind} for n, kind in
                  zip(range(2, 30, 4), ("reset", "lost", "truncated", "reset", "lost", "reset", "lost"))}
        out, _ = self.run_with(faults, size=16 * BLOCK + 3, name="many", extra=["--tries", "9"])
        self.assert_sent(out)
        self.assert_stored("many", content(16 * BLOCK + 3))

    def test_retry_after_is_waited_for(self):
        busy = {"kind": "status", "status": 503, "code": "ServerBusy", "headers": {"Retry-After": "1"}}
        out, requests = self.run_with({1: busy})
        self.assert_sent(out)
        self.assertGreaterEqual(requests[1]["time"] - requests[0]["time"], 0.95)

    def test_what_is_decided_is_not_tried_again(self):
        for status in (400, 401, 403, 404, 409, 411, 412, 413, 416, 501, 505):
            with self.subTest(status=status):
                fault = {"kind": "status", "status": status, "code": "SomeCode", "message": "Because."}
                out, requests = self.run_with(every=fault)
                result = self.assert_failed(out, f"the storage answered {status} SomeCode (Because. "
                                                 "RequestId:0f1e2d3c-0000)")
                self.assertEqual((result["code"], result["status"]), ("SomeCode", status))
                self.assertNotIn("tries", result["error"])
                self.assertNotIn("Time:", result["error"])
                self.assertEqual(len(requests), 1)

    def test_a_failing_list_is_decided_too(self):
        fault = {"kind": "status", "status": 400, "code": "InvalidBlockList", "message": "No."}
        out, requests = self.run_with({2: fault})
        self.assert_failed(out, "400 InvalidBlockList")
        self.assertEqual(len(requests), 2)

    def test_tries_end(self):
        busy = {"kind": "status", "status": 503, "code": "ServerBusy", "message": "Too much."}
        out, requests = self.run_with(every=busy)
        self.assert_failed(out, "after 3 tries", "503 ServerBusy (Too much.", "try again later")
        self.assertEqual(len(requests), 3)

    def test_a_reset_each_time_ends_in_a_sentence(self):
        out, requests = self.run_with(every={"kind": "reset"})
        self.assert_failed(out, "after 3 tries", "the connection failed", "check the network")
        self.assertEqual(len(requests), 3)

    def test_a_stall_each_time_ends_in_a_sentence(self):
        out, _ = self.run_with(every={"kind": "stall"}, extra=["--stall-seconds", "1", "--tries", "2"])
        self.assert_failed(out, "after 2 tries", "did not go on in time")

    def test_a_redirect_is_not_followed(self):
        for status in (301, 302, 307, 308):
            with FaultProxy(self.storage.port) as other:
                to = {"kind": "status", "status": status, "headers": {"Location": other.endpoint + "/x"}}
                out, requests = self.run_with(every=to)
            self.assert_failed(out, f"answered {status}, a redirect, which is not followed")
            self.assertEqual((len(requests), len(other.requests)), (1, 0))

    def test_a_success_that_is_no_creation_is_no_success(self):
        for status in (200, 202, 204):
            out, _ = self.run_with(every={"kind": "status", "status": status})
            self.assert_failed(out, f"the server answered {status} where a blob storage answers 201")

    def test_a_wrong_clock_is_named(self):
        denied = {"kind": "status", "status": 403, "code": "AuthenticationFailed",
                  "message": "Server failed to authenticate the request."}
        out, _ = self.run_with(every=denied | {"date": formatdate(time_from_now(3630), usegmt=True)})
        self.assert_failed(out, "403 AuthenticationFailed (Server failed to authenticate",
                           "clock is 60 minutes behind the storage's", "set the clock")
        out, _ = self.run_with(every=denied | {"date": formatdate(time_from_now(-3630), usegmt=True)})
        self.assert_failed(out, "clock is 60 minutes ahead of the storage's")
        out, _ = self.run_with(every=denied)
        self.assertNotIn("clock", self.assert_failed(out)["error"])

    def test_an_answer_that_repeats_the_sas_is_withheld(self):
        for message in ("Bad request {QUERY}", "String to sign &lt;{SIG}&gt;"):
            out, _ = self.run_with(every={"kind": "status", "status": 403, "code": "X",
                                          "message": message})
            self.assert_failed(out, "403 X (its text repeats the SAS and is withheld")

    def test_nobody_listening_is_a_sentence(self):
        with FaultProxy(self.storage.port) as proxy:
            url = self.through(proxy)
        self.assert_failed(self.upload(url), "after 3 tries", "the connection failed", "check the network")

    def test_a_cancel_ends_it_and_leaves_no_blob(self):
        faults = {n: {"kind": "hold"} for n in range(4, 20)}
        out, requests = self.run_with(faults, size=16 * BLOCK, name="cancelled",
                                      extra=["--cancel-after", str(3 * BLOCK)])
        self.assert_failed(out, "it was cancelled")
        self.assertLess(len(requests), 16)
        self.assertNotIn("cancelled", self.names())

    def test_closing_the_uploader_ends_every_job_once(self):
        out, _ = self.run_with(every={"kind": "hold"}, extra=["--close-early", "--jobs", "5"])
        self.assertEqual([(r["ok"], r["done_calls"]) for r in out["results"]], [(False, 1)] * 5)

    def test_data_that_cannot_be_read_is_a_sentence_and_leaves_no_blob(self):
        out, _ = self.run_with(size=4 * BLOCK, name="unread", extra=["--fail-after", str(2 * BLOCK)])
        self.assert_failed(out, "its data cannot be read here (Input/output error)")
        self.assertNotIn("unread", self.names())


def time_from_now(seconds):
    return time.time() + seconds


class BadSas(Peers):
    def assert_refused(self, url, *words, **kwargs):
        out = self.upload(url, **kwargs)
        self.assertNotEqual(out["parse"], "ok")
        for word in words:
            self.assertIn(word, out["parse"])

    def test_what_can_be_known_is_refused_before_anything_is_sent(self):
        cases = (
            (("captures", "--permissions", "r"), "does not grant write (sp=r has no w)"),
            (("captures", "--permissions", "c"), "does not grant write (sp=c has no w)"),
            (("captures", "--expires-minutes=-5"), "expired 5 minutes ago"),
            (("captures", "--start", "30"), "start time", "clock"),
            (("captures", "--blob", "one.pcap"), "opens a single blob (sr=b)"),
            (("captures", "--account", "--services", "q"), "ss has no b"),
            (("captures", "--account", "--resource-types", "c"), "srt has no o"),
            (("captures", "--protocol", "https"), "for https only"),
        )
        for args, *words in cases:
            with self.subTest(args=args):
                self.assert_refused(self.sas(*args), *words)

    def test_a_sas_of_the_account_without_a_container_is_refused(self):
        self.assert_refused(self.sas("captures", "--account").replace("/captures?", "?"),
                            "names no container")

    def test_the_storages_own_containers_are_refused(self):
        self.assert_refused(self.sas().replace("/captures?", "/$logs?"), "$logs", "begin with $")

    def test_plain_http_is_refused_without_the_switch(self):
        self.assert_refused(self.sas(), "use https://", loopback=False)

    def test_what_only_the_storage_knows_comes_in_its_words(self):
        sig = self.sas().split("sig=")[1][0]
        altered = self.sas().replace("sig=" + sig, "sig=" + ("B" if sig == "A" else "A"))
        self.assert_failed(self.upload(altered), "403 AuthorizationFailure (Server failed to authenticate")
        self.assert_failed(self.upload(self.sas("other").replace("/other?", "/captures?")),
                           "403 AuthorizationFailure")
        self.assert_failed(self.upload(self.sas("missing-container")), "404 ContainerNotFound",
                           "create the container")


class Https(Peers):
    cert = True

    def test_a_certificate_of_an_own_authority_is_trusted_when_named(self):
        out = self.upload(self.sas(), 3 * BLOCK, name="tls", extra=["--ca-file", self.path("cert.pem")])
        self.assert_sent(out)
        self.assert_stored("tls", content(3 * BLOCK))

    def test_a_literal_that_is_an_allowed_host_needs_no_switch(self):
        self.assert_sent(self.upload(self.sas(), 5, name="named", loopback=False,
                                     extra=["--ca-file", self.path("cert.pem"),
                                            "--allow-host", "127.0.0.1"]))

    def test_it_is_refused_when_not_named(self):
        result = self.assert_failed(self.upload(self.sas()), "certificate is not trusted",
                                    "upload.ca_file")
        self.assertEqual(result["status"], 0)
        self.assertNotIn("tries", result["error"])

    def test_a_name_that_leads_to_this_machine_is_not_connected_to(self):
        url = self.sas().replace("127.0.0.1", "localhost")
        extra = ["--ca-file", self.path("cert.pem"), "--allow-host", "localhost"]
        result = self.assert_failed(self.upload(url, extra=extra, loopback=False),
                                    "resolves to a loopback address", "name service")
        self.assertNotIn("tries", result["error"])
        # With the switch it is, and then the certificate, made for 127.0.0.1, is not that host's.
        self.assert_failed(self.upload(url, extra=extra), "certificate is not trusted", "localhost")

    def test_a_missing_ca_file_stops_the_uploader_at_once(self):
        out = self.upload(self.sas(), extra=["--ca-file", self.path("none.pem")])
        self.assertIn("upload.ca_file", out["open"])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    CLI = os.path.abspath(sys.argv.pop(1))
    require()
    unittest.main(verbosity=2)
