"""processes: start, recognise and end a process.

A process is known by its id *and* the tick at which it started, so that an id which the kernel has handed
out again is never taken for ours; signals go through a pidfd, which cannot change its process either.
"""

import os
import select
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

PROXY_VARIABLES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}


@dataclass(frozen=True)
class Process:
    """`started` is in clock ticks since boot, as in field 22 of /proc/PID/stat."""

    pid: int
    started: int


def environment():
    """Ours, without proxies (all traffic of the cluster stays on this machine), and with the sbin folders."""
    kept = {name: value for name, value in os.environ.items() if name.lower() not in PROXY_VARIABLES}
    kept["PATH"] = kept.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    kept.pop("KUBECONFIG", None)
    return kept


def identify(pid):
    """The process that has this id now, or None where there is none or only its zombie."""
    try:
        # The name is in parentheses and may hold anything; the fields after it are numbers.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else Process(int(pid), int(fields[19]))


def alive(process):
    return identify(process.pid) == process


def start(command, log):
    """Starts a command in a session of its own, its output appended to the file `log`."""
    with open(log, "ab") as output:
        child = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output,
                                 stderr=subprocess.STDOUT, start_new_session=True, env=environment())
    # A child that ended at once stays a zombie as long as this process lives: it has an entry in any case.
    fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    return Process(child.pid, int(fields[19]))


def kill(processes, seconds=10):
    """Ends processes at once, and returns when they are gone, or those that are not."""
    held = []
    for process in processes:
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        if alive(process):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            held.append((process, descriptor))
        else:
            os.close(descriptor)
    left = []
    for process, descriptor in held:
        if not select.select([descriptor], [], [], seconds)[0]:
            left.append(process)
        os.close(descriptor)
    return left


def with_argument(name, value):
    """Processes that were started with the two arguments `name value`, one after the other."""
    wanted = [name.encode(), os.fsencode(str(value))]
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        process = identify(entry.name)
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if process and any(arguments[at:at + 2] == wanted for at in range(len(arguments))):
            found.append(process)
    return found
