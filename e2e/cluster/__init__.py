"""A Kubernetes of one node on one machine, from package registries alone.

Go modules and Debian packages, no prebuilt binary, no container engine. `python3 -m e2e.cluster up` brings
it up, `down` takes it away without a trace. One module per concern:

    settings     names, versions, addresses, ports, and where the files are
    console      stages with their time; problems that say the way out
    build        Kubernetes, Helm and CoreDNS from their Go modules
    packages     what Debian has: etcd, containerd, runc, CNI plugins
    pki          the authority, certificates, kubeconfigs
    ledger       what was taken from the machine, written down before it is taken
    processes    start, recognise and end a process
    host         directories, kernel settings and cgroups that a node borrows from the machine
    network      the node's bridge, the pods' network, the rules of kube-proxy
    parts        the programs of the cluster: how each is started, and when it is ready
    volumes      the volumes that claims of pods are bound to
    images       images of our own, and their way into containerd
    lifecycle    up, down, status, load: the order of all this
"""
