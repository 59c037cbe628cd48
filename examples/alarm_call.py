"""Call somebody, play an alarm until a key acknowledges it, and say by the exit status whether that happened.

python examples/alarm_call.py sip:6002@example.org alarm.wav        # with the default account of softphone.toml
"""

from __future__ import annotations

import asyncio
import sys

from softphone import CallError, Phones, Telephone


async def alarm(phone: Telephone, target: str, sound: str, *, times: int = 3) -> bool:
    """Whether somebody answered and pressed 1."""
    call = await phone.dial(target)
    try:
        await call.answered(timeout=45)
        for _ in range(times):
            await call.play(sound)
            if await call.gather(1, timeout=5) == "1":
                return True
        return False
    except (CallError, TimeoutError) as exc:
        print(f"nobody took the alarm: {exc or 'no answer'}", file=sys.stderr)  # noqa: T201
        return False
    finally:
        await call.hangup()


async def main(target: str, sound: str) -> int:
    async with Phones.configured() as phones:
        return 0 if await alarm(phones.choose(target), target, sound) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:3])))
