from __future__ import annotations

from pathlib import Path

import pytest

from tests.recovery.adapters.filestore.scene import Filestore, Scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(Filestore(tmp_path / "filestore"))
