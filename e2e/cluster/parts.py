"""parts: the programs of the cluster: how each is started, with what configuration, and when it is ready.

Decides nothing about order; that is lifecycle's.
"""

import json
import socket
import ssl
import urllib.request
from dataclasses import dataclass
from typing import Callable

from . import settings as s


@dataclass(frozen=True)
class Part:
    """`ready` returns whether the part answers; it is asked until it does, or the process has ended."""

    name: str
    command: list
    ready: Callable[[], bool]


def answers(url, state):
    """Whether a GET answers 200, shown with the administrator's certificate where the URL is https."""
    try:
        handlers = [urllib.request.ProxyHandler({})]
        if url.startswith("https"):
            context = ssl.create_default_context(cafile=state.pki / "ca.crt")
            context.load_cert_chain(state.pki / "admin.crt", state.pki / "admin.key")
            handlers.append(urllib.request.HTTPSHandler(context=context))
        with urllib.request.build_opener(*handlers).open(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def listens(path):
    """Whether somebody accepts connections on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def etcd(state):
    pki = state.pki
    return Part("etcd", [
        "etcd", "--name", s.NODE, "--data-dir", state.root / "etcd",
        # What is lost in a crash of the machine was a test's.
        "--unsafe-no-fsync", "--logger", "zap",
        "--listen-client-urls", f"https://127.0.0.1:{s.PORT_ETCD}",
        "--advertise-client-urls", f"https://127.0.0.1:{s.PORT_ETCD}",
        "--listen-peer-urls", f"http://127.0.0.1:{s.PORT_ETCD_PEER}",
        "--initial-advertise-peer-urls", f"http://127.0.0.1:{s.PORT_ETCD_PEER}",
        "--initial-cluster", f"{s.NODE}=http://127.0.0.1:{s.PORT_ETCD_PEER}",
        "--listen-metrics-urls", f"http://127.0.0.1:{s.PORT_ETCD_HEALTH}",
        "--cert-file", pki / "etcd.crt", "--key-file", pki / "etcd.key",
        "--client-cert-auth", "--trusted-ca-file", pki / "ca.crt",
    ], lambda: answers(f"http://127.0.0.1:{s.PORT_ETCD_HEALTH}/health", state))


def api_server(state):
    pki = state.pki
    policy = state.config / "audit.json"
    policy.write_text(json.dumps({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        # Who works in the cluster, without its own parts.
        "rules": [{"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
                  {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
                  {"level": "None"}],
    }, indent=1))
    return Part("kube-apiserver", [
        state.bin / "kube-apiserver",
        f"--bind-address={s.NODE_ADDRESS}", f"--secure-port={s.PORT_API}", f"--advertise-address={s.NODE_ADDRESS}",
        f"--etcd-servers=https://127.0.0.1:{s.PORT_ETCD}", f"--etcd-cafile={pki}/ca.crt",
        f"--etcd-certfile={pki}/kube-apiserver.crt", f"--etcd-keyfile={pki}/kube-apiserver.key",
        f"--service-cluster-ip-range={s.SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/kube-apiserver.crt", f"--tls-private-key-file={pki}/kube-apiserver.key",
        # Without these, exec and logs are refused by the kubelet. By address, because no DNS knows the node.
        f"--kubelet-certificate-authority={pki}/ca.crt", f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key", "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-issuer=https://kubernetes.default.svc.{s.DNS_DOMAIN}",
        f"--service-account-key-file={pki}/service-accounts.pub",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
        f"--audit-policy-file={policy}", f"--audit-log-path={state.audit}",
        # Megabytes, and files beside the one that is written.
        "--audit-log-maxsize=50", "--audit-log-maxbackup=3",
        "--profiling=false",
    ], lambda: answers(f"{s.API_URL}/readyz", state))


def controller_manager(state):
    return controller(
        state, "kube-controller-manager", s.PORT_CONTROLLER_MANAGER, "--use-service-account-credentials=true",
        f"--service-account-private-key-file={state.pki}/service-accounts.key", f"--root-ca-file={state.pki}/ca.crt")


def scheduler(state):
    return controller(state, "kube-scheduler", s.PORT_SCHEDULER)


def controller(state, name, port, *options):
    """A part of the control plane that works through the API server, with a kubeconfig and a certificate of its name."""
    return Part(name, [
        state.bin / name, f"--kubeconfig={state.config}/{name}.kubeconfig",
        "--bind-address=127.0.0.1", f"--secure-port={port}",
        f"--tls-cert-file={state.pki}/{name}.crt", f"--tls-private-key-file={state.pki}/{name}.key",
        "--leader-elect=false", "--profiling=false", *options,
    ], lambda: answers(f"https://127.0.0.1:{port}/healthz", state))


def containerd(state):
    """Its `state` is in /run/containerd, which is a folder of ours (host.py), so that its paths stay short."""
    config = state.config / "containerd.toml"
    config.write_text(f"""\
version = 2
root = "{state.root}/containerd"
state = "/run/containerd/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
address = "{state.containerd_socket}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{s.PAUSE_IMAGE}"
stream_server_address = "127.0.0.1"
netns_mounts_under_state_dir = true
# Where a machine lacks CAP_SYS_RESOURCE, runc dies of lowering a score: "can't get final child's PID from pipe".
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{state.config}/cni"
""")
    return Part("containerd", ["containerd", "--config", config], lambda: listens(state.containerd_socket))


def kubelet(state):
    config = state.config / "kubelet.json"
    config.write_text(json.dumps({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": s.NODE_ADDRESS,
        "port": s.PORT_KUBELET,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": s.PORT_KUBELET_HEALTH,
        "tlsCertFile": f"{state.pki}/kubelet.crt",
        "tlsPrivateKeyFile": f"{state.pki}/kubelet.key",
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True},
                           "x509": {"clientCAFile": f"{state.pki}/ca.crt"}},
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{state.containerd_socket}",
        "podLogsDir": f"{state.logs}/pods",
        "volumePluginDir": f"{state.root}/volume-plugins",
        "clusterDNS": [s.DNS_ADDRESS],
        "clusterDomain": s.DNS_DOMAIN,
        # Nothing of the machine's own names gets into pods.
        "resolvConf": "",
        "maxPods": s.MAX_PODS,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": "/",
        "failCgroupV1": False,
        "failSwapOn": False,
        # A machine that builds has a full disk now and then; images that were loaded cannot be pulled again.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": False,
    }, indent=1))
    return Part("kubelet", [
        state.bin / "kubelet", "--config", config, "--kubeconfig", state.config / "kubelet.kubeconfig",
        "--hostname-override", s.NODE, "--node-ip", s.NODE_ADDRESS,
        # So that `kubectl logs --previous` shows how a container ended that has ended again since.
        "--maximum-dead-containers-per-container=3",
    ], lambda: answers(f"http://127.0.0.1:{s.PORT_KUBELET_HEALTH}/healthz", state))


def proxy(state):
    return Part("kube-proxy", [
        state.bin / "kube-proxy", f"--kubeconfig={state.config}/kube-proxy.kubeconfig",
        f"--hostname-override={s.NODE}", "--proxy-mode=iptables", f"--cluster-cidr={s.POD_RANGE}",
        f"--nodeport-addresses={s.NODE_ADDRESS}/32", "--iptables-localhost-nodeports=false",
        f"--healthz-bind-address=127.0.0.1:{s.PORT_PROXY_HEALTH}",
        f"--metrics-bind-address=127.0.0.1:{s.PORT_PROXY_METRICS}",
        # The machine's own connections are tracked as before.
        "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
    ], lambda: answers(f"http://127.0.0.1:{s.PORT_PROXY_HEALTH}/healthz", state))
