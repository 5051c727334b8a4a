"""`python -m fuzz.guided TARGET SECONDS FOUND CRASHES CORPUS`: fuzz one target with coverage feedback.

It needs a process of its own, since libFuzzer (which atheris uses) ends the process. Inputs that reach
new code go into FOUND. One that raises goes into CRASHES, and the exit status is not 0.
"""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports(include=["toxproxy"]):
    from fuzz.targets import MOST_BYTES, TARGETS


def main() -> None:
    target, seconds, found, crashes, corpus = sys.argv[1:]
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={MOST_BYTES}",
        f"-artifact_prefix={crashes}/",
        "-timeout=30",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, found, corpus], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
