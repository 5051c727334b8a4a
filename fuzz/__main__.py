"""`python -m fuzz [TARGET…]`: search for inputs that break something, and print how to repeat it."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from fuzz import corpus, memory
from fuzz.targets import TARGETS

_COMPLAINTS = 5  # how many of valgrind's complaints are shown
_SHOWN = 60  # how many of the last lines of output are shown when a target breaks
_RUNS = re.compile(r"stat::number_of_executed_units: +([0-9]+)")  # the line that libFuzzer prints


def main() -> None:
    """The exit status is 1 if an input broke something, 2 for a wrong command line."""
    options = _options()
    if options.examples:
        corpus.write_examples()
    elif options.replay is not None:
        TARGETS[options.targets[0]](options.replay.read_bytes())
        print("Nothing broke.")
    elif options.valgrind:
        sys.exit(_valgrind(options.targets, options.seconds))
    else:
        engine = "guided" if find_spec("atheris") else "blind"
        if engine == "blind":
            print("atheris is not installed (pip install atheris): trying random changes without coverage.")
        good = [_fuzz(engine, target, options.seconds, options.keep) for target in options.targets]
        sys.exit(0 if all(good) else 1)


def _options() -> argparse.Namespace:
    documented = "\n".join(f"  {name:<10}{_promise(name)}" for name in TARGETS)
    parser = argparse.ArgumentParser(
        prog="python -m fuzz",
        description="Try hostile input on every parser.",
        epilog=f"targets, and what each checks:\n{documented}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all of them")
    parser.add_argument("--seconds", type=int, default=60, metavar="N", help="for each target (default: 60)")
    parser.add_argument("--keep", action="store_true", help="add inputs that reach new code to the corpus")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one target on one input")
    parser.add_argument(
        "--valgrind", action="store_true", help="check ENet's use of memory (default target: enet)"
    )
    parser.add_argument("--examples", action="store_true", help="write the examples of the corpus again")
    options = parser.parse_args()
    if unknown := [name for name in options.targets if name not in TARGETS]:
        parser.error(f"expected targets of {', '.join(TARGETS)}, found {', '.join(unknown)}")
    if options.replay is not None and len(options.targets) != 1:
        parser.error("expected exactly one target with --replay")
    options.targets = options.targets or (["enet"] if options.valgrind else list(TARGETS))
    return options


def _promise(target: str) -> str:
    return (TARGETS[target].__doc__ or "").partition("\n")[0]


def _runs(said: str) -> str:
    runs = _RUNS.search(said)
    return f" in {int(runs[1]):,} runs" if runs is not None else ""


def _fuzz(engine: str, target: str, seconds: int, keep: bool) -> bool:
    """Fuzz one target. True if nothing broke."""
    examples = corpus.FOLDER / target
    crashes = Path(tempfile.mkdtemp(prefix=f"toxproxy-fuzz-{target}-"))
    with tempfile.TemporaryDirectory() as found:
        arguments = [target, str(seconds), found, str(crashes), str(examples)]
        done = subprocess.run(
            [sys.executable, "-m", f"fuzz.{engine}", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        kept = f", {corpus.keep(target, Path(found))} inputs kept" if keep else ""
    if done.returncode == 0:
        crashes.rmdir()
        print(f"{target:<10}nothing broke{_runs(done.stdout)}{kept}", flush=True)
        return True
    print("\n".join(done.stdout.splitlines()[-_SHOWN:]))
    print(f"{target:<10}BROKE{kept}")
    for path in crashes.iterdir():
        print(f"  repeat it: python -m fuzz {target} --replay {path}", flush=True)
    return False


def _valgrind(targets: list[str], seconds: int) -> int:
    """Run targets under valgrind. Returns 1 if ENet misused memory, 2 if valgrind is not installed."""
    if memory.VALGRIND is None:
        print("valgrind is not installed (on Debian: apt install valgrind), so nothing was checked.")
        return 2
    bad = 0
    for target in targets:
        try:
            said, found = memory.complaints(target, seconds, corpus.FOLDER / target)
        except subprocess.CalledProcessError as error:
            print("\n".join(error.output.splitlines()[-_SHOWN:]))
            print(f"{target:<10}BROKE", flush=True)
            bad = 1
            continue
        for complaint in found[:_COMPLAINTS]:
            print(complaint, end="\n\n")
        verdict = f"{len(found) or 'no'} complaints about ENet's use of memory"
        print(f"{target:<10}{verdict}{_runs(said)}", flush=True)
        bad |= bool(found)
    return bad


if __name__ == "__main__":
    main()
