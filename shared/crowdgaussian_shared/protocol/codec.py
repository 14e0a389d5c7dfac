# SPDX-License-Identifier: Apache-2.0
"""A frozen dataclass is the schema: its annotations read and check the JSON of a header.

Understood: bool, int, float, str, Literal of strings, X | None, tuple[X, ...], dict[str, X] and
nested dataclasses, each narrowed by Annotated[X, Span(...)]. A missing field takes its default;
a field that is not in the dataclass is ignored, so that a later minor version may add some.
"""

import types
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from ..fields import Field

_TEXT = 4096  # characters, unless a Span says otherwise
_ITEMS = 4096  # list entries, unless a Span says otherwise
_WHOLE = 2**53  # what every JSON reader keeps exactly


@dataclass(frozen=True)
class Span:
    """Smallest and largest value of a number, or the largest length of a text, list or dict."""

    high: float
    low: float = 0


def to_plain(message: Any) -> dict[str, Any]:
    """A dataclass as nested dicts and lists, ready for json.dumps."""
    return asdict(message)


def from_field(cls: type, data: Field) -> Any:
    """Build a dataclass from a JSON object.

    Raises:
        CrowdGaussianError: a field is missing or wrong; the sentence names its path.
    """
    values = {}
    for item, hint in _schema(cls):
        if not data.has(item.name) and _optional(item):
            continue
        values[item.name] = _read(hint, data.child(item.name))
    return cls(**values)


def schema_rows(cls: type) -> list[tuple[str, str, bool]]:
    """(name, type in words, required) of every field, for the specification's tables."""
    return [(item.name, type_words(hint), not _optional(item)) for item, hint in _schema(cls)]


@cache
def _schema(cls: type) -> tuple[tuple[Any, Any], ...]:
    hints = get_type_hints(cls, include_extras=True)
    return tuple((item, hints[item.name]) for item in fields(cls))


def _optional(item: Any) -> bool:
    return item.default is not MISSING or item.default_factory is not MISSING


def _read(hint: Any, data: Field) -> Any:
    span = None
    if get_origin(hint) is Annotated:
        hint, span = get_args(hint)[:2]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        (inner,) = (a for a in arguments if a is not type(None))
        return None if data.value is None else _read(inner, data)
    if origin is Literal:
        return data.choice(arguments)
    if origin is tuple:
        limit = int(span.high) if span else _ITEMS
        return tuple(_read(arguments[0], entry) for entry in data.items(limit))
    if origin is dict:
        return _read_dict(arguments[1], data, int(span.high) if span else _ITEMS)
    if is_dataclass(hint):
        return from_field(hint, data)
    return _read_scalar(hint, span, data)


def _read_dict(hint: Any, data: Field, limit: int) -> dict[str, Any]:
    members = data.members()
    if len(members) > limit:
        data.fail(f"an object of at most {limit} members")
    return {name: _read(hint, value) for name, value in members}


def _read_scalar(kind: type, span: Span | None, data: Field) -> Any:
    if kind is bool:
        return data.flag()
    if kind is int:
        return data.whole(int(span.low), int(span.high)) if span else data.whole(0, _WHOLE)
    if kind is float:
        return data.number(span.low, span.high) if span else data.number()
    if kind is str:
        return data.text(int(span.high) if span else _TEXT)
    raise TypeError(f"{kind} is not a type that a message can have")


def type_words(hint: Any) -> str:
    """A type hint in words, as docs/protocol.md prints it."""
    span = None
    if get_origin(hint) is Annotated:
        hint, span = get_args(hint)[:2]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if a is type(None) else type_words(a) for a in arguments)
    if origin is Literal:
        return "one of " + ", ".join(arguments)
    if origin is tuple:
        limit = _number(span.high if span else _ITEMS)
        return f"list of at most {limit} {type_words(arguments[0])}"
    if origin is dict:
        limit = _number(span.high if span else _ITEMS)
        return f"object of at most {limit} {type_words(arguments[1])}"
    return _scalar_words(hint, span)


def _scalar_words(kind: type, span: Span | None) -> str:
    if kind is str:
        return f"text of at most {_number(span.high if span else _TEXT)} characters"
    if kind is int:
        span = span or Span(_WHOLE)
        return f"whole number {_number(span.low)}..{_number(span.high)}"
    if kind is float:
        return f"number {_number(span.low)}..{_number(span.high)}" if span else "number"
    return kind.__name__


def _number(value: float) -> str:
    """Large powers of two are written as such."""
    whole = int(value)
    power = whole.bit_length() - 1
    return f"2^{power}" if power >= 16 and whole == 1 << power else f"{value:g}"
