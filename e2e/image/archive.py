"""archive: an image of one layer as a docker archive, which `ctr`, `docker load`, `kind` and `k3d` read.

The same files give the same bytes: entries are sorted, and carry no time and no owner of this machine.
"""

import hashlib
import io
import json
import platform
import re
import subprocess
import tarfile
from pathlib import Path

# Of no account on any node; the name is what distroless images call it.
USER = 65532
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
EPOCH = "1970-01-01T00:00:00Z"


def write(out, tag, programs):
    """Writes an image to the file `out`: the programs, as {path in it: file here}, and the libraries that they load.

    The first program is the entrypoint.
    """
    files = {
        "/etc/passwd": (f"nonroot:x:{USER}:{USER}::/:/sbin/nologin\n".encode(), 0o644),
        "/etc/group": (f"nonroot:x:{USER}:\n".encode(), 0o644),
    }
    for path, program in programs.items():
        files[path] = (program.read_bytes(), 0o755)
        for library in libraries(program):
            files[str(library)] = (library.read_bytes(), 0o755)
    if CERTIFICATES.exists():
        files[str(CERTIFICATES)] = (CERTIFICATES.read_bytes(), 0o644)
    layer = pack(files, open_directories={"/tmp"})
    layer_digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps({
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "created": EPOCH,
        "config": {"Entrypoint": [next(iter(programs))], "User": f"{USER}:{USER}", "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
    }).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [tag], "Layers": [f"{layer_digest}.tar"]}]).encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(pack({f"/{layer_digest}.tar": (layer, 0o644), f"/{config_name}": (config, 0o644),
                          "/manifest.json": (manifest, 0o644)}))


def libraries(program):
    """The shared libraries that a program loads, and its loader: none where it is static."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True)
    if listed.returncode:
        return []
    if missing := re.findall(r"^\s*(\S+) => not found", listed.stdout, re.MULTILINE):
        raise FileNotFoundError(f"{program} needs {', '.join(missing)}, which is not on this machine")
    return [Path(path) for path in re.findall(r"(?:=>|^)\s*(/\S+) \(0x", listed.stdout, re.MULTILINE)]


def pack(files, open_directories=frozenset()):
    """A tar of {path: (bytes, mode)} with the folders they are in; anybody may write to the open ones."""
    directories = {str(parent) for path in files for parent in Path(path).parents} | set(open_directories)
    entries = {path: (None, 0o1777 if path in open_directories else 0o755) for path in directories - {"/"}}
    entries.update(files)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, (data, mode) in sorted(entries.items()):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.mode = mode
            if data is None:
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            else:
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
