"""network: the node's bridge, the pods' network, and the end of kube-proxy's rules.

The node's address sits on a bridge without ports, and the whole range is routed there: an address that no pod
and no Service has is unreachable, instead of being looked for outside of the machine. Pods hang on a second
bridge, which the CNI plugin makes, and know no route but to the range.
"""

import json
import subprocess

from .console import run
from .processes import environment
from .settings import NODE_ADDRESS, NODE_BRIDGE, POD_BRIDGE, POD_RANGE, RANGE

FAMILIES = ("iptables", "ip6tables")


def owner():
    """The state folder of the cluster that is on this machine, or None. The bridge carries it as its alias."""
    found = subprocess.run(["ip", "-json", "link", "show", "dev", NODE_BRIDGE], capture_output=True, text=True)
    if found.returncode:
        return None
    return json.loads(found.stdout)[0].get("ifalias", "somebody unknown")


def make_node_bridge(state):
    run(["ip", "link", "add", NODE_BRIDGE, "type", "bridge"])
    run(["ip", "link", "set", "dev", NODE_BRIDGE, "alias", state.root])
    run(["ip", "address", "add", f"{NODE_ADDRESS}/32", "dev", NODE_BRIDGE])
    run(["ip", "link", "set", "dev", NODE_BRIDGE, "up"])
    run(["ip", "route", "add", RANGE, "dev", NODE_BRIDGE])


def write_cni(directory):
    """Writes the pods' network configuration, for containerd."""
    directory.mkdir()
    (directory / "10-nearbench.conflist").write_text(json.dumps({
        "cniVersion": "1.0.0",
        "name": "nearbench",
        "plugins": [
            {
                "type": "bridge",
                "bridge": POD_BRIDGE,
                "isGateway": True,
                # A pod may be behind the Service that it calls.
                "hairpinMode": True,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": POD_RANGE}]],
                         "routes": [{"dst": RANGE}]},
            },
        ],
    }, indent=1))


def rules(family):
    """What kube-proxies wrote: {table: (chains KUBE-*, rules elsewhere that jump there)}, no empty tables."""
    found, table = {}, None
    for line in run([f"{family}-save"], env=environment()).splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":KUBE-"):
            found.setdefault(table, ([], []))[0].append(line[1:].split()[0])
        elif line.startswith("-A ") and not line.startswith("-A KUBE-") and " -j KUBE-" in line:
            found.setdefault(table, ([], []))[1].append(line)
    return found


def remove():
    """Takes away kube-proxy's rules and the bridges. All such rules are ours: `up` begins only where there are none."""
    for family in FAMILIES:
        script = []
        for table, (chains, jumps) in rules(family).items():
            script += [f"*{table}", *(f"-D {jump[len('-A '):]}" for jump in jumps)]
            script += [*(f"-F {chain}" for chain in chains), *(f"-X {chain}" for chain in chains), "COMMIT"]
        if script:
            run([f"{family}-restore", "--noflush"], input="\n".join(script) + "\n", env=environment())
    for bridge in (NODE_BRIDGE, POD_BRIDGE):
        subprocess.run(["ip", "link", "delete", "dev", bridge], stderr=subprocess.DEVNULL)
