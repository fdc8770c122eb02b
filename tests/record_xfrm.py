"""record_xfrm.py - make tests/data/xfrm anew: what a Linux kernel says on NETLINK_XFRM, datagram by datagram.

usage: record_xfrm.py XFRM_RECORDER [FOLDER]

Each recording is one datagram, caused by one command of `ip xfrm` in a guest (uml.py), and named after it.
The key of n bytes is 00 01 02 ... n-1 everywhere. `addresses` are 192.0.2.1 to 192.0.2.2 unless said otherwise.
dump.N are the datagrams of a dump of all that was added, larval SAs, AH and IPComp included.
Not a test: run it when something new is to be recorded, and look at what changed.
"""
import os
import shlex
import sys

import uml

SOURCE, DESTINATION = "192.0.2.1", "192.0.2.2"
SOURCE6, DESTINATION6 = "2001:db8::1", "2001:db8::2"


def key(n):
    return "0x" + bytes(range(n)).hex()


def aead(name, n, icv):
    return f"mode tunnel aead {shlex.quote(name)} {key(n)} {icv}"


def enc(name, n, auth="hmac(sha1)", n_auth=20, icv=96, mode="tunnel"):
    return (f"mode {mode} enc {shlex.quote(name)} {key(n) if n else repr('')}"
            + (f" auth-trunc {shlex.quote(auth)} {key(n_auth) if n_auth else repr('')} {icv}" if auth else ""))


GCM = aead("rfc4106(gcm(aes))", 20, 128)
# Name, what `ip xfrm state add ... proto esp spi N` gets; N counts from 0x101.
ADDED = [
    ("gcm-128-icv-128", GCM),
    ("gcm-192-icv-96", aead("rfc4106(gcm(aes))", 28, 96)),
    ("gcm-256-icv-64", aead("rfc4106(gcm(aes))", 36, 64)),
    ("ccm-128-icv-128", aead("rfc4309(ccm(aes))", 19, 128)),
    ("ccm-256-icv-64", aead("rfc4309(ccm(aes))", 35, 64)),
    ("gmac-128", aead("rfc4543(gcm(aes))", 20, 128)),
    ("chacha20-poly1305", aead("rfc7539esp(chacha20,poly1305)", 36, 128)),
    ("cbc-128-sha1", enc("cbc(aes)", 16)),
    ("cbc-192-sha256-128", enc("cbc(aes)", 24, "hmac(sha256)", 32, 128)),
    ("cbc-256-sha256-96", f"mode tunnel enc 'cbc(aes)' {key(32)} auth 'hmac(sha256)' {key(32)}"),
    ("cbc-256-sha384", enc("cbc(aes)", 32, "hmac(sha384)", 48, 192)),
    ("cbc-256-sha512", enc("cbc(aes)", 32, "hmac(sha512)", 64, 256)),
    ("cbc-128-md5", enc("cbc(aes)", 16, "hmac(md5)", 16, 96)),
    ("cbc-128-xcbc", enc("cbc(aes)", 16, "xcbc(aes)", 16, 96)),
    ("cbc-128-cmac", enc("cbc(aes)", 16, "cmac(aes)", 16, 96)),
    ("cbc-128-sha1-160", enc("cbc(aes)", 16, "hmac(sha1)", 20, 160)),
    ("cbc-128-sha512-512", enc("cbc(aes)", 16, "hmac(sha512)", 64, 512)),
    ("cbc-128-none", enc("cbc(aes)", 16, None)),
    ("cbc-128-digest-null", enc("cbc(aes)", 16, "digest_null", 0, 0)),
    ("ctr-128-sha1", enc("rfc3686(ctr(aes))", 20)),
    ("3des-sha1", enc("cbc(des3_ede)", 24)),
    ("null-sha1", enc("ecb(cipher_null)", 0)),
    ("camellia-sha1", enc("cbc(camellia)", 32)),
    ("transport-selector", enc("cbc(aes)", 16, mode="transport")
     + " sel src 192.0.2.1/32 dst 192.0.2.2/32 proto udp dport 1701"),
    ("beet", enc("cbc(aes)", 16, mode="beet") + " sel src 10.0.0.1 dst 10.0.0.2"),
    ("encapsulated", GCM + " encap espinudp 4500 4500 0.0.0.0"),
    ("tied", GCM + " reqid 7 if_id 0x2a mark 0x30005 mask 0xffff"),
    ("esn", GCM + " flag esn replay-window 128"),
    ("esn-inbound", GCM + " flag esn replay-window 128 replay-seq 0x99 replay-seq-hi 0x3"),
    ("esn-outbound", GCM + " flag esn replay-window 128 replay-oseq 0x77 replay-oseq-hi 0x2"),
    ("inbound", GCM + " replay-window 32 replay-seq 0x99 sel src 10.1.0.0/16 dst 10.2.0.0/16"),
    ("outbound", GCM + " replay-oseq 0x77 sel src 10.2.0.0/16 dst 10.1.0.0/16"),
    ("selector-6-in-4", GCM + " replay-oseq 1 sel src 2001:db8:a::/48 dst 2001:db8:b::/48"),
    ("keys-hidden-gcm", "mode tunnel aead 'rfc4106(gcm(aes))' 0x" + "00" * 20 + " 128"),
    ("keys-hidden-cbc", "mode tunnel enc 'cbc(aes)' 0x" + "00" * 16 + " auth-trunc 'hmac(sha1)' 0x" + "00" * 20 + " 96"),
    ("keys-hidden-null", "mode tunnel enc 'ecb(cipher_null)' '' auth-trunc 'hmac(sha1)' 0x" + "00" * 20 + " 96"),
]
TIED_ID = f"src {SOURCE} dst {DESTINATION} proto esp spi 0x101"
# Name, the whole command.
OTHERS = [
    ("ipv6", f"ip xfrm state add src {SOURCE6} dst {DESTINATION6} proto esp spi 0x201 {GCM}"),
    ("ah", f"ip xfrm state add src {SOURCE} dst {DESTINATION} proto ah spi 0x202 mode transport "
           f"auth-trunc 'hmac(sha1)' {key(20)} 96"),
    ("ipcomp", f"ip xfrm state add src {SOURCE} dst {DESTINATION} proto comp spi 0x203 mode tunnel comp deflate"),
    ("update", f"ip xfrm state update {TIED_ID} {GCM} replay-oseq 5"),
    ("delete", f"ip xfrm state delete {TIED_ID}"),
    ("delete-6", f"ip xfrm state delete src {SOURCE6} dst {DESTINATION6} proto esp spi 0x201"),
    ("delete-ah", f"ip xfrm state delete src {SOURCE} dst {DESTINATION} proto ah spi 0x202"),
    ("delete-tied", f"ip xfrm state delete src {SOURCE} dst {DESTINATION} proto esp spi "
                    f"{0x101 + [name for name, _ in ADDED].index('tied'):#x} mark 0x30005 mask 0xffff"),
]
EXPIRING = f"ip xfrm state add src {SOURCE} dst {DESTINATION} proto esp spi 0x204 {GCM} limit time-"
# Flushes need something to flush.
ENDS = [
    ("flush-ah", "ip xfrm state flush proto ah"),
    ("flush-esp", "ip xfrm state flush proto esp"),
    ("flush-all", "ip xfrm state flush"),
]
HEAD = """
record() { # NAME COMMAND...: what the kernel says about it
    local file=/run/test/$1.nl; shift
    /run/test/xfrm_recorder follow "$file" &
    while [ ! -e "$file.ready" ]; do kill -0 $! || exit 1; sleep 0.01; done
    "$@" || { echo "failed: $*"; kill $!; exit 1; }
    wait $! || { echo "nothing was said of: $*"; exit 1; }
    rm "$file.ready"
}
"""


