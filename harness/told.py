"""Values made of what JSON told: with fields of the types that they have to be of, or none at all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


def value(kind: type[T], told: object) -> T:
    """A dataclass of what JSON told of it; what it has beyond the fields, as of a later version, is left out.

    Raises ValueError for what does not fit: a field of another type, no finite number, or one that is lacking.
    """
    return cast("T", _fitting(kind, told))


def values(kind: type[T], told: object) -> Sequence[T]:
    """As `value`, of a list of them."""
    return cast("Sequence[T]", _fitting(Sequence[kind], told))  # type: ignore[valid-type] # a type for what reads types


def _fitting(kind: Any, told: object) -> Any:
    if is_dataclass(kind):
        return _dataclass(kind, told)
    if kind is Any:
        return told
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if told is None and type(None) in inner else _fitting(inner[0], told)
    if origin is Mapping and isinstance(told, dict):
        return {_fitting(inner[0], name): _fitting(inner[1], each) for name, each in told.items()}
    if origin is Sequence and isinstance(told, list):
        return [_fitting(inner[0], each) for each in told]
    if origin is tuple and isinstance(told, list) and len(told) == len(inner):
        return tuple(_fitting(one, each) for one, each in zip(inner, told, strict=True))
    # JSON writes a float without a fraction as a whole number, and True is a number for Python alone.
    if kind is float and type(told) in (int, float) and math.isfinite(cast("float", told)):
        return told
    if type(told) is kind and kind in (str, int, bool):
        return told
    raise ValueError(f"{str(told)[:40]!r} is no {getattr(kind, '__name__', kind)}")


def _dataclass(kind: Any, told: object) -> Any:
    if not isinstance(told, dict):
        raise ValueError(f"{str(told)[:40]!r} is no {kind.__name__}")
    types = _types(kind)
    try:
        return kind(**{each.name: _fitting(types[each.name], told[each.name]) for each in fields(kind) if each.name in told})
    except TypeError as lacking:
        raise ValueError(f"a {kind.__name__} lacks something: {lacking}") from lacking


@cache
def _types(kind: type[Any]) -> Mapping[str, Any]:
    return get_type_hints(kind)
