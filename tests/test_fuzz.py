"""Hostile input: the kept inputs, and some new ones. `python -m fuzz` searches for more."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import corpus, memory, scene
from fuzz.budget import Budget
from fuzz.targets import MOST_BYTES, TARGETS
from toxproxy.recovery.ranges import Ranges

ROOT = Path(__file__).parents[1]
KEPT = [
    pytest.param(target, path, id=f"{target}-{path.name}")
    for target in TARGETS
    for path in corpus.inputs(target)
]


@pytest.mark.parametrize(("target", "path"), KEPT)
def test_a_kept_input(target: str, path: Path) -> None:
    TARGETS[target](path.read_bytes())


@st.composite
def changed(draw: st.DrawFn, inputs: list[bytes]) -> bytes:
    """One of the inputs with a piece replaced by random bytes."""
    data = draw(st.sampled_from(inputs))
    at = draw(st.integers(0, len(data)))
    to = draw(st.integers(at, min(len(data), at + 8)))
    return data[:at] + draw(st.binary(max_size=8)) + data[to:]


@pytest.mark.parametrize("target", TARGETS)
def test_new_inputs(target: str) -> None:
    inputs = [path.read_bytes() for path in corpus.inputs(target)]

    @settings(max_examples=300, suppress_health_check=list(HealthCheck))
    @given(changed(inputs) | st.binary(max_size=300))
    def holds(data: bytes) -> None:
        TARGETS[target](data)

    holds()


def test_the_corpus_has_something_for_every_target_and_stays_small() -> None:
    assert {folder.name for folder in corpus.FOLDER.iterdir()} == set(TARGETS)
    sizes = [path.stat().st_size for target in TARGETS for path in corpus.inputs(target)]
    assert max(sizes) <= MOST_BYTES
    assert sum(sizes) <= 200_000
    assert all(corpus.inputs(target) for target in TARGETS)


# The tools


def test_replay_tries_one_input_from_its_file() -> None:
    path = corpus.inputs("frame")[0]
    command = [sys.executable, "-m", "fuzz", "frame", "--replay", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "Nothing broke.\n")


def test_an_unknown_target_is_an_error() -> None:
    command = [sys.executable, "-m", "fuzz", "no-such"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "expected targets of frame, " in done.stderr
    assert "found no-such" in done.stderr


def test_missing_valgrind_is_an_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", "--valgrind"],
        cwd=ROOT,
        env={**os.environ, "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "valgrind is not installed" in done.stdout


VALGRIND = """\
==7== Memcheck, a memory error detector
==7==
==7== Use of uninitialised value of size 8
==7==    at 0x49E04DA: maybe_small_long (longobject.c:71)
==7==    by 0x49E075F: int_from_bytes_impl (longobject.c:5946)
==7==
==7== Conditional jump or move depends on uninitialised value(s)
==7==    at 0x4AE2045: _Py_HashBytes (pyhash.c:200)
==7==  Uninitialised value was created by a heap allocation
==7==    at 0x484582F: malloc (vg_replace_malloc.c:381)
==7==    by 0x71703C7: enet_packet_create (packet.c:33)
==7==
==7== Invalid read of size 1
==7==    at 0x71703C7: ??? (in /usr/lib/python3/enet.cpython-311-x86_64-linux-gnu.so)
==7==
==7== Use of uninitialised value of size 8
==7==    at 0x4B0C750: visit_decref (gcmodule.c:452)
==7==    by 0x4A0B19F: tupletraverse (tupleobject.c:623)
==7==    by 0x4B0D385: subtract_refs (gcmodule.c:478)
==7==    by 0x4B0D385: gc_collect_main (gcmodule.c:1226)
==7==    by 0x4B0EBF2: _PyObject_GC_Link (gcmodule.c:2270)
==7==    by 0x7FA2B26: __pyx_pf_4enet_4Host___init__ (in /usr/lib/python3/enet.cpython-311.so)
==7==  Uninitialised value was created by a heap allocation
==7==    at 0x48417B4: malloc (vg_replace_malloc.c:381)
==7==    by 0x49D80C0: _PyLong_New (longobject.c:161)
==7==
==7== HEAP SUMMARY:
==7==     in use at exit: 282,227 bytes in 2,134 blocks
"""


def test_only_valgrinds_complaints_about_enet_count() -> None:
    first, second = memory.about_enet(VALGRIND)
    assert first.startswith("Conditional jump")
    assert second.startswith("Invalid read")


@pytest.mark.usefixtures("untraced")
def test_work_without_end_is_noticed_where_no_other_tracer_counts() -> None:
    budget = Budget("recovery")
    budget.grant(20)
    came = Ranges()
    for number in range(0, 100, 2):
        came.add(number, number + 1)
    with budget.spending():
        came.add(200, 201)
    with pytest.raises(AssertionError, match="20 were granted"), budget.spending():
        came.add(0, 200)
    assert sys.gettrace() is None


def test_virtual_time_passes_at_once() -> None:
    times: list[float] = []

    async def wait() -> None:
        loop = asyncio.get_running_loop()
        for seconds in (3600.0, 0.001):
            times.append(loop.time())
            await asyncio.sleep(seconds)
        times.append(loop.time())

    scene.run(wait(), virtual=True)
    assert 3600 <= times[1] - times[0] < 3600.01
    assert 0.001 <= times[2] - times[1] < 0.01


async def leave_a_task() -> None:
    globals()["left"] = asyncio.create_task(asyncio.sleep(60))


async def log_an_error() -> None:
    logging.getLogger("toxproxy.tunnel.session").error("nobody knows what to do")


async def fail_in_a_callback() -> None:
    asyncio.get_running_loop().call_soon(lambda: 1 // 0)
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("act", "match"),
    [
        (leave_a_task, "left behind"),
        (log_an_error, "nobody knows what to do"),
        (fail_in_a_callback, "ZeroDivisionError"),
    ],
)
def test_an_error_that_an_event_loop_would_hide_is_raised(act: object, match: str) -> None:
    with pytest.raises(AssertionError, match=match):
        scene.run(act())  # type: ignore[operator]
