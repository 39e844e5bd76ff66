"""ledger: what the cluster took from the machine, written down before it is taken.

`down` gives back what is written here and nothing else, also after a crash of `up`. The ledger belongs to
one boot of the machine: after a reboot its processes and devices are gone by themselves, and their numbers
may mean something else.
"""

import json
import os
from pathlib import Path

from .processes import Process


def boot_id():
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Ledger:
    """The file, read and written whole. `owned` tells whether a cluster was begun here."""

    def __init__(self, path):
        self.path = path
        self.owned = path.exists()
        entries = json.loads(path.read_text()) if self.owned else {}
        self.this_boot = entries.get("boot", boot_id()) == boot_id()
        self.processes = {name: Process(**entry) for name, entry in entries.get("processes", {}).items()}
        # Kernel settings by name, with the value that was found.
        self.settings = entries.get("settings", {})
        # Directories that were made outside of the state folder, outermost first.
        self.directories = entries.get("directories", [])

    def save(self):
        entries = {
            "boot": boot_id(),
            "processes": {name: vars(process) for name, process in self.processes.items()},
            "settings": self.settings,
            "directories": self.directories,
        }
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(entries, indent=1))
        os.replace(fresh, self.path)
        self.owned = True
