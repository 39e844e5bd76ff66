"""volumes: folders of the state that claims of pods are bound to, and the class that is theirs.

Nothing makes volumes on demand here, so a number of them are there from the beginning. One whose claim is gone
keeps what it holds, until the next `up` empties it and offers it again.
"""

import json
import shutil
from pathlib import Path

from .settings import NODE, STORAGE_CLASS, VOLUME_SIZE, VOLUMES


def make(folder):
    """Makes the folders; the class and the volumes, as kubectl reads them."""
    return as_list([storage_class(), *(volume(fresh(folder / f"{number:03}")) for number in range(VOLUMES))])


def released(found):
    """Those of our volumes that were used and are no longer claimed."""
    return [volume for volume in found
            if volume["spec"].get("storageClassName") == STORAGE_CLASS and volume["status"]["phase"] == "Released"]


def renewed(found):
    """Empties these volumes; what they are without their claims, as kubectl reads it."""
    for volume in found:
        fresh(Path(volume["spec"]["local"]["path"]))
        del volume["spec"]["claimRef"]
    return as_list(found)


def fresh(folder):
    """An empty folder that any user of a pod may write to."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    return folder


def storage_class():
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Retain",
    }


def volume(folder):
    on_our_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{STORAGE_CLASS}-{folder.name}"},
        "spec": {
            "capacity": {"storage": VOLUME_SIZE},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": STORAGE_CLASS,
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_our_node]}]}},
        },
    }


def as_list(objects):
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
