from __future__ import annotations

import io
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from recovery.adapters.filestore import tar


@given(st.lists(st.tuples(st.from_regex(r"[0-9a-f]{2}/[0-9a-f]{40}", fullmatch=True), st.binary(max_size=2000))))
def test_archive_is_one_that_tarfile_reads(files: list[tuple[str, bytes]]) -> None:
    archive = b"".join(
        tar.header(name, size=len(content)) + content + tar.padding(len(content)) for name, content in files
    )

    with tarfile.open(fileobj=io.BytesIO(archive + tar.END), mode="r:") as opened:
        members = opened.getmembers()
        read = [(member.name, opened.extractfile(member).read()) for member in members]  # type: ignore[union-attr]

    assert read == files
    assert {(member.mode, member.type) for member in members} <= {(0o644, tarfile.REGTYPE)}


@given(st.integers(min_value=0, max_value=2**60))
def test_header_says_any_size(size: int) -> None:
    head = tarfile.TarInfo.frombuf(tar.header("ab/" + "ab" * 20, size=size), "utf-8", "strict")

    assert head.size == size
