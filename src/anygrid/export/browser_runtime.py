"""onnxruntime-web, which a browser page needs: one pinned release, taken from npm once, or from a file; never run without its hash.

The package is not part of anygrid. Its tarball is fetched from the npm registry that npm itself would ask, compared with the SHA-512
below, and two files of it are kept in the user's cache. They are compared with their own hashes each time they are used.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from anygrid.errors import FileError, UsageError
from anygrid.surrogate.file import write_atomically

__all__ = ["RELEASE", "Release", "cache_folder", "registry", "runtime_files"]

_PUBLIC = "https://registry.npmjs.org/"
_LARGEST = 128 << 20  # bytes of a tarball or of a file in it: the real ones have 33 MB and 14 MB
_SECONDS = 60.0  # without an answer


@dataclass(frozen=True)
class Release:
    """A release of an npm package, and the files that are taken from it.

    Attributes
    ----------
    integrity
        ``sha512-`` and the base64 hash of the tarball, as npm writes it.
    files
        Name on the page: path in the tarball below ``package/``, and SHA-512 of the contents in base64.
    """

    package: str
    version: str
    integrity: str
    files: Mapping[str, tuple[str, str]]

    @property
    def tarball(self) -> str:
        """Name of the tarball, as ``npm pack`` writes it."""
        return f"{self.package}-{self.version}.tgz"


# The bundle without WebGPU: one thread of WebAssembly, as static hosts send no headers for shared memory. A name in .js, because older
# hosts serve .mjs with a type that browsers refuse.
RELEASE = Release(
    "onnxruntime-web",
    "1.30.0",
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    {
        "ort.js": (
            "dist/ort.wasm.bundle.min.mjs",
            "1KcF8CWAZeqtTcvLgKPtOMXIbkWeh++LDCQpDhQ5ARVxHAL1VNL5rr0OI+MxTbmNIANldE/A/q+O4gSKgSMjWQ==",
        ),
        "ort.wasm": (
            "dist/ort-wasm-simd-threaded.wasm",
            "Gt7e1iIDIZ/PXEhM/OVleqWHVom0kEI/hs8cod0crXcV9jDGM39B23HuQnlOOgDOC3x4k5pxIgtdgzaL9up3MA==",
        ),
    },
)


def runtime_files(given: Path | None = None, release: Release = RELEASE) -> dict[str, bytes]:
    """Contents of the files of ``release``: from ``given`` (its tarball, or a folder with the unpacked package), else from the cache,
    else from the npm registry.

    Raises
    ------
    UsageError
        When nothing is given or cached and the registry cannot be reached.
    FileError
        When the tarball or one of the files is missing, damaged or another release: its hash differs.
    """
    if given is not None:
        return _from_folder(given, release) if given.is_dir() else _from_tarball(_read(given, release), str(given), release)
    cached = cache_folder() / f"{release.package}-{release.version}"
    try:
        found = {name: (cached / name).read_bytes() for name in release.files}
        if all(_hash(found[name]) == wanted for name, (_, wanted) in release.files.items()):
            return found
    except OSError:
        pass  # not there yet
    address = f"{registry()}{release.package}/-/{release.tarball}"
    files = _from_tarball(_fetch(address, release), address, release)
    for name, contents in files.items():
        try:
            write_atomically(cached / name, contents)
        except FileError:
            break  # a cache that cannot be written costs a download the next time, not the page
    return files


def cache_folder() -> Path:
    """Folder of anygrid in the user's cache."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "anygrid"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "anygrid" / "cache"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "anygrid"


