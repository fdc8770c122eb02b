#!/usr/bin/python3
"""test_cli_sa.py - gatecap sa against the fake daemon of test_cli.py.

Usage: test_cli_sa.py GATECAP [unittest arguments]
"""
import json
import sys
import unittest

from test_cli import V1, CliCase, error


class SecurityAssociations(CliCase):
    """gatecap sa: keys from files, never in an argument nor in an output."""

    KEY = "00112233445566778899aabbccddeeff01020304"
    ONE = {"spi": "0x00001001", "dst": "192.0.2.1", "encryption": "aes-gcm", "encryption_key": KEY}
    LINE = ('"IPv4","192.0.2.9","192.0.2.1","0x00001001","AES-GCM with 16 octet ICV [RFC4106]",'
            f'"0x{KEY}","NULL",""\n')

    def setUp(self):
        super().setUp()
        self.routes["POST", V1 + "/sas"] = (201, {"added": 1, "warnings": []})

    def sent(self, *args, **more):
        p = self.run_cli("sa", "add", *args, **more)
        self.assertNotIn(self.KEY, p.out + p.err)
        return self.asked("POST", V1 + "/sas")[-1]

    def test_json_is_sent_as_it_is_and_an_array_as_a_list(self):
        self.assertEqual(self.sent(stdin=json.dumps(self.ONE)), self.ONE)
        self.assertEqual(self.sent(stdin=json.dumps([self.ONE])), {"sas": [self.ONE]})
        self.assertEqual(self.sent("--file", "-", stdin=json.dumps({"sas": [self.ONE]})),
                         {"sas": [self.ONE]})

    def test_lines_of_wireshark_become_the_same_sa(self):
        body = self.sent("--file", self.file("esp_sa", "# mine\n" + self.LINE))
        self.assertEqual(body, {"sas": [dict(self.ONE, src="192.0.2.9", mode="any", esn=False,
                                             icv_bytes=16)]})

    def test_the_format_can_be_said(self):
        p = self.run_cli("sa", "add", "--format", "json", stdin=self.LINE, code=1)
        self.assertIn("is no JSON", p.err)
        p = self.run_cli("sa", "add", "--format", "esp_sa", stdin=json.dumps(self.ONE), code=1)
        self.assertIn("line 1", p.err)
        self.assertIn("json or esp_sa", self.run_cli("sa", "add", "--format", "x", code=2).err)
        self.assertEqual(self.asked("POST", V1 + "/sas"), [])

    def test_no_key_is_shown_of_what_is_refused(self):
        for given in (self.LINE.replace("GCM", "GCX"), self.LINE[:90], json.dumps(self.ONE)[:-1],
                      '{"encryption_key": "' + self.KEY + '\n"}'):
            p = self.run_cli("sa", "add", stdin=given, code=1)
            self.assertNotIn(self.KEY[:16], p.out + p.err)
        p = self.run_cli("sa", "add", self.KEY, code=2)
        self.assertNotIn(self.KEY, p.out + p.err)

    def test_a_refusal_has_its_places(self):
        self.routes["POST", V1 + "/sas"] = error(
            400, "InvalidRequestContent", "The SAs have 1 fault: see the details; none was added.",
            [{"code": "InvalidRequestContent", "target": "/sas/0/spi", "message": "missing"}])
        self.assertIn("/sas/0/spi: missing", self.run_cli("sa", "add", stdin="[]", code=1).err)

    def test_delete_asks_for_one_and_needs_an_spi(self):
        path = V1 + "/sas?spi=0x1001&dst=2001:db8::1"
        self.routes["DELETE", path] = (200, {"deleted": 1})
        p = self.run_cli("sa", "delete", "--spi", "0x1001", "--dst", "2001:db8::1")
        self.assertEqual(p.out, "1 SA was deleted.\n")
        self.assertIn("--spi is missing", self.run_cli("sa", "delete", code=2).err)
        self.run_cli("sa", "delete", "--spi", "1&dst=2", code=2)

    def test_the_list_has_a_row_an_sa_and_says_when_there_is_none(self):
        one = {"spi": "0x00001001", "src": "*", "dst": "192.0.2.1", "algorithm": "aes-gcm",
               "mode": "tunnel", "connection": None, "origin": "api", "packets": 4711,
               "last_seen": "2026-03-04T05:06:07.123456789Z"}
        self.routes["GET", V1 + "/sas"] = (200, {"sas": [one]})
        out = self.run_cli("sa", "list").out.splitlines()
        self.assertEqual(len(out), 2)
        self.assertEqual(out[1].split(), ["0x00001001", "*", "192.0.2.1", "aes-gcm", "tunnel", "-",
                                          "api", "4,711", "2026-03-04T05:06:07"])
        self.assertEqual(json.loads(self.run_cli("sa", "list", "--json").out), {"sas": [one]})
        self.routes["GET", V1 + "/sas"] = (200, {"sas": []})
        self.assertIn("There are no SAs", self.run_cli("sa", "list").out)

    def test_a_word_that_is_none_of_the_three_is_2(self):
        self.assertIn("add", self.run_cli("sa", "ad", code=2).err)
        self.assertIn("Usage: gatecap sa", self.run_cli("sa", "--help").out)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0]] + sys.argv[2:])
