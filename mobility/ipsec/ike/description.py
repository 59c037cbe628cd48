"""What is told of one IKE SA to people."""

from __future__ import annotations

from mobility.ipsec.ike.ike_sa import IkeSa


def _left(when: float | None, now: float) -> float | None:
    return None if when is None else round(max(when - now, 0.0), 1)


def described(sa: IkeSa, now: float) -> dict[str, object]:
    """JSON-ready, without keys; seconds count from ``now``."""
    return {
        "peer": sa.peer_name,
        "ike": sa.name,
        "state": sa.state.name.lower().replace("_", "-"),
        "role": "initiator" if sa.initiator else "responder",
        "local": str(sa.local),
        "remote": str(sa.remote),
        "suite": None if sa.suite is None else sa.suite.describe(),
        "heard_ago": round(max(now - sa.heard, 0.0), 1),
        "rekey_in": _left(sa.rekey_at, now),
        "expires_in": _left(sa.expires_at, now),
        "nat": [name for name, there in (("here", sa.nat_here), ("there", sa.nat_there)) if there],
        "children": [
            {
                "name": child.sa.name,
                "inbound_spi": f"{child.sa.inbound_spi:#010x}",
                "outbound_spi": f"{child.sa.outbound_spi:#010x}",
                "algorithm": child.sa.algorithm.value,
                "mode": child.sa.mode.value,
                "state": child.state.name.lower(),
                "sending": child.sending,
                "rekey_in": _left(child.rekey_at, now),
                "expires_in": _left(child.expires_at, now),
            }
            for child in sa.children.values()
        ],
    }
