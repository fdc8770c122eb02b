#!/usr/bin/env python3
"""test_live_sas.py - SAS URLs that do not work, uploads that fail on the way, and their second chance.

    test_live_sas.py BIN_DIR GATECAPD_ASAN [unittest arguments]

A URL that cannot work is refused and the capture goes on; one that fails later keeps the data. The
signature of every URL is looked for in each answer, log, command line and report: it must be nowhere.
"""
import hashlib
import json
import os

from live import (Appliance, Live, assert_opens_clean, base_config, blob_name, data_frames, main,
                  primed, read_pcap)
from fault_proxy import FaultProxy

OUTER = "k-ike1-gcm128-native.pcap"


def status(code, number, message="Because."):
    return {"kind": "status", "status": number, "code": code, "message": message}


class Sas(Live):
    """The sanitizer build; loops 0: traffic that never ends."""

    needs_storage = True
    loops = 1

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        frames = [f._replace(time_ns=f.time_ns // 16) for f in data_frames(OUTER)]
        path = cls.file("outer.pcap", primed(frames, 0))
        cls.config = base_config(wan=("outer", path, {"loops": cls.loops}))

    def altered(self):
        """The good URL with another signature of the same form."""
        url = self.sas()
        head, _, tail = url.partition("sig=")
        return head + "sig=" + ("A" if tail[0] != "A" else "B") + tail[1:]


class Unusable(Sas):
    """URLs of which it can be known beforehand that they do not work."""

    loops = 0
    CODES = {400: "InvalidSasUrl", 502: "StorageUploadFailed"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.gw = cls.enterClassContext(Appliance(cls.config, asan=True))

    def tearDown(self):
        for capture in self.gw.get("/captures").json["captures"]:
            if capture["state"] not in ("Succeeded", "Failed"):
                self.gw.abort(capture["connection"])

    def bad_urls(self):
        """name -> (URL, HTTP status, words of the sentence)"""
        good = self.sas()
        query = good.split("?", 1)[1]
        return {
            "wrong signature": (self.altered(), 502, "AuthorizationFailure"),
            "expired": (self.sas("captures", "--expires-minutes=-5"), 400, "expired 5 minutes ago"),
            "read-only": (self.sas("captures", "--permissions", "r"), 400, "does not grant write"),
            "no container": (good.replace("/captures?", "?"), 400, "names no container"),
            "$logs": (good.replace("/captures?", "/$logs?"), 400, "$logs"),
            "missing container": (self.sas("missing-container"), 502, "ContainerNotFound"),
            "a single blob": (self.sas("captures", "--blob", "x.pcap"), 400, "sr=b"),
            "foreign host": ("https://storage.example.com/captures?" + query, 400, "example.com"),
            "metadata service": ("https://169.254.169.254/captures?" + query, 400, "169.254.169.254"),
            "http to elsewhere": ("http://account.blob.core.windows.net/captures?" + query, 400, "https"),
            "not a URL": ("captures?" + query, 400, "https"),
            "nothing": ("", 400, "SAS URL"),
        }

    def assert_bad(self, answer, wanted, words):
        error = self.assert_refused(wanted, self.CODES[wanted], words, answer=answer)
        if wanted == 400:
            self.assertEqual(error["target"], "/sas_url")
        else:
            self.assertIn(words, error["details"][0]["message"])

    def test_a_stop_with_a_url_that_cannot_work_is_refused_and_the_capture_goes_on(self):
        first = self.gw.start()
        for name, (url, wanted, words) in self.bad_urls().items():
            with self.subTest(name):
                self.assert_bad(self.gw.post("/captures/gateway/stop", {"sas_url": self.gw.secret(url)}),
                                wanted, words)
                self.gw.assert_unseen()
                capture = self.gw.show()
                self.assertEqual((capture["state"], capture["id"]), ("Running", first["id"]))
                self.assertIsNone(capture["error"])
                self.gw.wait_recorded(capture["counters"]["recorded"] + 20)
        self.assertEqual(self.gw.show()["warnings"], first["warnings"], "and leaves no trace")
        self.assertEqual(self.gw.stop_to(self.sas())["state"], "Succeeded")

    def test_a_start_with_a_url_that_cannot_work_starts_nothing(self):
        before = [c["id"] for c in self.gw.get("/captures").json["captures"]]
        for name, (url, wanted, words) in self.bad_urls().items():
            with self.subTest(name):
                self.assert_bad(self.gw.post("/captures", {"sas_url": self.gw.secret(url)}),
                                wanted, words)
        after = [c["id"] for c in self.gw.get("/captures").json["captures"]]
        self.assertEqual(after, before)

    def test_check_sas_says_what_start_and_stop_would(self):
        for name, (url, wanted, words) in self.bad_urls().items():
            with self.subTest(name):
                self.assert_bad(self.gw.post("/check-sas", {"sas_url": self.gw.secret(url)}),
                                wanted, words)
        answer = self.gw.post("/check-sas", {"sas_url": self.gw.secret(self.sas())})
        self.assertEqual((answer.status, answer.json["ok"]), (200, True))
        self.assertIn("/captures", answer.json["url"])
        done = self.gw.try_cli("check-sas", "--sas-url-file", "-", stdin=self.sas())
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_url_given_at_start_is_kept_when_a_worse_one_is_refused_at_stop(self):
        self.gw.start(sas_url=self.gw.secret(self.sas()))
        self.gw.wait_recorded(20)
        for url in (self.altered(), self.sas("captures", "--permissions", "r")):
            self.assertIn(self.gw.post("/captures/gateway/stop",
                                       {"sas_url": self.gw.secret(url)}).status, (400, 502))
        self.gw.stop()
        capture = self.gw.wait_state(None, "Succeeded", "UploadFailed")
        self.assertEqual((capture["state"], capture["error"]), ("Succeeded", None))
        data, properties = self.stored(capture)
        self.assertEqual(properties["md5"], hashlib.md5(data).hexdigest())
        self.assertEqual(self.stored_report(capture)["in_file"], len(read_pcap(data)))

    def test_a_warning_about_a_url_is_given_once(self):
        url = self.gw.secret(self.sas("captures", "--expires-minutes", "5"))
        self.gw.start()
        self.gw.wait_recorded(20)
        capture = self.gw.stop_to(url)
        self.assertEqual(capture["state"], "Succeeded")
        texts = [w["message"] for w in capture["warnings"]]
        self.assertEqual(len(texts), len(set(texts)), texts)

    def test_the_command_line_keeps_the_secret(self):
        self.gw.start()
        self.gw.wait_recorded(20)
        url = self.gw.secret(self.altered())
        done = self.gw.try_cli("stop", "--sas-url", url)
        self.assertEqual(done.returncode, 1)
        self.assertIn("--sas-url-file", done.stderr)
        self.assertEqual(self.gw.show()["state"], "Running")


class Failing(Sas):
    """Uploads that fail behind the probe: request 1 is the probe, what follows is the upload."""

    def setUp(self):
        # Every test has an appliance of its own: the file is played once.
        self.gw = self.enterContext(Appliance(self.config, asan=True))

    def ready(self, connection=None):
        self.gw.start(connection, filter_data={"MaxPacketBufferSize": 1500})
        self.gw.wait_played()
        return self.gw.snapshot(connection)

    def fail_with(self, faults, connection=None):
        with FaultProxy(self.storage.port, faults) as proxy:
            capture = self.gw.stop_to(self.through(proxy), connection)
        self.assertEqual(capture["state"], "UploadFailed")
        self.assertIsNone(capture["blob_url"])
        self.gw.assert_unseen()
        return capture, proxy.requests

    def test_an_upload_that_fails_keeps_the_data_and_a_better_url_finishes_it(self):
        want = self.ready()
        denied = status("AuthorizationPermissionMismatch", 403, "No {SIG}")
        capture, _ = self.fail_with({n: denied for n in range(2, 50)})
        self.assertIn("403 AuthorizationPermissionMismatch", capture["error"])
        answer = self.gw.post("/captures", {})
        self.assert_refused(409, "PacketCaptureAlreadyRunning", capture["id"], "abort", "UploadFailed",
                            answer=answer)
        self.assertEqual(self.gw.snapshot(), want, "a snapshot of what is kept")
        self.assertEqual(self.gw.show()["counters"]["in_flight"], 0)
        bad = self.gw.post("/captures/gateway/stop", {"sas_url": self.gw.secret(self.altered())})
        self.assert_refused(502, "StorageUploadFailed", answer=bad)
        self.assertEqual(self.gw.show()["state"], "UploadFailed")
        capture = self.gw.stop_to(self.sas())
        self.assertEqual((capture["state"], capture["error"]), ("Succeeded", None))
        data, properties = self.stored(capture)
        self.assertEqual(data, want, "bit for bit what was recorded")
        self.assertEqual((capture["md5"], properties["md5"]), (hashlib.md5(want).hexdigest(),) * 2)
        self.gw.wait_no_data()

    def test_a_failure_of_the_last_request_keeps_all_and_output_gives_the_same_bytes(self):
        want = self.ready("site-a")
        # 1 probe, 2 block, 3 list, 4 the report's block, 5 its list
        for n in (3, 5):
            capture, requests = self.fail_with({n: status("InvalidBlockList", 400)}, "site-a")
            self.assertEqual(len(requests), n)
            self.assertIn("400 InvalidBlockList", capture["error"])
        path = self.file("kept.pcap")
        self.gw.cli("stop", "--connection", "site-a", "--output", path, "--force")
        with open(path, "rb") as data, open(path + ".json", encoding="utf-8") as report:
            self.assertEqual(data.read(), want)
            self.assert_books_balance(json.load(report))
        assert_opens_clean(self, path)

    def test_an_upload_that_stutters_arrives_whole(self):
        want = self.ready()
        busy = status("ServerBusy", 503)
        with FaultProxy(self.storage.port, {2: busy, 3: {"kind": "reset"}, 5: {"kind": "lost"}}) as proxy:
            capture = self.gw.stop_to(self.through(proxy))
        self.assertEqual((capture["state"], capture["error"]), ("Succeeded", None))
        name = blob_name(capture, proxy.endpoint)
        self.assertTrue(name.startswith("gw/gateway/"))
        self.assertEqual(self.stored(capture)[0], want)

    def test_captures_that_hold_data_are_none_of_the_five(self):
        self.ready()
        self.fail_with({n: status("X", 403) for n in range(2, 9)})
        for name in ("site-a", "users", "spare-1", "spare-2", "spare-3"):
            self.gw.start(name)
        self.assert_refused(409, "PacketCaptureLimitReached", "connection spare-3",
                            answer=self.gw.post("/captures", {"connection": "spare-4"}))

    def test_abort_deletes_what_is_kept(self):
        self.ready()
        self.fail_with({n: status("X", 403) for n in range(2, 9)})
        self.assertEqual(self.gw.abort()["state"], "Failed")
        self.gw.wait_no_data()
        self.assert_refused(409, "PacketCaptureNotRunning", answer=self.gw.get(
            "/captures/gateway/snapshot"))
        self.gw.start()

    def test_abort_while_it_uploads_leaves_no_blob(self):
        self.ready()
        with FaultProxy(self.storage.port, {n: {"kind": "hold"} for n in range(2, 9)}) as proxy:
            self.gw.stop(sas_url=self.gw.secret(self.through(proxy)))
            self.assertTrue(proxy.held.wait(60))
            capture = self.gw.wait_state(None, "Uploading")
            self.assertEqual(capture["upload"]["bytes_sent"], 0)
            self.assertGreater(capture["upload"]["bytes_total"], capture["file_bytes"])
            self.assert_refused(409, "AnotherOperationInProgress", answer=self.gw.post(
                "/captures/gateway/stop", {"download": True}))
            self.assertEqual(self.gw.abort()["state"], "Failed")
        self.gw.wait_no_data()

    def test_abort_straight_behind_a_stop_ends_it(self):
        for _ in range(20):  # Stopping lasts for a moment: whichever state it meets, all must be well
            self.gw.start()
            self.gw.stop(download=True)
            self.assertEqual(self.gw.abort()["state"], "Failed")
            self.gw.wait_no_data()


if __name__ == "__main__":
    main(__doc__)
