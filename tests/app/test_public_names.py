"""What programs import: all of it is in `toxproxy` itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import toxproxy

ROOT = Path(__file__).parents[2]
ID = "0" * 76  # the byte pairs cancel out, so the checksum is right


@pytest.mark.parametrize("name", toxproxy.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(toxproxy, name).__doc__
    assert f"`{name}" in (ROOT / "docs" / "library.md").read_text()


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Peer'"):
        _ = toxproxy.Peer


def test_importing_toxproxy_alone_loads_nothing_heavy() -> None:
    code = (
        "import sys, toxproxy; print(*(name for name in ('asyncio', 'cffi', 'enet') if name in sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout == "\n"


def test_the_example_uses_public_names_alone() -> None:
    tree = ast.parse((ROOT / "examples" / "library.py").read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {module for module in modules if module and module.startswith("toxproxy")} == {"toxproxy"}
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "toxproxy"
    }
    assert used <= set(toxproxy.__all__)


def test_an_end_takes_the_path_of_its_state_folder(tmp_path: Path) -> None:
    config = toxproxy.parse_config(f"[socks]\nbrowser = 0:{ID}\n", "client.ini")
    toxproxy.Client(config, tmp_path / "client")
    toxproxy.Server(config, str(tmp_path / "server"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["client", "server"]
