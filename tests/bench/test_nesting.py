"""The section about nests: octets are exact, and times are not looked at here."""

from __future__ import annotations

import pytest

from bench import nesting, octets
from mobility.mipv6.tunnel import TunnelForm
from mobility.nemo.nest import NESTING_LIMIT
from tests.mobility.nemo.rig import sent

EACH = {TunnelForm.PLAIN: 40, TunnelForm.ESP: 76, TunnelForm.ESP_MOBILE: 116}
"Octets of one level: header, and ESP with AES-GCM (padded to four octets)."


@pytest.mark.parametrize("form", TunnelForm)
def test_each_level_adds_its_header_and_nothing_else(form: TunnelForm) -> None:
    for depth in range(NESTING_LIMIT + 1):
        rig, terminal = nesting.nest(form, depth)
        down, up = nesting.packets(terminal)
        assert len(down) == len(up) == octets.PROGRAM
        (outer,) = sent(rig.arrives(down))
        assert abs(len(outer) - octets.PROGRAM - (depth + 1) * EACH[form]) <= 3
