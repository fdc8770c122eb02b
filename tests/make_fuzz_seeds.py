#!/usr/bin/env python3
"""make_fuzz_seeds.py - the inputs that fuzzing starts from, for targets whose inputs no tool writes.

    tests/make_fuzz_seeds.py            writes into tests/corpus/NAME/

What each byte means is said at the top of tests/fuzz_NAME.c. Inputs that once broke something lie in the
same folders under other names, and are left alone.
"""
import os
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import dp_control as dp  # noqa: E402

CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")
IP4 = bytes.fromhex("4500001c00010000401100000a0000010a000002" "003500350008" "0000")
IP6 = bytes.fromhex("6000000000083a40") + bytes(15) + b"\1" + bytes(15) + b"\2" + bytes(8)
MAC = bytes.fromhex("020000000002" "020000000001")


def seed(target, name, data):
    folder = os.path.join(CORPUS, target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as out:
        out.write(data)


# ---- afpacket: options, then frames ----

def frame(data, status=0, word=0x0800, tci=0, age_ms=1, cut=0):
    return struct.pack(">BHHHBB", status, word, tci, age_ms, len(data), cut) + data


def afpacket():
    eth = MAC + b"\x08\0" + IP4
    seed("afpacket", "ethernet", b"\1" + frame(eth) + frame(eth[:20], cut=9) + frame(b""))
    seed("afpacket", "tags", b"\x0f" + frame(eth, 1, tci=7) + frame(eth, 3, 0x88a8, 0xefff)
         + frame(eth[:11], 1) + frame(eth[:12], 1, age_ms=9000))
    seed("afpacket", "tunnel", b"\0" + frame(IP4) + frame(IP6, word=0x86dd) + frame(b"x", word=4)
         + frame(IP4, 3, 0x8100, 5) + frame(b"", 1, word=0))


# ---- capture files ----

def pcap(link, frames, magic=0xa1b2c3d4, order="<", snap=262144):
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snap, link)
    return head + b"".join(struct.pack(order + "IIII", 1700000000 + i, 999 * i, len(f), len(f) + i) + f
                           for i, f in enumerate(frames))


def block(kind, body):
    body += bytes(-len(body) % 4)
    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)


def pcapng(link, frames):
    out = block(0x0a0d0d0a, struct.pack("<IHHq", 0x1a2b3c4d, 1, 0, -1))
    out += block(1, struct.pack("<HHI", link, 0, 0) + struct.pack("<HHB3xHH", 9, 1, 9, 0, 0))
    for i, f in enumerate(frames):
        time = 1700000000 * 10**9 + i
        out += block(6, struct.pack("<IIIII", 0, time >> 32, time & 0xffffffff, len(f), len(f) + i) + f
                     + bytes(-len(f) % 4))
    return out + block(3, struct.pack("<I", len(IP4)) + IP4)


def capture_file():
    sll = struct.pack(">HHH8sH", 0, 1, 6, MAC[:8], 0x0800)
    sll2 = struct.pack(">HHIHBB8s", 0x86dd, 0, 1, 1, 0, 6, MAC[:8])
    kinds = {"ethernet": (1, [MAC + b"\x08\0" + IP4, b"", MAC]), "raw": (101, [IP4, IP6, b"", b"x"]),
             "ipv4": (228, [IP4]), "ipv6": (229, [IP6]), "sll": (113, [sll + IP4, sll[:5]]),
             "sll2": (276, [sll2 + IP6, sll2[:1]]),
             "null": (0, [struct.pack("<I", 2) + IP4, struct.pack(">I", 30) + IP6, b"\1\1\1\1", b"x"]),
             "loop": (108, [struct.pack(">I", 24) + IP6, struct.pack(">I", 28) + IP6]),
             "ppp": (9, [b"\xff\x03\0\x21" + IP4, b"\x21" + IP4, b"\0\x57" + IP6, b"\xff", b"\0"]),
             "unknown": (147, [b"x"])}
    for name, (link, frames) in kinds.items():
        seed("capture_file", name, pcap(link, frames))
        seed("capture_file", name + ".ng", pcapng(link, frames))
    seed("capture_file", "nanoseconds", pcap(1, [MAC + b"\x08\0" + IP4] * 2, 0xa1b23c4d))
    seed("capture_file", "big_endian", pcap(101, [IP4] * 2, order=">"))
    seed("capture_file", "cut", pcap(101, [IP4] * 2)[:-3])
    seed("capture_file", "short_snap", pcap(101, [IP4] * 2, snap=8))


# ---- dp.sock ----

def step(what, peer, *more, serve=1):
    return bytes([peer << 3 | what]) + b"".join(more) + bytes([serve])


