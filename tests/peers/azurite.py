"""azurite.py - a blob storage on a free loopback port, for as long as a `with` block lasts.

    with Azurite() as storage:
        storage.endpoint   # http://127.0.0.1:PORT/devstoreaccount1

In memory only; telemetry off. --skipApiVersionCheck because the SDK is newer than the emulator.
Ended by its own pid; nothing is left behind. Also a command: `azurite.py` serves until end of input
and prints the endpoint.
"""
import os
import re
import select
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MAIN = os.path.join(HERE, "node_modules", "azurite", "dist", "src", "blob", "main.js")
READY = re.compile(rb"successfully listens on \S+:(\d+)\s")
MISSING = ("The storage emulator and the Azure SDK are not installed in tests/peers/node_modules: "
           "run tools/setup (or `npm ci` in tests/peers).")


def require():
    """Exit with a sentence when the peers are not installed."""
    if not os.path.exists(MAIN):
        sys.exit(MISSING)


class Azurite:
    def __init__(self, cert=None, key=None):
        require()
        self.scheme = "https" if cert else "http"
        # Port 0: the emulator takes a free one and says which.
        self.command = ["node", MAIN, "--blobHost", "127.0.0.1", "--blobPort", "0",
                        "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck",
                        "--silent"]
        if cert:
            self.command += ["--cert", cert, "--key", key]
        self.process = None

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            self.port = self._wait_ready(60)
        except BaseException:
            self.__exit__()
            raise
        self.endpoint = f"{self.scheme}://127.0.0.1:{self.port}/devstoreaccount1"
        return self

    def _wait_ready(self, seconds):
        deadline = time.monotonic() + seconds
        text = b""
        while time.monotonic() < deadline:
            if select.select([self.process.stdout], [], [], 0.2)[0]:
                chunk = os.read(self.process.stdout.fileno(), 4096)
                if not chunk:
                    break
                text += chunk
                ready = READY.search(text)
                if ready:
                    return int(ready.group(1))
        raise RuntimeError("Azurite did not become ready: " + text.decode(errors="replace"))

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.process.stdout.close()


if __name__ == "__main__":
    with Azurite() as azurite:
        print(azurite.endpoint, flush=True)
        sys.stdin.read()
