"""libtoxcore is found, or it is said how to get it."""

from __future__ import annotations

import ctypes.util
from collections.abc import Iterator

import pytest

from toxproxy.tox import library


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(library.OVERRIDE, raising=False)
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
    monkeypatch.setattr(library, "_KNOWN_PLACES", ("libnothere.so.2",))
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(library.LibraryMissing) as caught:
        library.load()
    for words in ("apt install libtoxcore2", "pacman -S toxcore", "apk add toxcore", "brew install toxcore"):
        assert words in str(caught.value)


def test_an_override_that_is_no_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.OVERRIDE, "/nowhere/libtoxcore.so")
    with pytest.raises(library.LibraryMissing, match="TOXPROXY_LIBTOXCORE names /nowhere/libtoxcore"):
        library.load()


def test_another_library_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
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
