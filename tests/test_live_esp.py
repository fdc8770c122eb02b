#!/usr/bin/env python3
"""test_live_esp.py - SAs with keys: from a file, from the API and the CLI, on their way to the dataplane.

    test_live_esp.py BIN_DIR GATECAPD_ASAN [unittest arguments]

The key of every SA is looked for as bytes and as hexadecimal digits in each answer, log, command line and
environment, and in all memory of both daemons that is not kept out of core dumps: it must be nowhere.
"""
import json
import os
import re
import shutil
import signal

from live import (DATA, Appliance, Live, base_config, data_frames, main, primed, read_pcap, until)

OUTER = "k-ike1-gcm128-native.pcap"
DST = "203.0.113.2"


def key_of(n):
    """20 bytes (AES-128-GCM and its salt) that are found nowhere by chance."""
    return bytes((n * 29 + i * 101 + 77) & 0xff for i in range(20))


def line(n, dst=DST, key=None):
    return (f'"IPv4","*","{dst}","0x{0x1000 + n:08x}","AES-GCM with 16 octet ICV [RFC4106]",'
            f'"0x{(key or key_of(n)).hex()}","NULL",""\n')


def sa(n, **more):
    return {"spi": f"0x{0x1000 + n:08x}", "dst": DST, "encryption": "aes-gcm",
            "encryption_key": key_of(n).hex(), **more}


def spi(n):
    return f"0x{0x1000 + n:08x}"


