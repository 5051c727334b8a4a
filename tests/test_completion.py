"""Completion in real shells, by the script that `toxproxy completion` prints."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import toxproxy

ROOT = Path(toxproxy.__file__).parents[1]

# What is typed, and what is offered, or what zsh makes of it.
TYPED = {
    "toxproxy serve": "server",
    "toxproxy join aban": "abandon",
    "toxproxy join abandon abil": "ability",
    "toxproxy join abandon ability zoo zon": "zone",
    "toxproxy join --po": "--port",
    "toxproxy service ins": "install",
    "toxproxy service install ser": "server",
    "toxproxy id cli": "client",
    "toxproxy --log-format js": "json",
    "toxproxy client FOLDER/some": "FOLDER/some.ini",
    "toxproxy --state FOLDER/sta": "FOLDER/state",
}

BASH = """\
source {script}
COMP_WORDS=({line})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
definition=$(complete -p toxproxy)
function=${{definition##*-F }}
${{function%% *}} toxproxy "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""

# Nothing is run: what the line has become is printed, and then the shell ends.
ZSH = """\
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1=; toxproxy() {{ }}; fpath=({folder} \\$fpath); autoload -U compinit; compinit -u -D"
zpty -w shell 'show() {{ zle -I; print -r -- "line=<$BUFFER>" }}; zle -N show; bindkey "^X" show'
zpty -w shell "bindkey '^I' complete-word; echo rea''dy"
zpty -r -m shell out '*ready*'
zpty -w -n shell '{line}'$'\\t\\C-x'
zpty -r -m shell out '*line=<*>*' && print -r -- $out
zpty -d shell
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts, a file and a folder."""
    folder = tmp_path_factory.mktemp("shells")
    for shell, name in (("bash", "toxproxy"), ("zsh", "_toxproxy"), ("fish", "toxproxy.fish")):
        done = subprocess.run(
            [sys.executable, "-m", "toxproxy", "completion", shell],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        (folder / name).write_text(done.stdout)
    (folder / "some.ini").touch()
    (folder / "state").mkdir()
    return folder


def ask(shell: str, script: str) -> str:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"this machine has no {shell}")
    done = subprocess.run(
        [path, *(["-f"] if shell == "zsh" else []), "-c", script],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("typed", TYPED)
def test_bash(typed: str, folder: Path) -> None:
    line, expected = (text.replace("FOLDER", str(folder)) for text in (typed, TYPED[typed]))
    assert ask("bash", BASH.format(script=folder / "toxproxy", line=line)).split() == [expected]


@pytest.mark.parametrize("typed", TYPED)
def test_fish(typed: str, folder: Path) -> None:
    line, expected = (text.replace("FOLDER", str(folder)) for text in (typed, TYPED[typed]))
    out = ask("fish", f"source {folder / 'toxproxy.fish'}; complete -C '{line}'")
    assert [each.split("\t")[0].rstrip("/") for each in out.splitlines()] == [expected]


@pytest.mark.parametrize("typed", TYPED)
def test_zsh(typed: str, folder: Path) -> None:
    line, expected = (text.replace("FOLDER", str(folder)) for text in (typed, TYPED[typed]))
    out = ask("zsh", ZSH.format(folder=folder, line=line))
    completed = out.rpartition("line=<")[2].partition(">")[0]
    assert completed.rstrip(" /") == f"{line.rpartition(' ')[0]} {expected}"


def test_bash_offers_all_words_that_begin_so_and_users(folder: Path) -> None:
    words = ask("bash", BASH.format(script=folder / "toxproxy", line="toxproxy join aban zo")).split()
    assert words == ["zone", "zoo"]
    users = ask("bash", BASH.format(script=folder / "toxproxy", line="toxproxy service install --run-as roo"))
    assert users.split() == ["root"]
