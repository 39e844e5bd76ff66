"""packages: what Debian has of the cluster. Installs only what is lacking, and starts no service."""

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
        raise Problem(f"{', '.join(wanted)} (names of Debian's packages) are not here, and there is no apt-get: install "
                      "them, or set KUBECONFIG to a cluster that is up")
    with stage(f"install {' '.join(wanted)}"), services_stay_down():
        command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *wanted]
        # The lists may be older than the archive.
        if apt(command) and (apt(["apt-get", "update", "--quiet"]) or apt(command)):
            raise Problem(f"`{' '.join(command)}` failed; its errors are above")
    if lacking():
        raise Problem(f"installed, but still not found: {', '.join(lacking())}")


def apt(command):
    return subprocess.run(command, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode


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
