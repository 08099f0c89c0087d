"""Reads and builds Git trees: the files below a path within limits, and a tree with one path taken from another."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import pygit2
from pygit2.enums import FileMode

from changecontrol.errors import Permanent

MAX_FILES = 5_000
MAX_BYTES = 20 * 1024 * 1024
MAX_DEPTH = 50
EMPTY_TREE = pygit2.Oid(hex="4b825dc642cb6eb9a060e54bf8d69288fbee4904")

Entry = tuple[pygit2.Oid, FileMode]


def read_files(repository: pygit2.Repository, tree: pygit2.Tree, *, parts: tuple[str, ...]) -> dict[str, bytes]:
    """Return the files below the path, by their path relative to it. Raises `Permanent` past a limit.

    A symbolic link counts as the file it points to, if that is below the path too; any other is refused.
    """
    where = "/".join(parts) or "the root"
    found = find_entry(tree, parts)
    if found is None:
        raise Permanent(f"This commit has no {where}.")
    if isinstance(found, pygit2.Blob):
        entries: Iterator[tuple[str, pygit2.Oid, int]] = iter([(parts[-1], found.id, FileMode.BLOB)])
    elif isinstance(found, pygit2.Tree):
        entries = _walk(found)
    else:
        raise Permanent(f"{where} is a submodule, which is not followed.")

    files: dict[str, bytes] = {}
    links: dict[str, str] = {}
    total = 0
    for path, oid, mode in entries:
        if mode == FileMode.COMMIT:
            raise Permanent(f"{path} is a submodule, which is not followed. Copy its files in.")
        total += repository.odb.read_header(oid)[1]
        if len(files) + len(links) >= MAX_FILES or total > MAX_BYTES:
            raise Permanent(f"There is more than {MAX_FILES:,} files or {MAX_BYTES // 2**20} MiB below {where}.")
        content = repository.odb.read(oid)[1]
        if mode == FileMode.LINK:
            links[path] = content.decode("utf-8", "surrogateescape")
        else:
            files[path] = content
    return files | {path: _follow(path, target, files) for path, target in links.items()}


def find_entry(tree: pygit2.Tree, parts: tuple[str, ...]) -> pygit2.Object | None:
    """Return what the path names in the tree, or None."""
    if not parts:
        return tree
    try:
        return tree["/".join(parts)]
    except KeyError:
        return None


def with_path_of(
    repository: pygit2.Repository, base: pygit2.Oid, source: pygit2.Oid, *, parts: tuple[str, ...]
) -> pygit2.Oid:
    """Write and return the tree of `base` with the path as it is in `source`; absent there, it is taken away."""
    if not parts:
        return source
    # A builder takes trees of its own repository object only, so both are looked up here.
    found = find_entry(repository[source].peel(pygit2.Tree), parts)
    entry = (found.id, FileMode(found.filemode)) if found is not None else None
    return _replace(repository, repository[base].peel(pygit2.Tree), parts, entry)


def _replace(
    repository: pygit2.Repository, tree: pygit2.Tree | None, parts: tuple[str, ...], entry: Entry | None
) -> pygit2.Oid:
    builder = repository.TreeBuilder(tree) if tree is not None else repository.TreeBuilder()
    name, rest = parts[0], parts[1:]
    if rest:
        below = tree[name] if tree is not None and name in tree else None
        child = _replace(repository, below if isinstance(below, pygit2.Tree) else None, rest, entry)
        # Git keeps no empty folder.
        entry = (child, FileMode.TREE) if child != EMPTY_TREE else None
    if entry is not None:
        builder.insert(name, *entry)
    elif builder.get(name) is not None:
        builder.remove(name)
    return builder.write()


def _walk(tree: pygit2.Tree, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, pygit2.Oid, int]]:
    if depth > MAX_DEPTH:
        raise Permanent(f"The folders below {prefix} are nested too deeply.")
    for entry in tree:
        path = f"{prefix}{entry.name}"
        if isinstance(entry, pygit2.Tree):
            yield from _walk(entry, f"{path}/", depth + 1)
        else:
            yield path, entry.id, entry.filemode


def _follow(path: str, target: str, files: dict[str, bytes]) -> bytes:
    inside = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if target.startswith("/") or inside not in files:
        raise Permanent(f"{path} is a symbolic link to something that is no file below the environment's path.")
    return files[inside]
