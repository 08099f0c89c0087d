from __future__ import annotations

import os
import random
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.recovery.adapters.postgres.conftest import archiver, marks, server, source
from tests.recovery.proof.scene import Odoo, place_for_restores
from tests.seaweed import Seaweed, seaweed

__all__ = ["archiver", "marks", "server", "source"]

SEED = "PROOF_SEED"


@pytest.fixture
def chance() -> random.Random:
    """Return what decides all that is random in a test. A failure prints the seed with which it comes again."""
    seed = int(os.environ.get(SEED) or secrets.randbelow(2**32))
    print(f"To repeat this: {SEED}={seed}")
    return random.Random(seed)


@pytest.fixture(scope="session")
def real_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with seaweed(tmp_path_factory.mktemp("seaweed"), buckets=("backups",)) as running:
        yield running


@pytest.fixture
def runs() -> Iterator[Path]:
    with place_for_restores() as folder:
        yield folder


@pytest.fixture
def odoo(source, tmp_path: Path, chance: random.Random) -> Odoo:
    return Odoo(source, filestore=tmp_path / "filestore", chance=chance)
