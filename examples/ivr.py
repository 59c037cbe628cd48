"""Answer calls, play a menu, do what the keys say: 1 plays the news, 2 transfers to the office, # says goodbye.

python examples/ivr.py sounds/ sip:office@example.org               # with all accounts of softphone.toml
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from softphone import Call, CallError, Phones, Telephone


async def menu(call: Call, sounds: Path, office: str) -> None:
    """One caller."""
    try:
        await call.answer()
        await call.answered(timeout=10)
        while True:
            playing = call.play(sounds / "menu.wav")
            key = await call.gather(1, timeout=15)
            playing.stop()  # whoever knows the menu need not hear it to the end
            match key:
                case "1":
                    await call.play(sounds / "news.wav")
                case "2":
                    await call.transfer(office)
                    return
                case "#" | "":
                    await call.play(sounds / "goodbye.wav")
                    return
    except CallError:
        pass  # the caller hung up
    finally:
        await call.hangup()


async def serve(phone: Telephone, sounds: Path, office: str) -> None:
    """All callers of one account, side by side, until the phone is closed."""
    async with asyncio.TaskGroup() as callers:
        async for call in phone.incoming():
            callers.create_task(menu(call, sounds, office))


async def main(sounds: str, office: str) -> None:
    async with Phones.configured() as phones, asyncio.TaskGroup() as accounts:
        for phone in phones.running.values():
            accounts.create_task(serve(phone, Path(sounds), office))


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:3]))
    except KeyboardInterrupt:
        pass  # calls were ended politely on the way out
