"""Rebuild `static/vendor` and `static/icons` from the npm packages named in PACKAGES.

Run with npm on the path: `python deploy/vendor_static.py`. Only files named here are copied; `manifest.json` then
says of each its package, version, licence and SHA-256, and a test recomputes the digests. Icons are the
`@tabler/icons` outlines that `static/icons` names: to add one, `touch static/icons/NAME.svg` and run this again.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "static" / "vendor"
ICONS = ROOT / "static" / "icons"
OWN_ICONS = frozenset({"mark.svg"})
# Manifest storage stops on a map that is not there, and no map is served.
SOURCE_MAP = re.compile(rb"\s*/[*/]# sourceMappingURL=[^\n]*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Package:
    """One npm package. `files` maps a path inside it to a path under `static/vendor`."""

    name: str
    version: str
    licence: str
    files: tuple[tuple[str, str], ...]


INTER = "package/files/inter-{0}-wght-normal.woff2"
PACKAGES = (
    Package(
        name="htmx.org",
        version="2.0.11",
        licence="0BSD",
        files=(("package/dist/htmx.min.js", "htmx.min.js"), ("package/LICENSE", "LICENSE.htmx")),
    ),
    Package(
        name="@tabler/core",
        version="1.6.1",
        licence="MIT",
        files=(("package/dist/css/tabler.min.css", "tabler.min.css"),),
    ),
    Package(
        name="@fontsource-variable/inter",
        version="5.3.0",
        licence="OFL-1.1",
        files=(
            (INTER.format("latin"), "inter/inter-latin-wght-normal.woff2"),
            (INTER.format("latin-ext"), "inter/inter-latin-ext-wght-normal.woff2"),
            ("package/LICENSE", "inter/LICENSE"),
        ),
    ),
)
ICON_PACKAGE = Package(
    name="@tabler/icons", version="3.51.0", licence="MIT", files=(("package/LICENSE", "LICENSE.tabler"),)
)


def unpack(package: Package, *, into: Path) -> Path:
    """Download one package with npm, unpack it, and return the folder."""
    command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
    subprocess.run(command, cwd=into, check=True)  # noqa: S603 - a constant of this file
    [archive] = into.glob("*.tgz")
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")
    return into


def entry(path: Path, package: Package) -> dict[str, str]:
    """Describe one copied file as the manifest does."""
    return {
        "file": path.relative_to(ROOT / "static").as_posix(),
        "package": package.name,
        "version": package.version,
        "licence": package.licence,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def copy(package: Package) -> list[dict[str, str]]:
    """Copy the named files of one package, source map lines removed; return their manifest entries."""
    entries = []
    with tempfile.TemporaryDirectory() as folder:
        source = unpack(package, into=Path(folder))
        for inside, name in package.files:
            target = VENDOR / name
            target.parent.mkdir(parents=True, exist_ok=True)
            content = (source / inside).read_bytes()
            target.write_bytes(SOURCE_MAP.sub(b"", content) if target.suffix in {".css", ".js"} else content)
            entries.append(entry(target, package))
        if package is ICON_PACKAGE:
            for icon in sorted(ICONS.glob("*.svg")):
                if icon.name not in OWN_ICONS:
                    icon.write_bytes((source / "package/icons/outline" / icon.name).read_bytes())
                    entries.append(entry(icon, package))
    return entries


def main() -> None:
    entries = [item for package in (*PACKAGES, ICON_PACKAGE) for item in copy(package)]
    manifest = VENDOR / "manifest.json"
    manifest.write_text(json.dumps(sorted(entries, key=lambda item: item["file"]), indent=2) + "\n")
    sys.stdout.write(f"{len(entries)} files, {manifest.relative_to(ROOT)} written.\n")


if __name__ == "__main__":
    main()