def script():
    lines = [HEAD]
    for i, (name, what) in enumerate(ADDED):
        lines.append(f"record {name} ip xfrm state add src {SOURCE} dst {DESTINATION} proto esp "
                     f"spi {0x101 + i:#x} {what}")
    lines += [f"record {name} {command}" for name, command in OTHERS[:3]]
    lines.append(f"ip xfrm state allocspi src {SOURCE} dst {DESTINATION} proto esp mode tunnel min 0x300 max 0x300")
    lines.append('/run/test/xfrm_recorder dump /run/test/dump')
    lines.append("ip xfrm state > /run/test/dump.txt")
    lines += [f"record {name} {command}" for name, command in OTHERS[3:]]
    for kind in ("soft", "hard"):  # an SA of a second: its beginning, then its end
        lines.append(f"record added-{kind} {EXPIRING}{kind} 1")
        lines.append(f"record expire-{kind} true")
        if kind == "soft":
            lines.append(f"ip xfrm state delete src {SOURCE} dst {DESTINATION} proto esp spi 0x204")
    lines.append(f"ip xfrm state add src {SOURCE} dst {DESTINATION} proto ah spi 0x202 mode transport "
                 f"auth-trunc 'hmac(sha1)' {key(20)} 96")
    for name, command in ENDS[:2]:
        lines.append(f"record {name} {command}")
    lines.append(f"ip xfrm state add src {SOURCE} dst {DESTINATION} proto esp spi 0x205 {GCM}")
    lines.append(f"record {ENDS[2][0]} {ENDS[2][1]}")
    return "\n".join(lines) + "\n"


def main(recorder, folder):
    with uml.Guest(script(), [recorder]) as guest:
        print(guest.run(180), end="")
        os.makedirs(folder, exist_ok=True)
        for name in sorted(os.listdir(guest.folder)):
            if name.endswith(".nl") or (name.startswith("dump.") and name != "dump.txt"):
                with open(guest.path(name), "rb") as f:
                    data = f.read()
                kept = name if name.endswith(".nl") else name + ".nl"
                with open(os.path.join(folder, kept), "wb") as f:
                    f.write(data)
                print(kept, len(data))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: record_xfrm.py XFRM_RECORDER [FOLDER]")
    main(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else
         os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "xfrm"))
