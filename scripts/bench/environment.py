"""What the benches need beside this project: other servers and clients, files, a certificate.

All of it is made when first wanted, in `.bench/` of the project, and kept there. Distributions are
pinned by peers/requirements.txt; one that cannot be installed is said, and those that need it are
left out.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".bench"
REQUIREMENTS = Path(__file__).parent / "peers" / "requirements.txt"
#: Seconds for one installation, some of which compile.
INSTALLING = 600

_CERTIFICATE = """
import sys, trustme
authority = trustme.CA()
issued = authority.issue_cert("127.0.0.1", "localhost")
issued.private_key_pem.write_to_path(sys.argv[1])
for number, blob in enumerate(issued.cert_chain_pems):
    blob.write_to_path(sys.argv[2], append=number > 0)
authority.cert_pem.write_to_path(sys.argv[3])
"""
_VERSIONS = """
import json
from importlib.metadata import distributions
print(json.dumps({each.metadata["Name"].lower(): each.version for each in distributions()}))
"""


def pins() -> dict[str, str]:
    """What peers/requirements.txt says: the version of each distribution."""
    lines = REQUIREMENTS.read_text().splitlines()
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", "\n".join(lines), re.MULTILINE))


class Environment:
    """A virtual environment of the running Python's version, with what was asked for.

    :param cache: where it is, or is made.
    """

    def __init__(self, cache: Path = CACHE) -> None:
        self.cache = cache
        name = "python" if sys.implementation.name == "cpython" else sys.implementation.name
        major, minor = sys.version_info[:2]
        # A free-threaded build has a "t" there, and extensions of its own.
        self._directory = cache / f"{name}{major}.{minor}{sys.abiflags}"
        self.python = str(self._directory / "bin" / "python")
        #: what could not be installed, and why
        self.missing: dict[str, str] = {}

    def install(self, names: set[str]) -> None:
        """Have these distributions, or find out which of them cannot be had."""
        if not os.path.exists(self.python):
            venv.create(self._directory, with_pip=False)
        wanted = pins()
        if unpinned := names - wanted.keys():
            raise ValueError(f"not in {REQUIREMENTS.name}: {', '.join(sorted(unpinned))}")
        there = self.versions()
        lacking = [name for name in sorted(names) if there.get(name) != wanted[name]]
        if not lacking:
            return
        if "pip" not in there:
            command = [self.python, "-m", "ensurepip", "--default-pip"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"installing {', '.join(lacking)} into {self._directory} …", file=sys.stderr)
        everything = [f"{name}=={wanted[name]}" for name in lacking]
        if not self._pip(everything):
            return
        for name, requirement in zip(lacking, everything, strict=True):
            if trouble := self._pip([requirement]):
                self.missing[name] = trouble
                print(f"{name} cannot be installed: {trouble}", file=sys.stderr)

    def _pip(self, requirements: list[str]) -> str:
        """Install; the last words of what went wrong, or ""."""
        command = [self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        try:
            done = subprocess.run(
                [*command, *requirements],
                capture_output=True,
                text=True,
                check=False,
                timeout=INSTALLING,
            )
        except subprocess.TimeoutExpired:
            return f"pip needed more than {INSTALLING} seconds"
        if not done.returncode:
            return ""
        # The compiler's own error says more than that a wheel could not be built.
        errors = re.findall(r"(?:fatal )?error: .*", done.stderr, re.IGNORECASE)
        telling = [line for line in errors if "subprocess-exited" not in line]
        words: list[str] = telling or errors or ["pip failed"]
        return words[0].strip()

    def versions(self) -> dict[str, str]:
        """What is installed, by lower-case name."""
        done = subprocess.run(
            [self.python, "-c", _VERSIONS], capture_output=True, text=True, check=True
        )
        found: dict[str, str] = json.loads(done.stdout)
        return found

    def certificate(self) -> tuple[str, str]:
        """Paths of a key and a certificate for 127.0.0.1; its authority is beside them."""
        directory = self.cache / "tls"
        key, certificate, authority = (
            str(directory / f"{name}.pem") for name in ("key", "certificate", "authority")
        )
        if not os.path.exists(authority):
            directory.mkdir(parents=True, exist_ok=True)
            self.install({"trustme"})
            if "trustme" in self.missing:
                raise RuntimeError(f"no certificate without trustme: {self.missing['trustme']}")
            command = [self.python, "-c", _CERTIFICATE, key, certificate, authority]
            subprocess.run(command, check=True)
        return key, certificate

    def files(self) -> str:
        """A directory with the files that are served: 4k.bin and 1m.bin."""
        directory = self.cache / "files"
        directory.mkdir(parents=True, exist_ok=True)
        for name, size in (("4k.bin", 4096), ("1m.bin", 1 << 20)):
            path = directory / name
            if not path.exists() or path.stat().st_size != size:
                path.write_bytes(bytes(range(256)) * (size // 256))
        return str(directory)
