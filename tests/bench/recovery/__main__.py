"""Measures backups and restores: `python -m tests.bench.recovery --size 100MB filestore`.

Figures go to standard output, one line of JSON each; what is going on and the load of the machine to standard error.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time

from tests.bench.recovery import database, filestore
from tests.bench.recovery.scene import scene

UNITS = {"MB": 10**6, "GB": 10**9}
FILES_OF_A_GIGABYTE = 10_000
MEASURES = {"database": database.measure, "filestore": filestore.measure}


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="make bench-recovery", description="Measure backups and restores.")
    parser.add_argument("--size", type=_bytes, default=10**9, help="of the data, such as 100MB; 1GB unless said")
    parser.add_argument("--files", type=int, help="in the filestore; 10,000 for each GB unless said")
    parser.add_argument("parts", nargs="*", choices=[[], *MEASURES], help="what to measure; everything unless said")
    asked = parser.parse_args(words)
    files = asked.files or max(100, asked.size * FILES_OF_A_GIGABYTE // 10**9)
    with scene(size=asked.size, file_count=files) as made:
        for name in asked.parts or MEASURES:
            began = time.monotonic()
            for figure in MEASURES[name](made):
                figure.print()
            load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
            took = time.monotonic() - began
            print(f"{name} took {took:.0f} s; load {load} on {os.cpu_count()} cores", file=sys.stderr, flush=True)


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+) ?(MB|GB)", text)
    if found is None:
        raise argparse.ArgumentTypeError("a size is a number with MB or GB, such as 100MB")
    return int(found[1]) * UNITS[found[2]]


if __name__ == "__main__":
    main(sys.argv[1:])
