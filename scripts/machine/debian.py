"""Packages of other Debian suites, unpacked beside this machine's own without installing them.

They come from the mirror that this machine's apt uses (`MIRROR` overrides it; where apt has another distribution's,
from deb.debian.org). Each download is checked against the suite's index.
"""

import functools
import glob
import hashlib
import lzma
import os
import re
import subprocess
import urllib.request

ARCHITECTURE = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
EVERYWHERE = "http://deb.debian.org/debian"


@functools.cache
def mirror():
    """The address of a Debian mirror."""
    if os.environ.get("MIRROR"):
        return os.environ["MIRROR"].rstrip("/")
    for path in [*sorted(glob.glob("/etc/apt/sources.list.d/*.sources")), "/etc/apt/sources.list"]:
        try:
            with open(path) as file:
                text = file.read()
        except OSError:
            continue
        for uri in re.findall(r"^(?:URIs:|deb)\s+(?:\[[^]]*\]\s+)?(\S+)", text, re.M):
            if "security" not in uri and "debian" in uri:
                return uri.rstrip("/")
    return EVERYWHERE


def get(path):
    """What the mirror has at this path."""
    return urllib.request.urlopen(f"{mirror()}/{path}", timeout=120).read()


@functools.cache
def index(suite):
    """The packages of a suite: name -> fields."""
    packages = {}
    text = lzma.decompress(get(f"dists/{suite}/main/binary-{ARCHITECTURE}/Packages.xz")).decode()
    for stanza in text.split("\n\n"):
        lines = (line for line in stanza.split("\n") if ": " in line and not line.startswith(" "))
        fields = dict(line.split(": ", 1) for line in lines)
        if "Package" in fields:
            packages.setdefault(fields["Package"], fields)
    return packages


def unpack(fields, root):
    """Downloads one package, checks its SHA-256 and unpacks it below `root`."""
    data = get(fields["Filename"])
    if hashlib.sha256(data).hexdigest() != fields["SHA256"]:
        raise SystemExit(f"{fields['Package']}: the download does not match the index")
    os.makedirs(root, exist_ok=True)
    path = os.path.join(root, f".{fields['Package']}.deb")
    with open(path, "wb") as file:
        file.write(data)
    subprocess.check_call(["dpkg-deb", "-x", path, root])
    os.unlink(path)