def set_step(peer, generation, body=b"", kind=16, size=b""):
    body = body + bytes(-len(body) % 4)
    return step(1, peer, bytes([kind]), struct.pack(">H", generation), bytes([len(body) // 4]), body, size)


def set_body(*counts, body=b""):
    return struct.pack("<IIQ9I4x", 0, 0, 0, 0, *counts) + body


def sets():
    """A set with one capture, and one with one of everything."""
    one = set_body(1, 0, 0, 0, 0, 0, 0, 0, body=struct.pack("<7I", 0, 1, 2**31 - 1, 11, 120, 0, 0))
    all_ = set_body(1, 1, 1, 1, 1, 1, 1, 1, body=struct.pack("<7I", 1, 1, 0, 3, 120, 0, 1)
                    + struct.pack("<8I8IIBBxx", 0, 1, 0, 0, 0, 1, 0, 0, *[0] * 8, 1, 0, 0)
                    + struct.pack("<I", 0) + struct.pack("<I16sBBxxII", 0, b"\n\0\0\1", 32, 4, 0, 1)
                    + struct.pack("<I16sBBxx", 0, b"\n\1", 16, 4)
                    + struct.pack("<16sBBxxHBB", b"", 0, 0, 443, 6, 1)
                    + struct.pack("<16sBBxx", b"\n\2", 16, 4) + struct.pack("<H", 80))
    return one, all_


def filter_set():
    one, all_ = sets()
    seed("filter_set", "one", one + b"\1")
    seed("filter_set", "all", all_ + bytes(-len(all_) % 8 - 1) + b"\1")
    seed("filter_set", "empty", set_body(*[0] * 8)[:-1] + b"\1")
    seed("filter_set", "whole", struct.pack("<II", 0x67637331, 1) + one[8:])


def some_sas():
    """Of every kind of look-up and of several algorithms."""
    host, other, v6 = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]), bytes.fromhex("20010db8") + bytes(12)
    subnet = dp.sa_address(bytes([10, 0, 0, 0]), bytes([255, 0, 0, 0]))
    cbc = {"cipher": dp.AES_CBC, "auth": dp.HMAC_SHA256_128, "enc_key": bytes(32), "auth_key": bytes(32)}
    return [dp.sa(0x1001, host, 0), dp.sa(0x1001, host, 1, src=other, kind=2, connection=3),
            dp.sa(0x1001, host, 2, src=subnet, mode=1), dp.sa(0x1002, v6, 3, src=v6, flags=3, esn_high=1),
            dp.sa(0x2000, host, 4, spi_mask=0xFFFFFF00, **cbc), dp.sa(0x3000, None, 5, **cbc),
            dp.sa(0, subnet, 6, spi_mask=0, cipher=8, icv_bytes=12, enc_key=b"")]


def sa_set():
    sas = some_sas()
    for i, record in enumerate(sas):
        seed("sa_set", f"one_{i}", dp.sa_set(1, [record]) + b"\1")
    seed("sa_set", "all", dp.sa_set(1, sas, 1) + b"\1")
    seed("sa_set", "whole", dp.sa_set(1, sas[:1]))
    seed("sa_set", "twins", dp.sa_set(1, [dp.sa(1, bytes(4), i) for i in range(66)]) + b"\1")
    seed("sa_set", "empty", dp.sa_set(1) + b"\1")


def http_route():
    captures = "/gatecap/v1/captures"
    for name, text in (("list", "GET\n" + captures), ("method", "PUT\n" + captures),
                       ("name", f"POST\n{captures}/connections/a%20b/stop"), ("utf8", "GET\n/%C3%A4"),
                       ("wrong", "GET\n/%2F%zz"), ("dots", "GET\n/gatecap/../x"),
                       ("names", "GET\n/1/2/3/4/5/6"), ("more", "GET\n/1/2/3/4/5/6/7")):
        seed("http_route", name, text.encode())


def dp_server():
    hello = step(0, 0)
    one, peer = sets()
    seed("dp_server", "hello", hello + step(6, 0)[:1])
    seed("dp_server", "sets", hello + set_step(0, 1, one) + set_step(0, 2, peer) + set_step(0, 2, one)
         + set_step(0, 3, set_body(*[0] * 8)))
    sas = dp.sa_set(0, some_sas()[:3])
    seed("dp_server", "sas", hello + b"".join(set_step(0, generation, sas, 64) for generation in (1, 2, 2, 0))
         + set_step(0, 1, one, 80) + set_step(0, 3, sas, 64 + 16) + set_step(0, 3, sas, 64 + 8))
    seed("dp_server", "second", hello + step(0, 1) + bytes([1 << 3 | 6]) + step(7, 0) + step(0, 1))
    seed("dp_server", "kinds", hello + b"".join(set_step(0, 1, one, kind) for kind in (0, 1, 2, 8, 17, 24, 31))
         + set_step(0, 1, one, 48, b"\0\1"))
    seed("dp_server", "any", b"".join(step(3, peer, bytes([kind, how, 8]), b"12345678")
                                      for peer, kind, how in ((0, 1, 0), (1, 4, 128), (2, 2, 0), (3, 7, 128))))
    seed("dp_server", "descriptors", hello + step(3, 0, bytes([4, 3, 16]), bytes(16), b"\0\1x\0\0" * 3))
    seed("dp_server", "crowd", b"".join(step(0, peer, serve=0) for peer in range(11)) + step(5, 3))
    seed("dp_server", "half_closed", hello + step(5, 0) + step(0, 0) + step(5, 8))


def dp_client():
    welcome = bytes([0, 1, 0, 1, 1, 0])
    seed("dp_client", "welcome", welcome)
    seed("dp_client", "life", welcome + bytes([3]) + bytes([4]) + b"Because.".ljust(256, b"\0") + bytes([5]))
    seed("dp_client", "sas", welcome + bytes([131]) + bytes([132]) + b"Because.".ljust(256, b"\0"))
    seed("dp_client", "busy", bytes([5]))
    seed("dp_client", "changed", bytes([0, 3, 2, 6, 1, 0, 9, 8, 16, 0, 1, 1, 1, 1, 2, 4, 0, 5]))
    seed("dp_client", "any", bytes([6, 3, 2, 16]) + bytes(32) + bytes([7, 0, 5, 8]) + bytes(16))


# ---- HTTP ----

def http():
    def request(line, *headers, body=b""):
        return "\r\n".join([line + " HTTP/1.1", "Host: x", *headers, "", ""]).encode() + body

    def post(path, body, *headers):
        return request("POST " + path, f"Content-Length: {len(body)}", *headers, body=body)
    chunked = b"5\r\n{\"a\":\r\n2;x=y\r\n1}\r\n0\r\nTrailer: z\r\n\r\n"
    seed("http", "gets", request("GET /show/a%20b?c=d", "X-Any: value") + request("GET /none")
         + request("GET /echo") + request("HEAD /stream") + request("GET /show/%2F"))
    seed("http", "posts", post("/echo", b'{"a":[1,2,{"b":"c"}]}') + b"\xfe" + post("/echo", b"")
         + post("/echo", b"[1]") + post("/echo", b'{"a":1,"a":2}'))
    seed("http", "chunked", request("POST /echo", "Transfer-Encoding: chunked", body=chunked))
    seed("http", "pieces", b"GET /sh\xfeow/a HT\xfeTP/1.1\r\nHos\xfet: x\r\n\r\xfe\n" + request("PUT /show/x"))
    seed("http", "later", request("GET /later") + b"\xff" + request("GET /later") + b"\xfd"
         + request("GET /later", "Connection: close"))
    seed("http", "streams", request("GET /stream") + b"\xff" + request("GET /stream?b") + b"\xff"
         + request("GET /stream") + b"\xfd")
    seed("http", "nothing", request("GET /nothing", "Expect: 100-continue"))
    seed("http", "expect", request("POST /echo", "Expect: 100-continue", "Content-Length: 2") + b"\xfe{}")
    seed("http", "wrong", b"GET / HTTP/3.7\r\n\r\n\xffBREW /pot HTTP/1.1\r\n\r\n\xffnonsense\r\n\r\n\xff"
         b"GET http://a@b:99999/ HTTP/1.1\r\n\r\n\xffPOST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n\xff"
         b"POST /echo HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\n\xffGET /show/a HTTP/1.0\r\n\r\n")
    seed("http", "long", request("GET /show/" + "a" * 300, "X-Any: " + "b" * 17000))
    seed("http", "babble", request("GET /later") + b"\xfe" + b"x" * 3000 + b"\xfd")


# ---- answers of a storage ----

def answer(status, headers, body=b"", rc=0, retry=0, options=0, text=b""):
    pieces = b"".join(bytes([len(body[i:i + 1600]) // 16 + 1]) + body[i:i + 1600].ljust(
        (len(body[i:i + 1600]) // 16 + 1) * 16) for i in range(0, len(body), 1600))
    lines = "".join(line + "\r\n" for line in headers).encode() + b"\n"
    return struct.pack(">HBhB", status, rc, retry, options) + text + lines + pieces


def storage_answer():
    xml = ('<?xml version="1.0"?><Error><Code>{}</Code><Message>{}\nRequestId:a-b-c\nTime:2026</Message>'
           '<AuthenticationErrorDetail>x</AuthenticationErrorDetail></Error>')
    for status, code in ((403, "AuthenticationFailed"), (404, "ContainerNotFound"), (409, "BlobImmutable"),
                         (412, "LeaseIdMissing"), (503, "ServerBusy"), (400, "InvalidUri")):
        body = xml.format(code, "The &lt;request&gt; &amp; more.").encode()
        seed("storage_answer", f"{status}",
             answer(status, [f"HTTP/1.1 {status} No", "x-ms-request-id: 1-2"], body))
        seed("storage_answer", f"{status}_header", answer(
            status, ["HTTP/1.1 100 Continue", "", f"HTTP/1.1 {status} No", f"x-ms-error-code: {code}",
                     "Date: Tue, 24 Nov 2026 10:00:00 GMT"], body, retry=7, options=0x30))
    for name, text in (("query", "sv=1&amp;sig=Zm%2BvYmFyYmF6cXV4%3D"), ("raw", "Zm%2BvYmFyYmF6"),
                       ("decoded", "Zm+vYmFyYmF6")):
        seed("storage_answer", "echo_" + name, answer(403, ["HTTP/1.1 403 No"], xml.format("C", text).encode()))
        seed("storage_answer", "echo_code_" + name, answer(403, ["HTTP/1.1 403 No", "x-ms-error-code: " + text,
                                                                 "x-ms-request-id: " + text]))
        seed("storage_answer", "echo_error_" + name, answer(0, [], rc=7, options=1,
                                                            text=text.encode().ljust(255)))
    seed("storage_answer", "201", answer(201, ["HTTP/1.1 201 Created", "Content-MD5: x"]))
    seed("storage_answer", "200", answer(200, ["HTTP/1.1 200 OK"], b"<html>"))
    seed("storage_answer", "302", answer(302, ["HTTP/1.1 302 Found", "Location: http://elsewhere/?sig=1"]))
    seed("storage_answer", "cut", answer(201, ["HTTP/1.1 201 Created"], rc=18))
    for rc in (6, 7, 28, 35, 52, 56, 60, 77):
        seed("storage_answer", f"rc{rc}", answer(0, [], rc=rc, options=2 if rc == 7 else 0))
    seed("storage_answer", "unended", answer(500, ["HTTP/1.1 500 No"], b"<Code>x<Message>&lt;&lt;&l&gt"))


# ---- ESP with NULL: SPIs below 16 are known, see fuzz_esp.c ----

def esp_packet(spi, inside, next_header, pad=2, icv=12):
    return struct.pack(">II", spi, 1) + inside + bytes(range(1, pad + 1)) + bytes([pad, next_header]) + bytes(icv)


def outer(protocol, payload):
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0,
                       bytes([192, 0, 2, 1]), bytes([192, 0, 2, 254]))
    return MAC + b"\x08\0" + head + payload


def checked(ip):
    total = sum(struct.unpack(">10H", ip[:10] + b"\0\0" + ip[12:20]))
    total = (total & 0xffff) + (total >> 16)
    return ip[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xffff) + ip[12:]


def one_frame(data, cut=0):
    return struct.pack(">HB", len(data), cut) + data


def esp():
    ip4, message = checked(IP4), esp_packet(5, checked(IP4), 4)
    tcp = struct.pack(">HHIIBBHHH", 4500, 4500, 0, 0, 0x50, 24, 1, 0, 0)
    udp = struct.pack(">HHHH", 4500, 4500, 0, 0)
    seed("esp", "tunnel", one_frame(outer(50, esp_packet(1, ip4, 4))) + one_frame(outer(50, esp_packet(5, IP6, 41))))
    seed("esp", "transport", one_frame(outer(17, udp + esp_packet(1, ip4[20:], 17))))
    seed("esp", "tcp", one_frame(outer(6, tcp + 2 * (struct.pack(">H", len(message) + 2) + message))))
    seed("esp", "cut", one_frame(outer(50, esp_packet(1, ip4, 4)), 3) + one_frame(outer(50, b"\0\0\0\1")))


# ---- what a kernel said of its SAs: recorded, not made ----

def xfrm_netlink():
    recordings = os.path.join(os.path.dirname(CORPUS), "data", "xfrm")
    for name in sorted(os.listdir(recordings)):
        if name.endswith(".nl"):
            with open(os.path.join(recordings, name), "rb") as f:
                seed("xfrm_netlink", name[:-len(".nl")], f.read())


if __name__ == "__main__":
    for make in (afpacket, capture_file, dp_server, dp_client, esp, filter_set, http, http_route,
                 sa_set, storage_answer, xfrm_netlink):
        make()
