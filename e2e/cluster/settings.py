"""settings: every name, version, address and port of the cluster, and where its files are.

Everything lives in 198.18.0.0/15, the range that RFC 2544 reserves for benchmarks, which is routed to a
bridge that leads nowhere (network.py): while the cluster is up, what is sent there stays in this machine.
Nothing listens on an address that others can reach.
"""

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).resolve().parent

KUBERNETES = "v1.34.4"
HELM = "v4.3.1"
COREDNS = "v1.15.0"

NODE = "nearbench"
NODE_ADDRESS = "198.18.255.1"
NODE_BRIDGE = "nbnode0"
POD_BRIDGE = "nbpods0"
RANGE = "198.18.0.0/15"
POD_RANGE = "198.18.0.0/24"
SERVICE_RANGE = "198.19.0.0/24"
API_SERVICE_ADDRESS = "198.19.0.1"
DNS_ADDRESS = "198.19.0.10"
DNS_DOMAIN = "cluster.local"
MAX_PODS = 250

# The default class. A run takes two volumes, and each is used once between two `up`.
STORAGE_CLASS = "nearbench-local"
VOLUMES = 240
VOLUME_SIZE = "1Gi"

# Below the ports that the kernel hands out, and none of Kubernetes' own: another cluster may be here.
PORT_API = 21443
PORT_ETCD = 21379
PORT_ETCD_PEER = 21380
PORT_ETCD_HEALTH = 21381
PORT_CONTROLLER_MANAGER = 21257
PORT_SCHEDULER = 21259
PORT_KUBELET = 21250
PORT_KUBELET_HEALTH = 21248
PORT_PROXY_HEALTH = 21256
PORT_PROXY_METRICS = 21249

API_URL = f"https://{NODE_ADDRESS}:{PORT_API}"

PAUSE_IMAGE = "localhost/nearbench-pause:1"
# Debian's busybox, at the path that it has in Docker Hub's image of that name.
TOOLS_IMAGE = "localhost/nearbench-tools:1"
# Debian's redis-server and redis-cli, likewise.
REDIS_IMAGE = "localhost/nearbench-redis:1"
COREDNS_IMAGE = f"localhost/nearbench-coredns:{COREDNS}"


@dataclass(frozen=True)
class State:
    """The folder of one cluster. What outlives the cluster is in KEPT; the rest goes with it."""

    root: Path

    # What took long to make, and what tells why a test failed.
    KEPT = ("bin", "venv", "failures", "lock")

    @property
    def bin(self):
        return self.root / "bin"

    @property
    def logs(self):
        return self.root / "logs"

    @property
    def audit(self):
        """What service accounts asked of the API server. Older parts of it lie beside it, as audit-TIME.log."""
        return self.logs / "audit.log"

    @property
    def volumes(self):
        return self.root / "volumes"

    @property
    def pki(self):
        return self.root / "pki"

    @property
    def config(self):
        return self.root / "config"

    @property
    def admin(self):
        """The kubeconfig while the cluster comes up."""
        return self.config / "admin.kubeconfig"

    @property
    def kubeconfig(self):
        """The kubeconfig for users. It is there when the cluster is whole."""
        return self.root / "kubeconfig"

    @property
    def ledger(self):
        return self.root / "ledger.json"

    @property
    def containerd_socket(self):
        return self.root / "containerd.sock"


def state():
    """The state folder: NEARBENCH_CLUSTER_DIR, else `.cluster` in the repository."""
    return State(Path(os.environ.get("NEARBENCH_CLUSTER_DIR") or ROOT / ".cluster").resolve())


def foreign_kubeconfig(ours):
    """The value of KUBECONFIG where it names another cluster than the one in `ours`, else None."""
    given = os.environ.get("KUBECONFIG")
    if not given or Path(given).resolve() == ours.kubeconfig:
        return None
    return given
