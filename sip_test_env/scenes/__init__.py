"""The scenes of the demo, by the name that ``--network`` gives."""

from __future__ import annotations

from sip_test_env.plan import BASIC
from sip_test_env.scenes.gateway import GatewayScene
from sip_test_env.scenes.hmip import HmipScene
from sip_test_env.scenes.laptop import LaptopScene
from sip_test_env.scenes.nemo import NemoScene
from sip_test_env.scenes.scene import Scene as Scene
from sip_test_env.scenes.scene import Settings as Settings

SCENES: dict[str, type[Scene]] = {kind.extension.name: kind for kind in (Scene, HmipScene, NemoScene, GatewayScene)}


def scene(settings: Settings) -> Scene:
    """The one that is meant. Raises ValueError: the settings do not go together."""
    if not settings.unprivileged:
        return SCENES[settings.network](settings)
    if settings.network != BASIC.name:
        raise ValueError(f"--unprivileged goes with --network {BASIC.name} only")
    return LaptopScene(settings)
