"""images: images of our own, and their way into the cluster's containerd."""

import shutil
from pathlib import Path

from ..image import archive
from .console import Problem, run
from .processes import environment
from .settings import COREDNS_IMAGE, PAUSE_IMAGE, REDIS_IMAGE, TOOLS_IMAGE


def load(state, file):
    """Imports an image archive; returns what the import printed. Pods use it with imagePullPolicy IfNotPresent."""
    if not file.is_file():
        raise Problem(f"{file}: no such image archive; `make image` makes one")
    return run(["ctr", "--address", state.containerd_socket, "--namespace", "k8s.io", "images", "import", file],
               env=environment())


def load_own(state):
    """Makes and loads the images of the cluster itself, and the tools that tests use from within pods."""
    load_made(state, PAUSE_IMAGE, {"/pause": state.bin / "pause"})
    load_made(state, COREDNS_IMAGE, {"/coredns": state.bin / "coredns"})
    load_made(state, TOOLS_IMAGE, {"/bin/busybox": debian("busybox")})
    load_redis(state)


def load_redis(state, tag=REDIS_IMAGE):
    """Redis, and of what else Docker Hub's image has, what the chart's scripts use."""
    redis = {f"/usr/local/bin/{name}": debian(name) for name in ("redis-server", "redis-cli")}
    shell = {f"/bin/{name}": debian("busybox") for name in ("sh", "mv", "sleep", "timeout")}
    load_made(state, tag, redis | shell)


def load_made(state, tag, programs):
    file = state.root / "own-image.tar"
    archive.write(file, tag, programs)
    load(state, file)
    file.unlink()


def debian(name):
    """The file of a command that one of packages.NEEDED brings."""
    return Path(shutil.which(name, path=environment()["PATH"]))
