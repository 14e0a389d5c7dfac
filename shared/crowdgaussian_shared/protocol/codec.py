# SPDX-License-Identifier: Apache-2.0
"""A frozen dataclass is the schema: its annotations read and check the JSON of a header.

Understood: bool, int, float, str, Literal of strings, X | None, tuple[X, ...], dict[str, X] and
nested dataclasses, each narrowed by Annotated[X, Span(...)]. A missing field takes its default;
a field that is not in the dataclass is ignored, so that a later minor version may add some.
"""

import types
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from ..formats.json_fields import Field

_TEXT = 4096  # characters, unless a Span says otherwise
_ITEMS = 4096  # list entries, unless a Span says otherwise
_WHOLE = 2**53  # what every JSON reader keeps exactly


@dataclass(frozen=True)
class Span:
    """Smallest and largest value of a number, or the largest length of a text, list or dict."""

    high: float
    low: float = 0


def to_plain(message: Any) -> Any:
    """A dataclass as nested dicts and lists, ready for json.dumps."""
    if not is_dataclass(message) or isinstance(message, type):
        return [to_plain(v) for v in message] if isinstance(message, tuple) else message
    return {name: to_plain(getattr(message, name)) for name in _names(type(message))}


def from_field(cls: type, data: Field) -> Any:
    """Build a dataclass from a JSON object.

    Raises:
        DamagedFileError: a field is missing or wrong; the sentence names its path.
    """
    values = {}
    for name, reader, optional in _readers(cls):
        if optional and not data.has(name):
            continue
        values[name] = reader(data.child(name))
    return cls(**values)


@cache
def _names(cls: type) -> tuple[str, ...]:
    return tuple(item.name for item in fields(cls))


def schema_rows(cls: type) -> list[tuple[str, str, bool]]:
    """(name, type in words, required) of every field, for the specification's tables."""
    return [(item.name, type_words(hint), not _optional(item)) for item, hint in _schema(cls)]


@cache
def _schema(cls: type) -> tuple[tuple[Any, Any], ...]:
    hints = get_type_hints(cls, include_extras=True)
    return tuple((item, hints[item.name]) for item in fields(cls))


@cache
def _readers(cls: type) -> tuple[tuple[str, Callable[[Field], Any], bool], ...]:
    return tuple((item.name, _reader(hint), _optional(item)) for item, hint in _schema(cls))


def _optional(item: Any) -> bool:
    return item.default is not MISSING or item.default_factory is not MISSING


@cache
def _reader(hint: Any) -> Callable[[Field], Any]:
    """The function that reads and checks a field of this type."""
    span = None
    if get_origin(hint) is Annotated:
        hint, span = get_args(hint)[:2]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        (inner,) = (_reader(a) for a in arguments if a is not type(None))
        return lambda data: None if data.value is None else inner(data)
    if origin is Literal:
        return lambda data: data.choice(arguments)
    limit = int(span.high) if span else _ITEMS
    if origin is tuple:
        entry = _reader(arguments[0])
        return lambda data: tuple(entry(item) for item in data.items(limit))
    if origin is dict:
        member = _reader(arguments[1])
        return lambda data: _read_dict(member, data, limit)
    if isinstance(hint, type) and is_dataclass(hint):
        return lambda data: from_field(hint, data)
    return _scalar_reader(hint, span)


def _read_dict(member: Callable[[Field], Any], data: Field, limit: int) -> dict[str, Any]:
    members = data.members()
    if len(members) > limit:
        data.fail(f"an object of at most {limit} members")
    return {name: member(value) for name, value in members}


def _scalar_reader(kind: type, span: Span | None) -> Callable[[Field], Any]:
    if kind is bool:
        return Field.flag
    if kind is int:
        low, high = (int(span.low), int(span.high)) if span else (0, _WHOLE)
        return lambda data: data.whole(low, high)
    if kind is float:
        return (lambda data: data.number(span.low, span.high)) if span else Field.number
    if kind is str:
        limit = int(span.high) if span else _TEXT
        return lambda data: data.text(limit)
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
