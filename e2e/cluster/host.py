"""host: directories, kernel settings and cgroups that a node borrows from the machine.

The node's programs write to fixed places under /run and /var. They run in a mount namespace of their own, in
which those places are folders of the state: whatever they and the pods mount is gone with the last of them,
and a Kubernetes or containerd that the machine may have besides is not touched.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

from .console import Problem

# Place that the node's programs insist on -> folder of the state that they see there.
PLACES = {
    "/run/containerd": "run-containerd",
    "/var/lib/cni": "cni",
    "/var/lib/kubelet": "kubelet",
    "/var/log/containers": "log-containers",
}

# What kubelet, kube-proxy and the bridge plugin change.
SETTINGS = (
    "kernel.keys.root_maxbytes",
    "kernel.keys.root_maxkeys",
    "kernel.panic",
    "kernel.panic_on_oops",
    "net.bridge.bridge-nf-call-iptables",
    "net.ipv4.conf.all.route_localnet",
    "net.ipv4.ip_forward",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_tcp_be_liberal",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
)

CGROUPS = Path("/sys/fs/cgroup")


def setting(name):
    return Path("/proc/sys", name.replace(".", "/"))


def borrow(state, ledger):
    """Writes down the kernel settings, and makes the places that are lacking."""
    for name in SETTINGS:
        if setting(name).exists():
            ledger.settings.setdefault(name, setting(name).read_text().strip())
    for place in PLACES:
        for directory in [*reversed(Path(place).parents), Path(place)]:
            if not directory.exists():
                ledger.directories.append(str(directory))
                ledger.save()
                directory.mkdir()
    ledger.save()
    for folder in PLACES.values():
        (state.root / folder).mkdir()
    # Packets between pods on one bridge must pass the rules of kube-proxy.
    if not setting("net.bridge.bridge-nf-call-iptables").exists():
        subprocess.run(["modprobe", "br_netfilter"], stderr=subprocess.DEVNULL)
    for name in ("net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"):
        if not setting(name).exists():
            raise Problem(f"the kernel has no {name}: load the module br_netfilter, or set KUBECONFIG to a cluster "
                          "that is up")
        setting(name).write_text("1")


def give_back(ledger):
    """Restores what `borrow` wrote down. Settings only in the boot in which they were changed."""
    if ledger.this_boot:
        for name, value in ledger.settings.items():
            if setting(name).exists() and setting(name).read_text().strip() != value:
                setting(name).write_text(value)
    for directory in reversed(ledger.directories):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            pass
        except OSError:
            # Somebody else has put something there since: it is theirs now.
            continue


def in_new_namespace(state, command):
    """The command, in a mount namespace with the node's places."""
    lines = ["set -e", "mount --make-rshared /"]
    lines += [f'mount --bind "$0/{folder}" {place}' for place, folder in PLACES.items()]
    lines.append('exec "$@"')
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines), state.root, *command]


def in_namespace_of(process, command):
    """The command, in the mount namespace of a process that `in_new_namespace` began."""
    return ["nsenter", f"--mount=/proc/{process.pid}/ns/mnt", *command]


def pod_cgroups():
    """The root of the pods' cgroups: one, or one for each controller where they are of version 1."""
    return [path for path in (CGROUPS / "kubepods", *CGROUPS.glob("*/kubepods")) if path.is_dir()]


def end_pods(seconds=10):
    """Kills everything in the pods' cgroups, and removes them. Only while the kubelet is not running."""
    deadline = time.monotonic() + seconds
    while roots := pod_cgroups():
        # Deepest first. A cgroup can be removed once its last process was reaped, which nothing announces.
        for root in roots:
            for directory, _, _ in os.walk(root, topdown=False):
                remove_cgroup(Path(directory))
        if time.monotonic() > deadline:
            raise Problem(f"these cgroups do not empty: {', '.join(map(str, roots))}; see their cgroup.procs")
        time.sleep(0.02)


def remove_cgroup(directory):
    try:
        for pid in (directory / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        directory.rmdir()
    except (FileNotFoundError, ProcessLookupError):
        pass
    except OSError:
        # Not empty yet: the next round sees to it.
        return
