"""build: Kubernetes, Helm and CoreDNS from their Go modules, and the pause program.

Each lies in a module of its own under `go/`, so that its dependencies are pinned by a committed go.sum and
mix with no other's. A binary is built again when its module, Go, the flags or the C source change. Go's
caches are those of the caller.
"""

import hashlib
import os
import shutil
import subprocess

from .console import Problem, run, stage
from .settings import COREDNS, HELM, KUBERNETES, SOURCES

KUBERNETES_COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet")


def kubernetes_version():
    """Flags of the linker: without them the server calls itself v0.0.0-master and version checks fail."""
    major, minor, _ = KUBERNETES.lstrip("v").split(".")
    return " ".join(
        f"-X {package}.gitVersion={KUBERNETES} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"))


# Module's folder -> (version, packages, flags of the linker).
MODULES = {
    "kubernetes": (KUBERNETES, [f"k8s.io/kubernetes/cmd/{name}" for name in KUBERNETES_COMMANDS], kubernetes_version()),
    "helm": (HELM, ["helm.sh/helm/v4/cmd/helm"], f"-X helm.sh/helm/v4/internal/version.version={HELM}"),
    "coredns": (COREDNS, ["."], ""),
}


def modules(state, names=tuple(MODULES)):
    """Builds what is lacking of the named modules into the state's bin folder."""
    if not shutil.which("go"):
        raise Problem("Go is not here: Kubernetes is built from its Go module. Install Go 1.26 or newer, "
                      "or set KUBECONFIG to a cluster that is up")
    state.bin.mkdir(parents=True, exist_ok=True)
    for name in names:
        version, packages, link = MODULES[name]
        source = SOURCES / "go" / name
        command = ["go", "build", "-trimpath", "-ldflags", f"-s -w {link}".strip(), "-o", f"{state.bin}/", *packages]
        stamp = state.bin / f".{name}"
        wanted = fingerprint(source, command)
        products = [state.bin / (package.rpartition("/")[2] if package != "." else name) for package in packages]
        if stamp.exists() and stamp.read_text() == wanted and all(product.exists() for product in products):
            continue
        with stage(f"build {name} {version} (minutes where Go's cache is cold)"):
            # Without C the binaries are static: they run in an image that holds nothing else.
            if subprocess.run(command, cwd=source, env={**os.environ, "CGO_ENABLED": "0"}).returncode:
                raise Problem(f"`{' '.join(command)}` failed in {source}; its errors are above")
        stamp.write_text(wanted)


def pause(state):
    """Builds the program that holds a pod's namespaces."""
    source, product = SOURCES / "pause.c", state.bin / "pause"
    if not product.exists() or product.stat().st_mtime < source.stat().st_mtime:
        state.bin.mkdir(parents=True, exist_ok=True)
        run(["cc", "-Os", "-static", "-s", "-o", product, source])
    return product


def fingerprint(source, command):
    """What the products depend on, as a digest."""
    digest = hashlib.sha256(run(["go", "version"]).encode() + repr(command).encode())
    for file in sorted(source.iterdir()):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