class Esp(Live):
    asan = True
    with_file = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        frames = [f._replace(time_ns=f.time_ns // 16) for f in data_frames(OUTER)]
        cls.config = base_config(wan=("outer", cls.file("outer.pcap", primed(frames, 0)), {"loops": 0}))
        cls.keys_dir = os.path.join(cls.files, "keys")
        os.mkdir(cls.keys_dir)
        os.chmod(cls.keys_dir, 0o755)
        cls.sa_file = os.path.join(cls.keys_dir, "esp_sa")
        if cls.with_file:
            cls.config["esp"] = {"sa_file": cls.sa_file}

    def setUp(self):
        self.write("")
        self.gw = self.enterContext(Appliance(self.config, asan=self.asan))
        self.addCleanup(self.assert_keys_are_nowhere)

    def write(self, text, mode=0o640):
        """As a careful writer does: a new file, renamed over the old one."""
        new = self.sa_file + ".new"
        with open(new, "w", encoding="utf-8") as out:
            out.write(text)
        shutil.chown(new, "root", "gatecap")
        os.chmod(new, mode)
        os.rename(new, self.sa_file)

    def esp(self):
        return self.gw.get("/status").json["esp"]

    def spis(self):
        return [one["spi"] for one in self.gw.get("/sas").json["sas"]]

    def wait_spis(self, *wanted):
        until(lambda: self.spis() == list(wanted), f"{wanted} are there")
        until(lambda: self.esp()["in_force"], "the dataplane has them")

    def generation(self):
        until(lambda: self.esp()["in_force"], "the dataplane has the set")
        return self.esp()["generation"]

    def assert_keys_are_nowhere(self):
        """Of SAs 1 to 99, in what is shown and said."""
        shown = {path: self.gw.get(path).data for path in ("/status", "/sas", "/stats", "/captures")}
        shown["the log"] = self.gw.log().encode()
        for pid in self.gw.pids():
            for name in ("cmdline", "environ"):
                with open(f"/proc/{pid}/{name}", "rb") as stored:
                    shown[stored.name] = stored.read()
        for where, data in shown.items():
            for n in range(1, 100):
                for form in (key_of(n), key_of(n).hex().encode(), key_of(n).hex().upper().encode()):
                    self.assertNotIn(form, data, where)


class File(Esp):
    """The file of SAs: loaded, changed, broken, mended, gone."""

    def test_a_file_is_read_at_start_when_it_changes_and_on_sighup(self):
        self.assertEqual(self.esp()["file"]["sas"], 0)
        self.write(line(1) + line(2))
        self.wait_spis(spi(1), spi(2))
        first = self.generation()
        with open(self.sa_file, "a", encoding="utf-8") as out:  # written in place
            out.write(line(3))
        self.wait_spis(spi(1), spi(2), spi(3))
        self.assertGreater(self.generation(), first)
        state = self.esp()
        self.assertEqual((state["sas"], state["file"]["fault"], state["fault"]), (3, None, None))
        self.assertEqual(state["file"]["path"], self.sa_file)
        before = self.gw.log().count("3 SAs were read")
        self.write(line(1) + line(2) + line(3))
        until(lambda: self.gw.log().count("3 SAs were read") > before, "it is read again")
        self.assertEqual(self.generation(), state["generation"], "what is known changes nothing")
        before = self.gw.log().count("3 SAs were read")
        os.kill(self.gw.pid_of("gatecapd"), signal.SIGHUP)
        until(lambda: self.gw.log().count("3 SAs were read") > before, "and on SIGHUP")

    def test_a_broken_file_is_refused_as_a_whole_and_the_keys_in_force_stay(self):
        self.write(line(1) + line(2))
        self.wait_spis(spi(1), spi(2))
        before = self.esp()
        self.write(line(3) + line(4, key=key_of(4)[:7]) + line(5))
        until(lambda: self.esp()["file"]["fault"], "the fault is shown")
        after = self.esp()
        self.assertRegex(after["file"]["fault"], r"esp_sa: line 2, column \d+: ")
        self.assertEqual(self.spis(), [spi(1), spi(2)])
        self.assertEqual((after["generation"], after["file"]["loaded_at"], after["file"]["sas"]),
                         (before["generation"], before["file"]["loaded_at"], 2))
        os.kill(self.gw.pid_of("gatecapd"), signal.SIGHUP)
        until(lambda: "read again" in self.gw.log(), "SIGHUP was heard")
        said = [row for row in self.gw.log().splitlines() if "line 2, column" in row]
        self.assertEqual(len(said), 1, said)
        self.assertIn("stay in force", said[0])
        self.write(line(3))
        self.wait_spis(spi(3))
        self.assertIsNone(self.esp()["file"]["fault"])

    def test_a_file_that_may_not_be_read_says_who_must_be_able_to(self):
        self.write(line(1))
        self.wait_spis(spi(1))
        os.chown(self.sa_file, 0, 0)
        os.chmod(self.sa_file, 0o600)
        until(lambda: self.esp()["file"]["fault"], "the fault is shown")
        fault = self.esp()["file"]["fault"]
        for word in (self.sa_file, "user gatecap", "cannot be read"):
            self.assertIn(word, fault)
        self.assertEqual(self.spis(), [spi(1)])
        os.unlink(self.sa_file)
        until(lambda: "No such file" in (self.esp()["file"]["fault"] or ""), "it is gone")
        self.assertEqual(self.spis(), [spi(1)])
        self.write(line(1) + line(2))
        self.wait_spis(spi(1), spi(2))

    def test_too_many_sas_or_wildcards_are_refused_with_the_whole_file(self):
        self.write(line(1))
        self.wait_spis(spi(1))
        self.write("".join(line(2).replace('"0x00001002"', f'"0x{n:06x}**"') for n in range(65)))
        until(lambda: "65 SAs with a wildcard" in (self.esp()["file"]["fault"] or ""), "the fault")
        self.assertEqual(self.spis(), [spi(1)])

    def test_ten_thousand_sas_are_in_force_within_the_deadline(self):
        rows = [line(1).replace('"0x00001001"', f'"0x{n + 4096:08x}"') for n in range(10000)]
        self.write("".join(rows))
        until(lambda: self.esp()["sas"] == 10000, "they are read")
        self.generation()
        self.assertEqual(len(self.gw.get("/sas").json["sas"]), 10000)

    def test_another_file_and_verify_icv_are_taken_over_with_the_configuration(self):
        self.write(line(1))
        self.wait_spis(spi(1))
        before = self.generation()
        config = json.loads(json.dumps(self.gw.config))
        config["esp"] = {"verify_icv": True}
        self.gw.write_config(config)
        os.kill(self.gw.pid_of("gatecapd"), signal.SIGHUP)
        until(lambda: self.esp()["verify_icv"], "the configuration is read")
        self.assertIsNone(self.esp()["file"])
        self.wait_spis()
        self.assertGreater(self.generation(), before)
        self.gw.write_config(self.gw.config)
        os.kill(self.gw.pid_of("gatecapd"), signal.SIGHUP)
        self.wait_spis(spi(1))

    def test_a_dataplane_that_is_new_is_told_the_keys(self):
        self.write(line(1))
        self.wait_spis(spi(1))
        before = self.gw.kill("gatecap-dataplane")
        until(lambda: self.gw.pid_of("gatecap-dataplane") not in (0, before), "a new one")
        self.gw.wait_ready()
        self.assertGreater(self.generation(), 0)


class Api(Esp):
    """What a vendor's own IKE daemon does: no file."""

    with_file = False

    def add(self, *sas):
        return self.gw.ask("POST", "/sas", {"sas": list(sas)}, 201)

    def test_an_sa_is_added_listed_and_deleted(self):
        self.assertEqual(self.gw.ask("POST", "/sas", sa(1, connection="site-a", mode="tunnel"), 201),
                         {"added": 1, "warnings": []})
        self.wait_spis(spi(1))
        one = self.gw.get("/sas").json["sas"][0]
        self.assertEqual({k: one[k] for k in ("spi", "src", "dst", "mode", "connection", "origin",
                                              "packets", "last_seen")},
                         {"spi": spi(1), "src": "*", "dst": DST, "mode": "tunnel",
                          "connection": "site-a", "origin": "api", "packets": 0,
                          "last_seen": None})
        self.assertEqual(self.gw.ask("DELETE", f"/sas?spi={spi(1)}&dst={DST}", None, 200),
                         {"deleted": 1})
        self.wait_spis()
        self.assert_refused(404, "ResourceNotFound", spi(1),
                            answer=self.gw.request("DELETE", f"/sas/{spi(1)}/{DST}"))

    def test_the_path_and_a_query_without_destination_delete_too(self):
        self.add(sa(1), sa(2), sa(3, dst="2001:db8::1"), sa(3, dst="192.0.2.1"))
        self.gw.ask("DELETE", f"/sas/{spi(1)}/{DST}", None, 200)
        self.gw.ask("DELETE", f"/sas/{spi(3)}/2001:db8::1", None, 200)
        self.wait_spis(*sorted([spi(2), spi(3)], key=self.spis().index))
        self.add(sa(3, dst="192.0.2.7"))
        self.assertEqual(self.gw.ask("DELETE", f"/sas?spi={spi(3)}", None, 200), {"deleted": 2})
        self.wait_spis(spi(2))
        for query in ("", "?dst=192.0.2.1", "?spi=0x1&spi=0x2", "?spi=0x1&x=1", "?spi=zzz",
                      "?spi=0x1&dst=1.2.3"):
            answer = self.gw.request("DELETE", "/sas" + query)
            self.assertEqual((answer.status, answer.code), (400, "InvalidRequestContent"), query)

    def test_a_list_with_one_fault_adds_nothing_and_names_each(self):
        self.add(sa(1))
        before = self.generation()
        answer = self.gw.post("/sas", {"sas": [sa(2), sa(3, encryption="aes-gmc"),
                                               sa(4, encryption_key=key_of(4).hex()[:-2]), 7]})
        error = self.assert_refused(400, "InvalidRequestContent", "none was added", answer=answer)
        self.assertEqual([d["target"] for d in error["details"]],
                         ["/sas/1/encryption", "/sas/2/encryption_key", "/sas/3"])
        for body, target in (({"sas": {}}, "/sas"), ({"sas": [], "spi": 1}, ""), ({}, "/spi"),
                             ({"sas": [sa(2), sa(2)]}, "/sas")):
            answer = self.gw.post("/sas", body)
            self.assertEqual((answer.status, answer.json["error"]["target"]), (400, target), body)
        self.assertEqual((self.spis(), self.generation()), ([spi(1)], before))

    def test_an_unknown_connection_is_a_warning_and_the_sa_belongs_to_none(self):
        answer = self.add(sa(1), sa(2, connection="users"), sa(3, connection="nobody"))
        self.assertEqual([w["pointer"] for w in answer["warnings"]],
                         ["/sas/1/connection", "/sas/2/connection"])
        self.wait_spis(spi(1), spi(2), spi(3))
        self.assertEqual([s["connection"] for s in self.gw.get("/sas").json["sas"]], [None] * 3)
        self.assertEqual(len(self.esp()["warnings"]), 2)

    def test_the_same_sa_again_replaces_it_and_keeps_its_place(self):
        self.add(sa(1), sa(2))
        first = self.generation()
        self.add(sa(1))
        self.assertEqual(self.generation(), first, "nothing is new")
        self.add(sa(1, encryption_key=key_of(50).hex()))
        until(lambda: self.generation() > first, "the new key is sent")
        self.assertEqual(sorted(self.spis()), [spi(1), spi(2)])

    def test_a_gatecapd_that_starts_again_leaves_the_dataplane_its_keys(self):
        self.add(sa(1), sa(2))
        self.wait_spis(spi(1), spi(2))
        before, since = self.generation(), self.esp()["api"]["since"]
        old = self.gw.kill("gatecapd")
        until(lambda: self.gw.pid_of("gatecapd") not in (0, old), "a new gatecapd")
        self.gw.wait_ready()
        self.assertNotEqual(self.esp()["api"]["since"], since)
        self.assertEqual(self.spis(), [], "in memory only")
        os.kill(self.gw.pid_of("gatecapd"), signal.SIGHUP)  # nor is anything sent for that
        until(lambda: "read again" in self.gw.log(), "SIGHUP was heard")
        self.assertEqual(self.esp()["generation"], before)
        self.add(sa(3))
        self.wait_spis(spi(3))
        self.assertGreater(self.generation(), before)

    def test_the_command_line_adds_both_formats_lists_and_deletes(self):
        self.gw.cli("sa", "add", stdin=json.dumps(sa(1)))
        self.gw.cli("sa", "add", "--file", "-", stdin=json.dumps([sa(2), sa(3)]))
        path = self.file("more.esp_sa")
        with open(path, "w", encoding="utf-8") as out:
            out.write(line(4) + line(5))
        self.assertIn("2 SAs were added.", self.gw.cli("sa", "add", "--file", path).stdout)
        self.wait_spis(*[spi(n) for n in range(1, 6)])
        table = self.gw.cli("sa", "list").stdout
        self.assertEqual(len(table.splitlines()), 6)
        self.assertIn("SPI", table)
        self.assertIn(spi(5), table)
        self.assertEqual(len(json.loads(self.gw.cli("sa", "list", "--json").stdout)["sas"]), 5)
        self.assertIn("1 SA was deleted.", self.gw.cli("sa", "delete", "--spi", spi(4)).stdout)
        self.assertIn(spi(4), self.gw.cli("sa", "delete", "--spi", spi(4), status=1).stderr)
        for given in (line(6)[:-12], json.dumps(sa(6, encryption_key="00")), "{", ""):
            done = self.gw.try_cli("sa", "add", stdin=given)
            self.assertNotIn(key_of(6).hex(), done.stdout + done.stderr)
            self.assertEqual((done.returncode, done.stdout), (1, ""), given)
        done = self.gw.cli("sa", "add", key_of(7).hex(), status=2)
        self.assertNotIn(key_of(7).hex(), done.stdout + done.stderr)
        self.assertEqual(sorted(self.spis()), [spi(n) for n in (1, 2, 3, 5)])

    def test_a_dataplane_that_is_new_is_told_what_the_api_added(self):
        self.add(sa(1))
        self.wait_spis(spi(1))
        old = self.gw.kill("gatecap-dataplane")
        until(lambda: self.gw.pid_of("gatecap-dataplane") not in (0, old), "a new one")
        self.gw.wait_ready()
        self.assertGreater(self.generation(), 0)
        self.assertEqual(self.spis(), [spi(1)])


class Counted(Esp):
    """Packets of an SA, and what a capture says of those that it looked into."""

    with_file = False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with open(os.path.join(DATA, OUTER.replace(".pcap", ".sa.json")), encoding="utf-8") as stored:
            cls.real = [{"spi": s["spi"], "dst": s["dst"], "encryption": "aes-gcm",
                         "encryption_key": s["enc_key"]} for s in json.load(stored)["esp"]]

    def esp_of(self, capture):
        return self.gw.show(capture)["esp"]

    def test_packets_and_causes_are_counted_and_outlive_a_gatecapd(self):
        self.gw.start(filter_data={"TracingFlags": 1, "Filters": [{}]})
        self.gw.start("site-a", filter_data={"TracingFlags": 1})
        until(lambda: self.esp_of(None)["without_key"] > 20, "no key yet")
        self.assertIsNone(self.esp_of("site-a"), "nothing is looked into without a filter")
        self.assertEqual(self.esp_of(None)["decrypted"], 0)
        self.gw.ask("POST", "/sas", {"sas": self.real}, 201)
        until(lambda: self.esp_of(None)["decrypted"] > 20, "its inner packets are read")
        until(lambda: all(s["packets"] > 5 and s["last_seen"] for s in self.gw.get("/sas").json["sas"]),
              "both directions are counted")
        self.assertIn("ESP looked into:", self.gw.cli("stats").stdout)
        self.assertIn("ESP decrypted", self.gw.cli("show").stdout)
        before = self.esp_of(None)
        old = self.gw.kill("gatecapd")
        until(lambda: self.gw.pid_of("gatecapd") not in (0, old), "a new gatecapd")
        self.gw.wait_ready()
        until(lambda: self.esp_of(None)["decrypted"] > before["decrypted"], "the keys are still there")
        self.gw.ask("DELETE", f"/sas?spi={self.real[0]['spi']}", None, 404)
        wrong = dict(self.real[0], encryption_key="00" * 20)
        self.gw.ask("POST", "/sas", wrong, 201)
        before = self.esp_of(None)
        until(lambda: self.esp_of(None)["malformed"] > before["malformed"], "a wrong key is told")
        until(lambda: self.esp_of(None)["without_key"] > before["without_key"], "the other has none")
        report = self.gw.get("/captures/gateway/report").json
        self.assertEqual(set(report["esp"]), set(before))
        for cause, count in before.items():
            self.assertGreaterEqual(report["esp"][cause], count)
        # A dataplane that goes takes its counters with it, and not what they were.
        old = self.gw.kill("gatecap-dataplane")
        until(lambda: self.gw.pid_of("gatecap-dataplane") not in (0, old), "a new dataplane")
        self.gw.wait_ready()
        self.assertGreaterEqual(self.esp_of(None)["decrypted"], report["esp"]["decrypted"])
        until(lambda: self.esp_of(None)["malformed"] > report["esp"]["malformed"],
              "the new one was told the keys")


class Inside(Esp):
    """Filters on what the tunnels carry, beside what another decryptor found in them."""

    NAME = "k-ike2-gcm256-natt"
    SUBNET = ("10.1.0.0/24", bytes([10, 1, 0]))

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.config = base_config(wan=("outer", cls.file("natt.pcap", primed(data_frames(cls.NAME + ".pcap"), 1)), {}))
        cls.config["esp"] = {"sa_file": cls.sa_file}

    def setUp(self):
        super().setUp()
        with open(os.path.join(DATA, self.NAME + ".esp_sa"), encoding="utf-8") as stored:
            self.write(stored.read())
        until(lambda: self.esp()["sas"] == 2 and self.esp()["in_force"], "the dataplane has the keys")

    def recorded(self, single):
        """The records of a capture of the subnet's SYNs: (is it inner, bytes behind the link header, length)."""
        self.gw.start(filter_data={"TracingFlags": 1, "Filters": [{
            "SourceSubnets": [self.SUBNET[0]], "TcpFlags": 2, "CaptureSingleDirectionTrafficOnly": single}]})
        self.gw.wait_played()
        data, _ = self.gw.download()
        return [(f.data[23] == 6, f.data[14:], f.wire_len, f.time_ns) for f in read_pcap(data)]

    def syns(self, single):
        found = []
        for f in data_frames(self.NAME + ".inner.pcap"):
            ip = f.data[14:]
            ours = ip[12:15] == self.SUBNET[1] or (not single and ip[16:19] == self.SUBNET[1])
            if ip[0] == 0x45 and ip[9] == 6 and ip[33] & 2 and ours:
                found.append((ip[:106], f.wire_len))
        return found

    def test_one_direction_is_the_syns_of_the_subnet_and_nothing_else(self):
        wanted, got = self.syns(True), self.recorded(True)
        self.assertEqual(len(wanted), 5)
        self.assertEqual([(ip, wire_len) for _, ip, wire_len, _ in got], wanted)

    def test_both_forms_are_the_syns_each_behind_its_outer_packet(self):
        wanted, got = self.syns(False), self.recorded(False)
        self.assertEqual(len(wanted), 9)
        self.assertEqual([(ip, wire_len) for is_inner, ip, wire_len, _ in got if is_inner], wanted)
        self.assertEqual([is_inner for is_inner, *_ in got], [False, True] * 9)
        self.assertEqual([time for *_, time in got[::2]], [time for *_, time in got[1::2]])


class NoKernel(Esp):
    """gatecap-xfrm is configured; whether this machine's kernel lets it come or not."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.config["esp"].update(kernel=True)

    def test_the_keys_of_the_file_are_not_held_back_for_ever(self):
        self.write(line(1))
        until(lambda: self.spis() == [spi(1)], "the file is read")
        self.wait_spis(spi(1))
        self.assertEqual(self.esp()["kernel"]["sas"], 0)


class Memory(Esp):
    """Not the sanitizer build: it keeps memory that was freed."""

    asan = False

    def dumpable(self, pid):
        """All memory of a process that a core file would have, mapping by mapping."""
        with open(f"/proc/{pid}/smaps", encoding="utf-8") as smaps:
            text = smaps.read()
        parts = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.M)[1:]
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for part in parts:
                head = part.splitlines()[0]
                flags = re.search(r"^VmFlags:(.*)$", part, flags=re.M).group(1).split()
                if "dd" in flags or "io" in flags or "rd" not in flags or "[v" in head:
                    continue
                start, end = (int(word, 16) for word in head.split()[0].split("-"))
                for at in range(start, end, 1 << 24):
                    try:
                        memory.seek(at)
                        yield head, memory.read(min(1 << 24, end - at))
                    except OSError:
                        break

    def test_no_key_lies_where_a_core_file_would_have_it(self):
        self.write("".join(line(n) for n in range(1, 20)))
        self.wait_spis(*[spi(n) for n in range(1, 20)])
        self.gw.ask("POST", "/sas", {"sas": [sa(n) for n in range(20, 40)]}, 201)
        self.gw.ask("POST", "/sas", sa(40), 201)
        self.gw.post("/sas", {"sas": [sa(41), sa(42, mode="x")]})
        self.gw.ask("DELETE", f"/sas?spi={spi(20)}", None, 200)
        self.generation()
        for name in ("gatecapd", "gatecap-dataplane"):
            found = []
            for head, data in self.dumpable(self.gw.pid_of(name)):
                for n in range(1, 43):
                    # Of hexadecimal digits a part is enough: buffers are cut anywhere.
                    for form in (key_of(n)[:16], key_of(n).hex().encode()[:24]):
                        if form in data:
                            found.append((n, form, head))
            self.assertEqual(found, [], name)


if __name__ == "__main__":
    main(__doc__)
