"""uml.py - run a script as root in a user-mode Linux guest: a kernel that has ESP, with nothing but a
process (Debian's package user-mode-linux).

The guest sees the host's files, read-only, and one folder to write to, as /run/test.
Nothing is left behind: the guest is one process group, which is ended.
"""
import os
import shutil
import signal
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
KERNEL = "linux.uml"
INIT = os.path.join(HERE, "uml_init.sh")


def is_there():
    return shutil.which(KERNEL) is not None


class Guest:
    """with Guest(script) as guest: text = guest.run(60); guest.folder has what the script wrote.

    programs: copied into the folder, since the guest has a /tmp of its own.
    """

    def __init__(self, script, programs=(), memory="128M"):
        self.memory = memory
        self.folder = tempfile.mkdtemp(prefix=f"gatecap-uml-{os.getpid()}-")
        os.chmod(self.folder, 0o755)  # others than root live in the guest, too
        self.process = None
        with open(os.path.join(self.folder, "script"), "w", encoding="ascii") as f:
            f.write(script)
        for program in programs:
            shutil.copy(program, self.folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
        shutil.rmtree(self.folder)

    def start(self):
        own = os.path.join(self.folder, "uml")
        os.mkdir(own)
        with open(self.path("console"), "wb") as console:
            self.process = subprocess.Popen(
                [KERNEL, f"mem={self.memory}", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro",
                 f"init={INIT}", f"gatecap_folder={self.folder}", f"uml_dir={own}", "umid=guest",
                 "con0=null,fd:1", "con1=null", "con=null", "ssl=null", "quiet"],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
                env={"HOME": own, "PATH": os.environ["PATH"], "TMPDIR": self.folder})

    def path(self, name):
        return os.path.join(self.folder, name)

    def text(self, name):
        try:
            with open(self.path(name), encoding="ascii", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def run(self, seconds):
        """Run the script to its end; gives what it printed."""
        self.start()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        self.end()
        status = self.text("status").strip()
        if status != "0":
            raise AssertionError(f"the guest's script ended with {status or 'nothing'} within {seconds} s:\n"
                                 f"{self.text('out')[-4000:]}\nconsole:\n{self.text('console')[-2000:]}")
        return self.text("out")

    def end(self):
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.process = None
