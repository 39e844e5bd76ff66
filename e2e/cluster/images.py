"""images: images of our own, and their way into the cluster's containerd."""

import shutil
from pathlib import Path

from ..image import archive
from .console import Problem, run
from .processes import environment
from .settings import COREDNS_IMAGE, PAUSE_IMAGE, TOOLS_IMAGE


def load(state, file):
    """Imports an image archive; returns what the import printed. Pods use it with imagePullPolicy IfNotPresent."""
    if not file.is_file():
        raise Problem(f"{file}: no such image archive; `make image` makes one")
    return run(["ctr", "--address", state.containerd_socket, "--namespace", "k8s.io", "images", "import", file],
               env=environment())


def load_own(state):
    """Makes and loads the images of the cluster itself, and the tools that tests use from within pods."""
    own = (
        (PAUSE_IMAGE, state.bin / "pause", "/pause"),
        (COREDNS_IMAGE, state.bin / "coredns", "/coredns"),
        (TOOLS_IMAGE, Path(shutil.which("busybox")), "/bin/busybox"),
    )
    for tag, program, entrypoint in own:
        file = state.root / "own-image.tar"
        archive.write(file, tag, program, entrypoint)
        load(state, file)
        file.unlink()
