"""lifecycle: up, down, status and load: what comes after what.

`up` takes nothing before it is in the ledger, so that `down` can give it back after any failure. A cluster
that is not wholly there is taken down and made anew: there is no state worth repairing.
"""

import fcntl
import json
import os
import shutil
import string
import time
from contextlib import contextmanager
from pathlib import Path

from . import build, host, images, network, packages, parts, pki, processes, settings, volumes
from .console import Problem, run, say, stage
from .ledger import Ledger

SECONDS_TO_READY = 120
# A Unix socket's path, with the end that containerd adds.
LONGEST_SOCKET = 107 - len(".ttrpc")


@contextmanager
def alone(state):
    """Holds the state folder, so that two commands do not work on it at once."""
    state.root.mkdir(parents=True, exist_ok=True)
    with open(state.root / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another command on {state.root}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def up(state):
    """Brings the cluster up, or finds it up; says how to use it."""
    if given := settings.foreign_kubeconfig(state):
        use_foreign(state, given)
        return
    with alone(state):
        ledger = Ledger(state.ledger)
        if is_up(state, ledger):
            say(f"is up already, in {state.root}")
            renew_volumes(state)
        else:
            may_begin(state, ledger)
            make(state, ledger)
    say_how_to_use(state, state.kubeconfig)


def down(state):
    """Takes the cluster away. What is in settings.State.KEPT stays."""
    with alone(state):
        ledger = Ledger(state.ledger)
        if not ledger.owned:
            say(f"there is none in {state.root}")
            return
        with stage("down"):
            take_away(state, ledger)


def load(state, file):
    """Loads an image archive into the cluster of this state folder."""
    if not state.kubeconfig.exists():
        raise Problem(f"there is no cluster in {state.root}: `make cluster` brings it up; a cluster of your own gets "
                      "its images as it always does")
    with stage(f"load {file}"):
        images.load(state, Path(file))


def status(state):
    """Says whether the cluster of this state folder is up; a Problem where it is not."""
    if not is_up(state, Ledger(state.ledger)):
        raise Problem(f"there is none in {state.root}, or it is not whole: `make cluster` brings it up")
    say(f"is up, in {state.root}")
    say_how_to_use(state, state.kubeconfig)


def use_foreign(state, given):
    """Checks that the cluster of KUBECONFIG answers."""
    for program in ("kubectl", "helm"):
        if not shutil.which(program):
            build.programs(state, program)
    kubectl = shutil.which("kubectl") or state.bin / "kubectl"
    try:
        run([kubectl, "get", "--raw", "/readyz", "--request-timeout=10s"])
    except Problem as problem:
        raise Problem(f"KUBECONFIG={given}: the cluster does not answer ({problem}); correct it, or unset it to use a "
                      "cluster made here") from None
    say(f"KUBECONFIG is set: using that cluster, which answers ({given})")
    say_how_to_use(state, given)


def may_begin(state, ledger):
    """Refuses where the machine cannot hold a cluster, or holds another."""
    if os.geteuid():
        raise Problem("a cluster needs root on this machine; set KUBECONFIG to one that is up instead")
    if len(os.fsencode(state.containerd_socket)) > LONGEST_SOCKET:
        raise Problem(f"{state.containerd_socket}: too long for a socket; set NEARBENCH_CLUSTER_DIR to a shorter path")
    packages.install()
    if ledger.owned:
        say(f"what is in {state.root} is not a whole cluster: making it anew")
        take_away(state, ledger)
        ledger.__init__(state.ledger)
    if (owner := network.owner()) and not ended_cluster(owner):
        raise Problem(f"this machine has a test cluster already, in {owner}: use it with "
                      f"NEARBENCH_CLUSTER_DIR={owner}, or end it with `NEARBENCH_CLUSTER_DIR={owner} make cluster-down`")
    if host.pod_cgroups() or any(map(network.rules, network.FAMILIES)):
        raise Problem("another Kubernetes runs on this machine (there is a cgroup `kubepods`, or chains KUBE-* in "
                      "iptables): set KUBECONFIG to use it")


def ended_cluster(owner):
    """Takes away what a cluster left whose processes were all killed; whether there is such a one."""
    state = settings.State(Path(owner))
    ledger = Ledger(state.ledger)
    if not ledger.owned or any(map(processes.alive, ledger.processes.values())):
        return False
    say(f"the cluster of {owner} has ended: taking away what it left")
    with alone(state):
        take_away(state, ledger)
    return True


def make(state, ledger):
    build.programs(state, *build.BUILDS)
    build.pause(state)
    ledger.save()
    try:
        begin(state, ledger)
    except BaseException:
        # Also on Ctrl-C. The logs stay, until the next `up` or `down`.
        say(f"did not come up; its logs stay in {state.logs}")
        try:
            take_away(state, ledger, keep={"logs"})
        except Problem as problem:
            say(f"nor was it taken away wholly: {problem}; `make cluster-down` tries again")
        raise


def begin(state, ledger):
    state.logs.mkdir(exist_ok=True)
    state.config.mkdir(mode=0o700)

    with stage("keys and certificates"):
        pki.make(state)

    with stage("control plane"):
        host.borrow(state, ledger)
        network.make_node_bridge(state)
        network.write_cni(state.config / "cni")
        runtime = parts.containerd(state)
        start(state, ledger, runtime, host.in_new_namespace(state, runtime.command))
        store, api = parts.etcd(state), parts.api_server(state)
        start(state, ledger, store)
        await_ready(state, ledger, store)
        start(state, ledger, api)
        await_ready(state, ledger, runtime)
        images.load_own(state)
        await_ready(state, ledger, api)
        controllers = [parts.controller_manager(state), parts.scheduler(state)]
        for part in controllers:
            start(state, ledger, part)

    with stage("node"):
        inside = [parts.kubelet(state), parts.proxy(state)]
        for part in inside:
            start(state, ledger, part, host.in_namespace_of(ledger.processes[runtime.name], part.command))
        for part in (*controllers, *inside):
            await_ready(state, ledger, part)
        kubectl(state, "wait", f"node/{settings.NODE}", "--for=create", f"--timeout={SECONDS_TO_READY}s")
        kubectl(state, "wait", f"node/{settings.NODE}", "--for=condition=Ready", f"--timeout={SECONDS_TO_READY}s")

    with stage(f"{settings.VOLUMES} volumes"):
        kubectl(state, "create", "--filename=-", input=volumes.make(state.volumes))

    with stage("names (CoreDNS)"):
        manifest = string.Template((settings.SOURCES / "manifests" / "coredns.yaml").read_text())
        kubectl(state, "apply", "--filename=-", input=manifest.substitute(vars(settings)))
        kubectl(state, "rollout", "status", "--namespace=kube-system", "deployment/coredns",
                f"--timeout={SECONDS_TO_READY}s")

    # Last: whoever sees it finds a whole cluster.
    shutil.copy(state.admin, state.kubeconfig)


def start(state, ledger, part, command=None):
    """Starts a part with its own command, or with that one in some wrapping."""
    ledger.processes[part.name] = processes.start(command or part.command, state.logs / f"{part.name}.log")
    ledger.save()


def await_ready(state, ledger, part):
    """Waits until a part answers; else says which, where its log is, and how it ends."""
    deadline = time.monotonic() + SECONDS_TO_READY
    while not part.ready():
        ended = not processes.alive(ledger.processes[part.name])
        if ended or time.monotonic() > deadline:
            log = state.logs / f"{part.name}.log"
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            how = "ended" if ended else f"did not get ready within {SECONDS_TO_READY} s"
            raise Problem(f"{part.name} {how}. The end of its log:\n{tail}\nAll of it: {log}")
        time.sleep(0.05)


def take_away(state, ledger, keep=frozenset()):
    """Ends the processes and pods, gives back what was borrowed, removes the files."""
    if ledger.this_boot:
        if left := processes.kill(ledger.processes.values()):
            raise Problem(f"these processes do not end: {left}")
        # Each pod has a shim, which outlives containerd. Ours are those that report to our socket.
        processes.kill(processes.with_argument("-address", state.containerd_socket))
        if "kubelet" in ledger.processes:
            host.end_pods()
        if network.owner() in (None, str(state.root)):
            network.remove()
    host.give_back(ledger)
    for entry in state.root.iterdir():
        if entry.name not in {*state.KEPT, *keep} and entry != state.ledger:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    # Last: whatever fails above is tried again.
    state.ledger.unlink(missing_ok=True)


def is_up(state, ledger):
    """Whether it came up wholly, all its parts still run, and the API server answers."""
    return (ledger.owned and ledger.this_boot and state.kubeconfig.exists()
            and all(map(processes.alive, ledger.processes.values())) and parts.api_server(state).ready())


def renew_volumes(state):
    """Empties the volumes whose claims are gone, and offers them again."""
    found = json.loads(kubectl(state, "get", "persistentvolumes", "--output=json"))["items"]
    if released := volumes.released(found):
        with stage(f"renew {len(released)} volumes"):
            kubectl(state, "replace", "--filename=-", input=volumes.renewed(released))


def kubectl(state, *arguments, **options):
    return run([state.bin / "kubectl", f"--kubeconfig={state.admin}", *arguments],
               env={**processes.environment(), "KUBECACHEDIR": str(state.root / "kubectl")}, **options)


def say_how_to_use(state, kubeconfig):
    print(f"export KUBECONFIG={kubeconfig} PATH={state.bin}:$PATH", flush=True)
