"""packages: what Debian has of the cluster and of its images. Installs only what is lacking, and starts no service.

What comes later for the tests (a Prometheus) has its line in NEEDED.
"""

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

from .console import Problem, stage
from .processes import environment

# Package -> the file or command that shows it is here.
NEEDED = {
    "etcd-server": "etcd",
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "socat": "socat",
    "busybox-static": "busybox",
    "redis-server": "redis-server",
    "redis-tools": "redis-cli",
    "iproute2": "ip",
    "mount": "mount",
    "util-linux": "nsenter",
    "openssl": "openssl",
}

POLICY = Path("/usr/sbin/policy-rc.d")


def lacking():
    path = environment()["PATH"]
    return [package for package, sign in NEEDED.items() if not shutil.which(sign, path=path)]


def install():
    """Installs the packages that are not here."""
    wanted = lacking()
    if not wanted:
        return
    if not shutil.which("apt-get"):
        raise Problem(f"{', '.join(wanted)} (names of Debian's packages) are not here, and there is no apt-get: "
                      "install them, or set KUBECONFIG to a cluster that is up")
    with stage(f"install {' '.join(wanted)}"), services_stay_down():
        apt("install", "--yes", "--no-install-recommends", *wanted)
    if lacking():
        raise Problem(f"installed, but still not found: {', '.join(lacking())}")


def apt(*arguments):
    """Runs apt-get; once more with new lists where it fails, for they may be older than the archive."""
    silent = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}

    def get(*words):
        return subprocess.run(["apt-get", "--quiet", *words], env=silent, text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    if get(*arguments).returncode:
        get("update")
        if (again := get(*arguments)).returncode:
            raise Problem(f"`apt-get {' '.join(arguments)}` failed: {again.stderr.strip()[-2000:]}")


@contextmanager
def services_stay_down():
    """Debian starts a package's services unless policy-rc.d says no. A policy that is there is left alone."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
