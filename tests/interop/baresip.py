"""Debian's baresip as a program that makes a call: SRTP, a tone instead of a microphone."""

from __future__ import annotations

from pathlib import Path

from sip_test_env.network import Account


def write_baresip(folder: Path, account: Account, more: str = "") -> Path:
    """Its directory of settings; ``more``: parameters of the account, each with a semicolon in front."""
    settings = folder / "baresip"
    settings.mkdir()
    modules = "".join(f"module {name}.so\n" for name in ("g711", "srtp", "ausine", "aufile"))
    (settings / "config").write_text(
        f"module_path /usr/lib/baresip/modules\n{modules}module_app account.so\nmodule_app menu.so\n"
        "audio_source ausine,440\naudio_player aufile,/dev/null\nausrc_srate 48000\nauplay_srate 8000\n"
        "ausrc_channels 2\nauplay_channels 1\n"
    )
    (settings / "accounts").write_text(
        f"<sip:{account.user}@{account.domain};transport=udp>;auth_user={account.user};auth_pass={account.password}"
        f";mediaenc=srtp-mand;audio_codecs=PCMU/8000/1;regint=300{more}\n"
    )
    (settings / "contacts").touch()
    return settings
