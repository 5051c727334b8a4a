"""Frozen dataclasses as JSON objects, and back. Pure.

A field that a later version adds does no harm: it is ignored.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")


def encoded(value: Any) -> Any:
    """The value as `json` takes it: dataclasses become objects, Enums their values, tuples arrays."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: encoded(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [encoded(each) for each in value]
    return value


def decoded(kind: type[T], data: object) -> T:
    """A dataclass from what `encoded` made of it. Raises `ValueError` for anything else."""
    if not isinstance(data, Mapping):
        raise ValueError(f"expected an object for {kind.__name__}")
    hints = typing.get_type_hints(kind)
    values = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in data:
            raise ValueError(f"{kind.__name__} has no {field.name}")
        values[field.name] = _decoded(hints[field.name], data[field.name], f"{kind.__name__}.{field.name}")
    return kind(**values)


def _decoded(hint: Any, data: object, where: str) -> Any:
    if isinstance(hint, types.UnionType):
        (kind,) = (each for each in typing.get_args(hint) if each is not type(None))
        return None if data is None else _decoded(kind, data, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(data, list):
            raise ValueError(f"expected an array for {where}")
        return tuple(_decoded(typing.get_args(hint)[0], each, where) for each in data)
    if is_dataclass(hint):
        return decoded(typing.cast(type, hint), data)
    if issubclass(hint, Enum):
        return hint(data)
    accepted = (int, float) if hint is float else hint
    if not isinstance(data, accepted) or (isinstance(data, bool) and hint is not bool):
        raise ValueError(f"expected {hint.__name__} for {where}")
    return data