def registry() -> str:
    """Address of the npm registry, ending in a slash: ``NPM_CONFIG_REGISTRY``, else that of the user's ``.npmrc``, else the public one.

    Raises
    ------
    UsageError
        For an address that is not http(s).
    """
    settings = {name.lower(): value for name, value in os.environ.items() if value}
    chosen, where = settings.get("npm_config_registry", ""), "NPM_CONFIG_REGISTRY"
    if not chosen:
        path = Path(settings.get("npm_config_userconfig") or Path.home() / ".npmrc")
        chosen, where = _configured(path), str(path)
    address = chosen or _PUBLIC
    if not address.startswith(("https://", "http://")):
        raise UsageError(where, "the address of an npm registry, https://...", repr(address), "unset it, or give --runtime")
    return address.rstrip("/") + "/"


def _configured(path: Path) -> str:
    """``registry`` of an ``.npmrc``; the last one counts, as for npm."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    pairs = [line.partition("=") for line in lines if not line.lstrip().startswith(("#", ";"))]
    values = [value.strip().strip("\"'") for name, _, value in pairs if name.strip() == "registry"]
    return os.path.expandvars(values[-1]) if values else ""


def _hint(release: Release) -> str:
    return f"on a machine with network: npm pack {release.package}@{release.version}; then --runtime {release.tarball}"


def _fetch(address: str, release: Release) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=_SECONDS) as answer:
            contents = answer.read(_LARGEST + 1)
    except (OSError, HTTPException, ValueError) as error:
        reason = str(getattr(error, "reason", error))
        if isinstance(error, urllib.error.HTTPError):
            reason = f"HTTP {error.code}"
            error.close()  # it holds the connection
        got = f"no answer ({reason})"
        raise UsageError(f"export of a page: {_shown(address)}", f"{release.package} {release.version}", got, _hint(release)) from error
    return bytes(contents)


def _shown(address: str) -> str:
    """An address without a password in it; a path as it is."""
    scheme, mark, rest = address.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}" if mark else address


def _read(path: Path, release: Release) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise FileError(f"--runtime {path}", f"{release.tarball} or the unpacked package", reason, _hint(release)) from error


def _hash(contents: bytes) -> str:
    return base64.b64encode(hashlib.sha512(contents).digest()).decode("ascii")


def _from_tarball(contents: bytes, where: str, release: Release) -> dict[str, bytes]:
    """The named files of a tarball whose hash is right; no other name in it is looked at, and nothing is unpacked to disk."""
    expected = f"{release.tarball} with {release.integrity[:19]}..."
    if f"sha512-{_hash(contents)}" != release.integrity:
        got = f"{len(contents)} bytes with sha512-{_hash(contents)[:12]}..."
        raise FileError(_shown(where), expected, got, f"damaged, or another release; {_hint(release)}")
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(contents), mode="r:gz") as archive:
            for name, (inside, _) in release.files.items():
                member = archive.getmember(f"package/{inside}")
                stream = archive.extractfile(member) if member.isreg() and member.size <= _LARGEST else None
                if stream is None:
                    raise FileError(_shown(where), f"a plain file package/{inside}", "something else", _hint(release))
                found[name] = stream.read()
    except (tarfile.TarError, OSError, EOFError, KeyError) as error:
        raise FileError(_shown(where), expected, f"an archive that cannot be read ({error})", _hint(release)) from error
    return _checked(found, where, release)


def _from_folder(folder: Path, release: Release) -> dict[str, bytes]:
    found = {}
    for name, (inside, _) in release.files.items():
        places = [folder / inside, folder / "package" / inside, folder / "node_modules" / release.package / inside]
        there = next((p for p in places if p.is_file()), None)
        if there is None:
            expected = f"{release.package} {release.version} with its {inside}"
            raise FileError(f"--runtime {folder}", expected, "no such file in the folder", _hint(release))
        found[name] = _read(there, release)
    return _checked(found, f"--runtime {folder}", release)


def _checked(found: dict[str, bytes], where: str, release: Release) -> dict[str, bytes]:
    for name, (inside, wanted) in release.files.items():
        if _hash(found[name]) != wanted:
            expected = f"{inside} of {release.package} {release.version}"
            raise FileError(_shown(where), expected, "another release, or a damaged one", _hint(release))
    return found
