"""Runs the configured Kustomize program on a copy of a commit, bounded in time, memory and output."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from changecontrol.errors import Permanent
from deployments.rules.kustomization import check_kustomization

# Below a tick's 20 s, with time left for the rest of it.
SECONDS = 10
MAX_OUTPUT_BYTES = 8 * 1024 * 1024
MAX_SAID_BYTES = 64 * 1024
MAX_MEMORY_BYTES = 4 * 1024**3

# The shell sets the limits for the program alone: ulimit counts files in blocks of 512 bytes and memory in KiB.
_LIMITED = f'ulimit -f {MAX_OUTPUT_BYTES // 512 + 1} && ulimit -v {MAX_MEMORY_BYTES // 1024} && exec "$@"'


def build(files: Mapping[str, bytes], *, path: str, command: Sequence[str]) -> bytes:
    """Return what the program makes of the folder `path`. Raises `Permanent` with a sentence for the requester."""
    check_kustomization(files, path=path)
    with tempfile.TemporaryDirectory(prefix="changecontrol-kustomize-") as folder:
        root = Path(folder)
        _write(files, root / "tree")
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": folder,
            "TMPDIR": folder,
            # Nothing that the check let through by mistake is fetched.
            "GIT_ALLOW_PROTOCOL": "none",
            "HTTP_PROXY": "http://127.0.0.1:1",
            "HTTPS_PROXY": "http://127.0.0.1:1",
        }
        with (root / "out").open("w+b") as out, (root / "said").open("w+b") as said:
            process = subprocess.Popen(  # noqa: S603 - the program is named by the settings, its argument is our own
                ["/bin/sh", "-c", _LIMITED, "sh", *command, str(root / "tree" / path)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=said,
                cwd=root,
                env=environment,
                start_new_session=True,
            )
            try:
                code = process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                raise Permanent(f"Rendering {path} took longer than {SECONDS} s.") from None
            finally:
                _end(process)
            if os.fstat(out.fileno()).st_size > MAX_OUTPUT_BYTES:
                raise Permanent(f"Rendering {path} gave more than {MAX_OUTPUT_BYTES >> 20} MiB.")
            out.seek(0)
            said.seek(0)
            if code in (126, 127):
                raise Permanent(f"The program {command[0]} is not installed on this worker.")
            if code:
                lines = said.read(MAX_SAID_BYTES).decode(errors="replace").strip().replace(folder, "").splitlines()
                raise Permanent(f"Rendering {path} failed: {lines[-1][:300] if lines else 'no reason given'}")
            return out.read()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program with all it started; nothing of it may outlive the tick."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _write(files: Mapping[str, bytes], root: Path) -> None:
    for name, data in files.items():
        target = (root / name).resolve()
        if not target.is_relative_to(root.resolve()):
            raise Permanent(f"The path {name} leaves the tree.")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
