"""What the process of PJSUA2 and ours have to agree on about sound."""

from __future__ import annotations

import struct

RATE = 16_000
"Samples a second: what the best codec of the engine has."
MILLISECONDS = 20
FRAME = RATE * MILLISECONDS // 1000
HEADER = struct.Struct("=h")
"The number of the call, before the samples."
MOST_CALLS = 4
"The wheel is compiled for so many."
