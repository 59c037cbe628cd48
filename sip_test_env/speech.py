"""Speech to talk with: sentences spoken by espeak-ng, as long as asked."""

from __future__ import annotations

import subprocess
import tempfile
import wave
from pathlib import Path

TEXTS = {
    "en-gb": (
        "Good morning, this is the harbour office. The ferry to the islands leaves "
        "at a quarter past nine from pier four. "
        "Please bring a warm coat, for the wind has turned to the north. Breakfast is served on the upper deck. "
        "The captain expects a calm crossing and good views of the lighthouse. "
        "Luggage stays with you until the gate opens. "
        "If you travel with a bicycle, board early and use the wide ramp. Dogs are welcome on a short lead. "
    ),
    "en-us+f3": (
        "Thank you for calling back so soon. We moved the meeting to the small room beside the library. "
        "Seven people have promised to come, and two more may join by telephone. "
        "Could you print the plan of the garden? "
        "The old apple tree will stay, but the fence must go before the first snow. "
        "Tea and biscuits are on me this time. "
        "Let us begin with the money and leave the flowers for the end. I will see you on Thursday afternoon. "
    ),
}
"Voice of espeak-ng -> what it says. About half a minute each; repeated for longer speech."


def speak(voice: str, seconds: float, path: Path) -> Path:
    """Write ``seconds`` of mono speech in ``voice`` (a key of `TEXTS`) to the WAV file ``path``.

    Raises:
        FileNotFoundError: espeak-ng is not installed (``make setup`` installs it).
        subprocess.CalledProcessError: espeak-ng failed.
    """
    frames = b""
    rate = 0
    with tempfile.TemporaryDirectory() as folder:
        once = Path(folder) / "once.wav"
        subprocess.run(
            ["espeak-ng", "-v", voice, "-s", "150", "-w", str(once), TEXTS[voice]],
            check=True,
            capture_output=True,
        )
        with wave.open(str(once), "rb") as file:
            rate = file.getframerate()
            spoken = file.readframes(file.getnframes())
    wanted = int(seconds * rate) * 2
    while len(frames) < wanted:
        frames += spoken
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(frames[:wanted])
    return path
