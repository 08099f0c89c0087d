from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.recovery.adapters.odoo.scene import Made, made_of


@pytest.fixture
def made() -> Iterator[Made]:
    """Return a function that makes a database of the scripts given."""
    with ExitStack() as stack:
        yield lambda *scripts: stack.enter_context(made_of(*scripts))
