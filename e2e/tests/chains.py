"""chains: a NEAR chain for tests that is not a run's own: a devnet behind a Service, its key in a Secret."""

import json
import subprocess
import urllib.request

import kube

PORT = 3030
SECRET = "funder"


class Chain:
    """A chain in a namespace, on which test.near owns everything."""

    def __init__(self, namespace, image, folder):
        """Makes it; `folder` gets the key of test.near, as a user's folder would have it."""
        self.namespace, self.folder = namespace, folder
        binary = kube.environment("NEARBENCH_BINARY", "the nearbench binary")
        with subprocess.Popen([binary, "devnet", "--rpc-addr", "127.0.0.1:0", "--secret", folder],
                              stdout=subprocess.PIPE, text=True) as devnet:
            # Its first line says that it serves: the key is written by then.
            said = devnet.stdout.readline()
            devnet.terminate()
        assert "serves JSON-RPC" in said
        self.fund(namespace)
        labels = {"app": "devnet"}
        spec = kube.pod(
            image, "devnet", "--rpc-addr", f"0.0.0.0:{PORT}", "--secret", f"/secrets/{SECRET}",
            volumes=[{"name": SECRET, "secret": {"secretName": SECRET, "defaultMode": 0o400}}],
            ports=[{"containerPort": PORT}], readinessProbe={"tcpSocket": {"port": PORT}},
            volumeMounts=[{"name": "tmp", "mountPath": "/tmp"}, {"name": SECRET, "mountPath": f"/secrets/{SECRET}"}])
        namespace.apply(
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "devnet"},
             "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}}},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "devnet"},
             "spec": {"selector": labels, "ports": [{"port": PORT}]}})
        namespace.rollout("deployment/devnet")
        self.url = f"http://devnet.{namespace.name}.svc:{PORT}"

    def fund(self, namespace, name=SECRET):
        """Puts the key of test.near into another namespace."""
        namespace.kubectl("create", "secret", "generic", name, f"--from-file={self.folder}/nearbench-account.json")

    def patch(self, account="bench.test.near"):
        """What makes a run pay from an account of this chain."""
        return {"network": {"endpoints": [{"url": self.url}]},
                "account": {"accountId": account, "createFrom": {"secretRef": {"name": SECRET}}},
                "token": {"contractId": f"ft.{account}"}}

    def keys(self, account):
        """The access keys of an account."""
        return [key["public_key"] for key in self._query("view_access_key_list", account_id=account)["keys"]]

    def signed(self, account):
        """How many transactions the key of test.near has signed on an account.

        A key's nonces begin at a multiple of a million, and provisioning takes one after the other.
        """
        key = json.loads((self.folder / "nearbench-account.json").read_text())["public_key"]
        return self._query("view_access_key", account_id=account, public_key=key)["nonce"] % 1_000_000

    def _query(self, what, **parameters):
        ask = {"jsonrpc": "2.0", "id": 1, "method": "query",
               "params": {"request_type": what, "finality": "optimistic", **parameters}}
        with self.namespace.forward("service/devnet", PORT) as url:
            request = urllib.request.Request(url, json.dumps(ask).encode(), {"Content-Type": "application/json"})
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
                return json.load(answer)["result"]
