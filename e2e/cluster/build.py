"""build: Kubernetes, Helm and CoreDNS from their Go modules, and the pause program.

Each lies in a module of its own under `go/`, so that its dependencies are pinned by a committed go.sum and
mix with no other's. A binary is built again when its module, Go, the flags or the C source change. Go's
caches are those of the caller.
"""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass

from .console import Problem, run, stage
from .settings import COREDNS, HELM, KUBERNETES, SOURCES


def kubernetes_version():
    """Flags of the linker: without them the server calls itself v0.0.0-master and version checks fail."""
    major, minor, _ = KUBERNETES.lstrip("v").split(".")
    return " ".join(
        f"-X {package}.gitVersion={KUBERNETES} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"))


@dataclass(frozen=True)
class Build:
    """Programs of one module: its folder under `go/`, its version, {program: package}, flags of the linker."""

    module: str
    version: str
    programs: dict
    link: str = ""


BUILDS = {
    "kubectl": Build("kubernetes", KUBERNETES, {"kubectl": "k8s.io/kubernetes/cmd/kubectl"}, kubernetes_version()),
    "kubernetes": Build("kubernetes", KUBERNETES, {
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet")
    }, kubernetes_version()),
    "helm": Build("helm", HELM, {"helm": "helm.sh/helm/v4/cmd/helm"},
                  f"-X helm.sh/helm/v4/internal/version.version={HELM}"),
    "coredns": Build("coredns", COREDNS, {"coredns": "."}),
}


def programs(state, *names):
    """Builds what is lacking of the named builds into the state's bin folder."""
    if not shutil.which("go"):
        raise Problem("Go is not here: Kubernetes is built from its Go module. Install Go 1.26 or newer, or set "
                      "KUBECONFIG to a cluster that is up, with kubectl and helm on PATH")
    state.bin.mkdir(parents=True, exist_ok=True)
    for name in names:
        build = BUILDS[name]
        source = SOURCES / "go" / build.module
        command = ["go", "build", "-trimpath", "-ldflags", f"-s -w {build.link}".strip(), "-o", f"{state.bin}/",
                   *build.programs.values()]
        stamp = state.bin / f".{name}"
        wanted = fingerprint(source, command)
        whole = all((state.bin / program).exists() for program in build.programs)
        if whole and stamp.exists() and stamp.read_text() == wanted:
            continue
        with stage(f"build {name} {build.version} (minutes where Go's cache is cold)"):
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
