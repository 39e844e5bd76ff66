"""images: images of our own, and their way into the cluster's containerd."""

from ..image import archive
from .console import Problem, run
from .processes import environment
from .settings import COREDNS_IMAGE, PAUSE_IMAGE


def load(state, file):
    """Imports an image archive; returns what the import printed. Pods use it with imagePullPolicy IfNotPresent."""
    if not file.is_file():
        raise Problem(f"{file}: no such image archive; `make image` makes one")
    return run(["ctr", "--address", state.containerd_socket, "--namespace", "k8s.io", "images", "import", file],
               env=environment())


def load_own(state):
    """Makes and loads the images of the cluster itself."""
    for tag, program in ((PAUSE_IMAGE, "pause"), (COREDNS_IMAGE, "coredns")):
        file = state.root / f"{program}.tar"
        archive.write(file, tag, state.bin / program)
        load(state, file)
        file.unlink()
