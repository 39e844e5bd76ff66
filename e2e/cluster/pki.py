"""pki: the cluster's authority, the certificates of its parts, and kubeconfigs.

Everything is made anew with each cluster and is readable by its owner only. Needs openssl 3.
"""

import base64
import json

from .console import run
from .settings import API_SERVICE_ADDRESS, API_URL, DNS_DOMAIN, NODE, NODE_ADDRESS

DAYS = "30"
# Empty, so that nothing of the machine's own configuration comes into the certificates.
CONFIG = "[req]\ndistinguished_name = name\n[name]\n"
ELLIPTIC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]

# Name -> (subject, alternative names). The subject is who the API server takes the holder for.
CERTIFICATES = {
    "etcd": ("/CN=etcd", "IP:127.0.0.1"),
    "kube-apiserver": ("/CN=kube-apiserver", ",".join([
        f"IP:{NODE_ADDRESS}", f"IP:{API_SERVICE_ADDRESS}", "DNS:kubernetes", "DNS:kubernetes.default",
        "DNS:kubernetes.default.svc", f"DNS:kubernetes.default.svc.{DNS_DOMAIN}"])),
    "kubelet-client": ("/O=system:masters/CN=kube-apiserver-kubelet-client", ""),
    "kube-controller-manager": ("/CN=system:kube-controller-manager", "IP:127.0.0.1"),
    "kube-scheduler": ("/CN=system:kube-scheduler", "IP:127.0.0.1"),
    "kube-proxy": ("/CN=system:kube-proxy", ""),
    "kubelet": (f"/O=system:nodes/CN=system:node:{NODE}", f"DNS:{NODE},IP:{NODE_ADDRESS}"),
    "admin": ("/O=system:masters/CN=nearbench-e2e", ""),
}
KUBECONFIGS = ("kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet")


def make(state):
    """Writes the authority, every certificate, the key of service accounts and every kubeconfig."""
    state.pki.mkdir(mode=0o700)
    config = state.pki / "openssl.cnf"
    config.write_text(CONFIG)
    request = ["openssl", "req", "-config", config, "-x509", "-days", DAYS, *ELLIPTIC]
    run([*request, "-subj", "/CN=nearbench-e2e", "-addext", "basicConstraints=critical,CA:true",
         "-addext", "keyUsage=critical,keyCertSign,cRLSign",
         "-keyout", state.pki / "ca.key", "-out", state.pki / "ca.crt"])
    for name, (subject, alternatives) in CERTIFICATES.items():
        names = ["-addext", f"subjectAltName={alternatives}"] if alternatives else []
        run([*request, "-CA", state.pki / "ca.crt", "-CAkey", state.pki / "ca.key", "-subj", subject,
             "-addext", "extendedKeyUsage=serverAuth,clientAuth", *names,
             "-keyout", state.pki / f"{name}.key", "-out", state.pki / f"{name}.crt"])
    run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-out", state.pki / "service-accounts.key"])
    run(["openssl", "pkey", "-in", state.pki / "service-accounts.key", "-pubout",
         "-out", state.pki / "service-accounts.pub"])
    for name in KUBECONFIGS:
        write_kubeconfig(state, name, state.config / f"{name}.kubeconfig")
    write_kubeconfig(state, "admin", state.admin)


def write_kubeconfig(state, name, path):
    """A kubeconfig that holds everything in itself, so that it can be copied."""
    def data(file):
        return base64.b64encode((state.pki / file).read_bytes()).decode()

    # JSON is YAML.
    path.touch(mode=0o600)
    path.write_text(json.dumps({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NODE, "cluster": {"server": API_URL, "certificate-authority-data": data("ca.crt")}}],
        "users": [{"name": name, "user": {"client-certificate-data": data(f"{name}.crt"),
                                          "client-key-data": data(f"{name}.key")}}],
        "contexts": [{"name": NODE, "context": {"cluster": NODE, "user": name}}],
        "current-context": NODE,
    }, indent=1))
