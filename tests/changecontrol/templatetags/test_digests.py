from __future__ import annotations

import pytest

from changecontrol.templatetags.digests import brief_digest, short_digest

HEX = "7f3ac91e" + "0" * 52 + "b204"


@pytest.mark.parametrize(
    ("value", "short", "brief"),
    [
        (HEX, "7f3ac91e…b204", "7f3ac91e"),
        (f"sha256:{HEX}", "sha256:7f3ac91e…b204", "7f3ac91e"),
        (f"registry.example/odoo@sha256:{HEX}", "registry.example/odoo@sha256:7f3ac91e…b204", "7f3ac91e"),
        ("e07b518a41c9d2f03a6650cb1f1f1a7d9be177a0", "e07b518", "e07b518"),
        ("7f3ac91e", "7f3ac91e", "7f3ac91e"),
        ("", "", ""),
        (None, "", ""),
    ],
)
def test_digests_shorten_but_keep_their_prefix(value, short, brief) -> None:
    assert short_digest(value) == short
    assert brief_digest(value) == brief
