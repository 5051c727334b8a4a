"""libtoxcore is found, or the error says how to install it."""

from __future__ import annotations

import ctypes.util
from collections.abc import Iterator

import pytest

from toxproxy.tox import library


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    library.load.cache_clear()
    yield
    library.load.cache_clear()


def test_the_installed_library_is_opened_once() -> None:
    assert library.load() is library.load()


def test_every_declared_function_is_in_the_library() -> None:
    lib = library.load()
    assert len(dir(lib)) > 40
    for name in dir(lib):
        assert getattr(lib, name) is not None


def test_a_missing_library_is_named_with_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(library.OVERRIDE, raising=False)
    monkeypatch.setattr(library, "_KNOWN_PLACES", ("libnothere.so.2",))
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(library.LibraryMissing) as caught:
        library.load()
    for words in ("apt install libtoxcore2", "pacman -S toxcore", "apk add toxcore", "brew install toxcore"):
        assert words in str(caught.value)


def test_a_wrong_path_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.OVERRIDE, "/nowhere/libtoxcore.so")
    with pytest.raises(library.LibraryMissing, match="TOXPROXY_LIBTOXCORE names /nowhere/libtoxcore"):
        library.load()


def test_another_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = ctypes.util.find_library("c")
    assert other is not None
    monkeypatch.setenv(library.OVERRIDE, other)
    with pytest.raises(library.LibraryMissing, match="is not libtoxcore"):
        library.load()


def test_a_version_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "OLDEST_VERSION", (0, 2, 999))
    with pytest.raises(
        library.LibraryMissing, match=r"is libtoxcore 0\.2\.\d+, expected 0\.2\.999 or a later"
    ):
        library.load()


class Numbered:
    """A library that has a version, as libtoxcore has."""

    def __init__(self, *version: int) -> None:
        self._version = version

    def tox_version_is_compatible(self, *least: int) -> bool:
        return self._version[:2] == least[:2] and self._version >= least

    def tox_version_major(self) -> int:
        return self._version[0]

    def tox_version_minor(self) -> int:
        return self._version[1]

    def tox_version_patch(self) -> int:
        return self._version[2]


def test_the_version_that_any_node_can_overflow_is_refused() -> None:
    with pytest.raises(
        library.LibraryMissing, match=r"libtoxcore 0\.2\.12, expected 0\.2\.13 or .*CVE-2021-44847"
    ):
        library._check_version(Numbered(0, 2, 12), "libtoxcore.so.2")
    library._check_version(Numbered(0, 2, 13), "libtoxcore.so.2")
    library._check_version(Numbered(0, 2, 22), "libtoxcore.so.2")


@pytest.mark.parametrize(
    ("patch", "doubtful"), [(13, False), (18, False), (19, True), (20, True), (22, True), (23, False)]
)
def test_versions_with_a_flaw_that_may_be_mended_are_warned_of(patch: int, doubtful: bool) -> None:
    text = library.doubt((0, 2, patch))
    assert (text is not None) is doubtful
    if text is not None:
        assert text.startswith(f"libtoxcore 0.2.{patch} has a flaw")
        assert "unless your distribution has fixed it" in text


def test_the_installed_version() -> None:
    version = library.version()
    assert version.startswith("0.2.")
    assert library.warning() == library.doubt((0, 2, int(version.rpartition(".")[2])))
