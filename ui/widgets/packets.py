"""Packets as text: one line each, all layers of one, all stages of one."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator

from textual.content import Content

from mobility.dissection import Layer, Stage
from ui.packet_book import Followed
from ui.widgets.line_list import LineList

FAINT = "$foreground 50%"
STYLES = {
    "ipv6": "$foreground 80%", "ipv4": "$warning", "option": "$secondary", "ah": "$success",
    "mobility": "bold $warning",
    "icmp": "$secondary", "udp": "$foreground 60%", "tcp": "$foreground 60%", "rtp": "bold $primary",
    "rtcp": "$primary", "sip": "bold $warning", "data": "$foreground 60%",
}  # fmt: skip
MEANING = {
    "host": "between programs and the terminal", "translation": "translated for programs that speak IPv4",
    "application": "after the application's IPsec", "tunnel": "after the mobile tunnel",
    "regional": "after the MAP's tunnel",
    "signalling": "after the IPsec of signalling", "node": "made by the terminal", "wire": "on the link",
    "discarded": "dropped",
}  # fmt: skip
HEX_COLUMNS = 16


def style_of(layers: tuple[Layer, ...], at: int) -> str:
    """The two layers of IPsec have colours of their own: what has another header inside is the tunnel's."""
    layer = layers[at]
    if layer.kind != "esp":
        return STYLES.get(layer.kind, "")
    inside = layers[at + 1].ends is not None if at + 1 < len(layers) else at == 1 and len(layers) == 2
    return "bold $accent" if inside else "bold $success"


def row(packet: Followed, width: int) -> Content:
    """When, which way, where, all layers, and what the innermost says."""
    layers = packet.layers
    moment = f"{time.strftime('%H:%M:%S', time.localtime(packet.time))}.{int(packet.time * 1000) % 1000:03d}"
    parts = [
        Content.styled(f" {moment[3:] if width < 100 else moment} ", FAINT),
        Content.styled("→ " if packet.outbound else "← ", "$success" if packet.outbound else "$secondary"),
        Content.styled(f"{packet.where[:11]:<{11 if width >= 100 else 6}}", FAINT),
    ]
    if width >= 90:
        parts.append(Content.styled(f"{packet.length:>5} ", FAINT))
    for at, layer in enumerate(layers):
        parts.append(Content.styled(" " + _short(layer), style_of(layers, at)))
    if (discarded := packet.discarded) is not None:
        parts.append(Content.styled(f"  ✖ {discarded.reason} {discarded.detail}", "bold $error"))
    elif layers:
        parts.append(Content.styled(f"  {layers[-1].summary}", "$foreground 80%"))
    return Content("").join(parts)


def _short(layer: Layer) -> str:
    return {"option": "Opt", "mobility": layer.name if len(layer.name) < 9 else "MH"}.get(layer.kind, layer.name)


def tree(packet: Followed) -> Iterator[Content]:
    """All layers, each inside of the one before."""
    layers = packet.layers
    for at, layer in enumerate(layers):
        words = f"{'  ' * at}{layer.name} "
        note = ""
        if layer.kind == "esp":
            note = "  mobile tunnel" if "accent" in style_of(layers, at) else "  application IPsec"
            if packet.stages and any(stage.stage == "signalling" for stage in packet.stages):
                note = "  signalling"
        yield Content.assemble((words, style_of(layers, at)), layer.summary, (note, FAINT))
    if (discarded := packet.discarded) is not None:
        yield Content.styled(f"✖ discarded in {discarded.where}: {discarded.reason}. {discarded.detail}", "bold $error")


def journey(packet: Followed) -> Content:
    """The stages in one line, with the time that each took."""
    parts: list[Content] = []
    before: Stage | None = None
    for stage in packet.stages:
        took = "" if before is None else f" +{(stage.time - before.time) * 1e6:.0f} µs "
        arrow = "" if before is None else "→ "
        name = stage.where if stage.stage == "wire" else stage.stage
        parts.append(Content.assemble((f"{took}{arrow}", FAINT), (name, "bold"), (f" {stage.length or ''}", FAINT)))
        before = stage
    return Content("").join(parts)


def whole(packet: Followed, width: int) -> Iterator[Content]:
    """Every stage with its layers, their fields, and the octets; as text, too, where ``width`` has room for it."""
    begin = packet.time
    for stage in packet.stages:
        name = f"{stage.stage} {stage.where}" if stage.stage == "wire" else stage.stage
        style = "bold $background on $error" if stage.stage == "discarded" else "bold $background on $primary"
        yield Content.assemble(
            (f" {name} ", style), (f"  {MEANING.get(stage.stage, '')}  ", "$foreground 70%"),
            (f"{stage.length} octets  " if stage.length else "", FAINT),
            (f"+{(stage.time - begin) * 1e6:.0f} µs", FAINT),
        )  # fmt: skip
        if stage.reason:
            yield Content.styled(f"  {stage.reason} in {stage.where}: {stage.detail}", "$error")
        layers = packet.layers_of(stage)
        for at, layer in enumerate(layers):
            pairs = "  ".join(f"{key} {value}" for key, value in layer.fields) or layer.summary
            yield Content.assemble((f"  {layer.name:<10} ", style_of(layers, at)), (pairs, "$foreground 80%"))
        yield from _octets(stage, readable=width >= 78)
        yield Content("")


def _octets(stage: Stage, *, readable: bool) -> Iterator[Content]:
    for at in range(0, len(stage.octets), HEX_COLUMNS):
        part = stage.octets[at : at + HEX_COLUMNS]
        text = "".join(chr(octet) if 32 <= octet < 127 else "·" for octet in part) if readable else ""
        yield Content.assemble(
            (f"{at:04x} ", FAINT), (f"{part.hex(' '):<{HEX_COLUMNS * 3}} ", "$foreground 70%"), (text, FAINT)
        )
    if stage.length > len(stage.octets) > 0:
        yield Content.styled(f"        … {stage.length - len(stage.octets)} more", FAINT)


class PacketList(LineList):
    """One line for each packet that is shown."""

    nothing = "no packets yet: something has to be sent or received through the mobility process"

    def __init__(self, shown: list[Followed]) -> None:
        super().__init__(id="packets", title="Packets")
        self.shown = shown

    def line(self, index: int, width: int) -> Content:
        return row(self.shown[index], width)

    def name_of(self, index: int) -> Hashable | None:
        return self.shown[index].name

    @property
    def chosen(self) -> Followed | None:
        return self.shown[self.cursor] if self.cursor < len(self.shown) else None
