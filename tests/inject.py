"""inject.py - make a running process do one system call, as an intruder inside it would.

    with Inside(pid) as thread:
        thread.call("openat", -100, b"/etc/passwd", 0)   # -errno, the result, or KILLED

By ptrace(2), as root: the thread is stopped while it waits in the kernel, its registers are those of the
wanted call for one step, and then what they were, so that it never notices. x86-64 only, as gatecap is.
"""
import ctypes
import os
import signal
import struct
import time

ATTACH, DETACH, SINGLESTEP, GETREGS, SETREGS = 16, 17, 9, 12, 13
WALL = 0x40000000
KILLED = "killed"
REGISTERS = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss "
             "fs_base gs_base ds es fs gs").split()
LIBC = ctypes.CDLL(None, use_errno=True)
SECCOMP = ctypes.CDLL("libseccomp.so.2")
TEXT_BELOW_BYTES = 4096  # of the stack pointer: below the red zone
DEADLINE_S = 20


def number_of(name):
    number = SECCOMP.seccomp_syscall_resolve_name(name.encode())
    assert number >= 0, name
    return number


def ptrace(request, tid, address=None, data=None):
    LIBC.ptrace.restype = ctypes.c_long
    LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if LIBC.ptrace(request, tid, address, data) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"ptrace {request}: {os.strerror(error)}")


class Inside:
    """The main thread of a process, stopped."""

    def __init__(self, pid):
        self.pid = pid
        self.is_dead = False

    def __enter__(self):
        self.memory = os.open(f"/proc/{self.pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        deadline = time.monotonic() + DEADLINE_S
        while True:
            ptrace(ATTACH, self.pid)
            self._wait()
            self.before = self._registers()
            # Only a thread that waits in a system call stands behind the instruction for one.
            if os.pread(self.memory, 2, self.before["rip"] - 2) == b"\x0f\x05":
                return self
            ptrace(DETACH, self.pid)
            assert time.monotonic() < deadline, "the thread never waits"

    def __exit__(self, *_):
        os.close(self.memory)
        if not self.is_dead:
            ptrace(DETACH, self.pid)

    def _wait(self):
        """The signal that stopped it, or KILLED."""
        _, status = os.waitpid(self.pid, WALL)
        if os.WIFSTOPPED(status):
            return os.WSTOPSIG(status)
        self.is_dead = True
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS, status
        return KILLED

    def _registers(self):
        buffer = ctypes.create_string_buffer(8 * len(REGISTERS))
        ptrace(GETREGS, self.pid, None, ctypes.addressof(buffer))
        return dict(zip(REGISTERS, struct.unpack(f"={len(REGISTERS)}Q", buffer.raw)))

    def _set(self, registers):
        raw = struct.pack(f"={len(REGISTERS)}Q", *(registers[r] & (2**64 - 1) for r in REGISTERS))
        buffer = ctypes.create_string_buffer(raw, len(raw))
        ptrace(SETREGS, self.pid, None, ctypes.addressof(buffer))

    def call(self, name, *arguments):
        values, at = [], self.before["rsp"] - TEXT_BELOW_BYTES
        for argument in arguments:
            if isinstance(argument, bytes):
                os.pwrite(self.memory, argument + b"\0", at)
                values.append(at)
                at += (len(argument) + 8) & ~7
            else:
                values.append(argument)
        values += [0] * (6 - len(values))
        self._set({**self.before, **dict(zip("rdi rsi rdx r10 r8 r9".split(), values)),
                   "rax": number_of(name), "orig_rax": -1, "rip": self.before["rip"] - 2})
        how = None
        while how != signal.SIGTRAP:  # a signal on its way may come first
            ptrace(SINGLESTEP, self.pid)
            how = self._wait()
            if how == KILLED:
                return KILLED
        result = struct.unpack("=q", struct.pack("=Q", self._registers()["rax"]))[0]
        self._set(self.before)
        return result
