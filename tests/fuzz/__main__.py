"""Runs a target, or all of them one after the other, under atheris: ``python -m tests.fuzz TARGET SECONDS``.

What libFuzzer finds interesting stays in ``.fuzz/TARGET``, so that the next run goes on where this one ended; an input
that fails is left in ``.fuzz`` and belongs, made small, into ``tests/fuzz/corpus/TARGET`` under the name of its defect.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
WORK = Path(".fuzz")
LIMITS = ("-timeout=10", "-rss_limit_mb=1500", "-max_len=4096", "-len_control=10", "-print_final_stats=1")


def main(arguments: list[str]) -> int:
    """Without a target each runs in a process of its own; the exit status says whether one failed."""
    target, seconds = (arguments + ["all", "60"][len(arguments) :])[:2]
    if target == "all":
        from tests.fuzz.targets import TARGETS

        failed = [
            name
            for name in TARGETS
            if subprocess.run([sys.executable, "-m", "tests.fuzz", name, seconds], check=False).returncode
        ]
        sys.stdout.write(f"failed: {', '.join(failed)}\n" if failed else "no target failed\n")
        return 1 if failed else 0
    _run(target, seconds)
    return 0


def _run(target: str, seconds: str) -> None:
    import atheris

    phone = target.startswith(("sip", "sdp", "media"))
    with atheris.instrument_imports(include=["softphone.sip", "softphone.media"] if phone else ["mobility"]):
        from tests.fuzz import nodes
        from tests.fuzz.targets import TARGETS
        from tests.softphone.media import fuzzing as media
        from tests.softphone.sip import fuzzing
    if target not in TARGETS:
        raise SystemExit(f"there is no target {target!r}; there are {', '.join(TARGETS)}")
    work = WORK / target
    work.mkdir(parents=True, exist_ok=True)
    begin = nodes.seeds() if target in nodes.TARGETS else media.seeds() if target in media.TARGETS else None
    for number, seed in enumerate(fuzzing.seeds(target) if begin is None else begin):
        (work / f"seed-{number}").write_bytes(seed)
    kept = [str(CORPUS / target)] if (CORPUS / target).is_dir() else []
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={WORK}/{target}-", *LIMITS]
    atheris.Setup([sys.argv[0], str(work), *kept, *options], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
