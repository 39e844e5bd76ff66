"""kube: a namespace as the tests use it: kubectl, helm and waiting, and what is kept when a test fails.

Knows no library of Kubernetes: tests see what a user sees. Waiting is watching (`kubectl wait`), never
sleeping; every call has a bound. Objects are dicts, applied as JSON.
"""

import json
import os
import re
import subprocess
from contextlib import contextmanager

SECONDS = 90

# What Pod Security's level `restricted` asks of a pod and its containers; ours write to mounted volumes only.
POD_SECURITY = {"runAsNonRoot": True, "runAsUser": 65532, "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER_SECURITY = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                      "capabilities": {"drop": ["ALL"]}}


class CommandFailed(AssertionError):
    """A kubectl or helm that ended with an error: the command, its exit code and what it printed."""

    def __init__(self, command, done):
        self.stderr = done.stderr
        super().__init__(f"`{' '.join(command)}` ended with {done.returncode}:\n{(done.stderr + done.stdout).strip()}")


def call(*command, input=None, seconds=SECONDS):
    """Runs a command to its end and returns its standard output; raises CommandFailed."""
    command = [str(word) for word in command]
    done = subprocess.run(command, input=input, capture_output=True, text=True, timeout=seconds + 10)
    if done.returncode:
        raise CommandFailed(command, done)
    return done.stdout


class Namespace:
    """One namespace. Every method works in it alone."""

    def __init__(self, name):
        self.name = name

    def kubectl(self, *arguments, **options):
        return call("kubectl", "--namespace", self.name, *arguments, **options)

    def helm(self, *arguments, **options):
        return call("helm", "--namespace", self.name, *arguments, **options)

    def apply(self, *objects):
        """Applies objects given as dicts."""
        self.kubectl("apply", "--filename=-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def get(self, *what):
        """One object as a dict (`get("pod/x")`), or the items of a kind (`get("pods", "--selector=…")`)."""
        found = json.loads(self.kubectl("get", *what, "--output=json"))
        return found["items"] if found["kind"] == "List" else found

    def wait(self, what, until, seconds=SECONDS):
        """Waits: `wait("deployment/x", "condition=Available")`, `wait("pod/x", "delete")`; see `kubectl wait --for`."""
        self.kubectl("wait", what, f"--for={until}", f"--timeout={seconds}s", seconds=seconds)

    def rollout(self, what, seconds=SECONDS):
        """Waits until every pod of a Deployment or StatefulSet is of its newest version, and ready."""
        self.kubectl("rollout", "status", what, f"--timeout={seconds}s", seconds=seconds)

    def finish(self, pod, seconds=SECONDS):
        """Waits for the end of a pod's first container; returns (exit code, its log)."""
        self.wait(f"pod/{pod}", "jsonpath={.status.containerStatuses[0].state.terminated}", seconds)
        ended = self.get(f"pod/{pod}")["status"]["containerStatuses"][0]["state"]["terminated"]
        return ended["exitCode"], self.kubectl("logs", pod)

    @contextmanager
    def forward(self, target, port):
        """A local URL for a port of a pod or Service, while the context lasts."""
        command = ["kubectl", "--namespace", self.name, "port-forward", target, f":{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as forwarder:
            try:
                said = forwarder.stdout.readline()
                opened = re.search(r"127\.0\.0\.1:(\d+)", said)
                assert opened, f"`{' '.join(command)}` said: {said}{forwarder.stdout.read() if not opened else ''}"
                yield f"http://127.0.0.1:{opened[1]}"
            finally:
                forwarder.terminate()

    def create(self):
        call("kubectl", "create", "--filename=-", input=json.dumps({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": self.name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}))
        # Pods need it, and it is made a moment after the namespace.
        self.wait("serviceaccount/default", "create")

    def delete(self):
        """Has the namespace deleted; `await_gone` sees the end of it."""
        call("kubectl", "delete", "namespace", self.name, "--ignore-not-found", "--wait=false")

    def await_gone(self, seconds=120):
        """Returns when nothing of the namespace is left: no pod, no object that a finalizer holds."""
        call("kubectl", "wait", f"namespace/{self.name}", "--for=delete", f"--timeout={seconds}s", seconds=seconds)

    def collect(self, folder):
        """Writes what tells why a test failed into the folder: objects but Secrets, events, logs. Never raises."""
        folder.mkdir(parents=True, exist_ok=True)

        def ask(*arguments):
            try:
                return self.kubectl(*arguments, seconds=30)
            except (CommandFailed, subprocess.TimeoutExpired) as failed:
                return f"{failed}\n"

        def keep(file, *arguments):
            (folder / file).write_text(ask(*arguments))

        keep("events.txt", "events")
        keep("pods.txt", "describe", "pods")
        kinds = ask("api-resources", "--namespaced", "--verbs=list", "--output=name").split()
        wanted = [kind for kind in kinds if kind != "secrets" and not kind.startswith("events")]
        keep("objects.yaml", "get", ",".join(wanted), "--output=yaml")
        restarted = ask("get", "pods", "--output=jsonpath={range .items[*]}{.metadata.name}/"
                        "{range .status.containerStatuses[*]}{.restartCount}{end}{'\\n'}{end}")
        for line in restarted.split()[:50]:
            pod, _, restarts = line.partition("/")
            keep(f"{pod}.log", "logs", pod, "--all-containers", "--prefix", "--timestamps")
            if restarts.strip("0"):
                keep(f"{pod}.previous.log", "logs", pod, "--all-containers", "--prefix", "--previous")


def pod(image, *arguments, command=None, volumes=None, **container):
    """The spec of a pod with one container that the level `restricted` admits, with a /tmp of its own."""
    spec = {
        "name": "main", "image": image, "imagePullPolicy": "IfNotPresent", "args": list(arguments),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}], **container,
    }
    if command:
        spec["command"] = command
    return {
        "securityContext": POD_SECURITY, "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 5,
        "containers": [spec], "volumes": [{"name": "tmp", "emptyDir": {}}, *(volumes or [])],
    }


def environment(name, meaning):
    """A variable that `e2e/run` sets."""
    assert os.environ.get(name), f"{name} is not set: it names {meaning}; `make e2e` sets it"
    return os.environ[name]
