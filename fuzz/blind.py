"""`python -m fuzz.blind TARGET SECONDS FOUND CRASHES CORPUS`: run one target on random changes of examples.

Used where atheris is not installed. It finds less, since it does not know what code an input reaches.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
import traceback
from pathlib import Path

from fuzz.targets import MOST_BYTES, TARGETS

_CHANGES = 8


def main() -> None:
    target, seconds, _, crashes, corpus = sys.argv[1:]
    examples = [path.read_bytes() for path in Path(corpus).glob("*")] or [b""]
    chance, end, runs = random.Random(), time.monotonic() + float(seconds), 0
    while time.monotonic() < end:
        data = _changed(chance, examples)
        runs += 1
        try:
            TARGETS[target](data)
        except Exception:
            traceback.print_exc()
            (Path(crashes) / f"crash-{hashlib.sha1(data).hexdigest()}").write_bytes(data)
            sys.exit(1)
    print(f"stat::number_of_executed_units: {runs}")  # the line that libFuzzer prints


def _changed(chance: random.Random, examples: list[bytes]) -> bytes:
    data = bytearray(chance.choice(examples))
    for _ in range(chance.randrange(1, _CHANGES)):
        at, to = sorted(chance.randrange(len(data) + 1) for _ in range(2))
        match chance.randrange(5):
            case 0:
                data[at:to] = b""
            case 1:
                data[at:at] = chance.randbytes(chance.randrange(1, 9))
            case 2:
                data[at:at] = data[at:to]
            case 3:
                other = chance.choice(examples)
                data[at:] = other[chance.randrange(len(other) + 1) :]
            case 4 if at < len(data):
                data[at] = chance.randrange(256)
    return bytes(data[:MOST_BYTES])


if __name__ == "__main__":
    main()
