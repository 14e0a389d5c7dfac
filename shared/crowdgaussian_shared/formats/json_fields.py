# SPDX-License-Identifier: Apache-2.0
"""Reading JSON one field at a time, so that every complaint names the file and the field."""

import json
import math
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np

from ..errors import DamagedFileError

_Choice = TypeVar("_Choice", bound=str)


def parse_json(data: bytes, source: str) -> "Field":
    """The root object of a JSON text; NaN and Infinity are refused.

    Raises:
        DamagedFileError: not JSON, or not an object.
    """
    try:
        value = _DECODER.decode(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DamagedFileError(f"{source} is damaged, it is not JSON ({reason}).") from error
    if not isinstance(value, dict):
        raise DamagedFileError(f"{source} is damaged, it must hold one JSON object.")
    return Field(value, source, "")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


@dataclass(frozen=True)
class Field:
    """A value inside a JSON file together with where it stands.

    Every reader method raises CrowdGaussianError in the words
    `<source>: <path> must be <what>`.
    """

    value: Any
    source: str  # file name for messages
    path: str  # such as people[2].camera.K; empty at the root

    def fail(self, wanted: str) -> NoReturn:
        """Complain that this field is not what it must be."""
        raise DamagedFileError(f"{self.source}: {self.path or 'the whole'} must be {wanted}.")

    def has(self, name: str) -> bool:
        """Whether the object has this member with a value other than null."""
        return self._mapping().get(name) is not None

    def child(self, name: str) -> "Field":
        """A member that must be there."""
        path = f"{self.path}.{name}" if self.path else name
        mapping = self._mapping()
        if name not in mapping:
            raise DamagedFileError(f"{self.source}: {path} is missing.")
        return Field(mapping[name], self.source, path)

    def items(self, limit: int = 100_000) -> list["Field"]:
        """The elements of a list."""
        if not isinstance(self.value, list) or len(self.value) > limit:
            self.fail(f"a list of at most {limit} entries")
        return [Field(v, self.source, f"{self.path}[{i}]") for i, v in enumerate(self.value)]

    def members(self) -> list[tuple[str, "Field"]]:
        """The members of an object, by name."""
        return [(name, self.child(name)) for name in self._mapping()]

    def text(self, limit: int = 10_000) -> str:
        """A string."""
        if not isinstance(self.value, str) or len(self.value) > limit:
            self.fail(f"a text of at most {limit} characters")
        return self.value

    def choice(self, options: tuple[_Choice, ...]) -> _Choice:
        """One of a few strings."""
        if not isinstance(self.value, str) or self.value not in options:
            self.fail("one of " + ", ".join(options))
        return self.value

    def flag(self) -> bool:
        """true or false."""
        if not isinstance(self.value, bool):
            self.fail("true or false")
        return self.value

    def number(self, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number in low..high."""
        if not _is_number(self.value) or not low <= self.value <= high:
            self.fail("a number" + _range_words(low, high))
        return float(self.value)

    def whole(self, low: int, high: int) -> int:
        """A whole number in low..high."""
        right = isinstance(self.value, int) and not isinstance(self.value, bool)
        if not right or not low <= self.value <= high:
            self.fail("a whole number" + _range_words(low, high))
        return int(self.value)

    def vector(self, length: int) -> tuple[float, ...]:
        """A list of `length` finite numbers."""
        if not _is_row(self.value, length):
            self.fail(f"a list of {length} numbers")
        return tuple(float(v) for v in self.value)

    def matrix(self, rows: int, columns: int) -> np.ndarray:
        """A list of rows of finite numbers.  # [rows, columns] float64"""
        value = self.value
        right = isinstance(value, list) and len(value) == rows
        if not right or not all(_is_row(row, columns) for row in value):
            self.fail(f"a {rows}x{columns} list of numbers")
        return np.array(value, dtype=np.float64)

    def _mapping(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            self.fail("an object")
        return self.value


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= 1e300  # also keeps huge whole numbers out of float()


def _is_row(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length and all(map(_is_number, value))


def _range_words(low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return ""
    if math.isinf(high):
        return f" of at least {low:g}"
    return f" from {low:.16g} to {high:.16g}"
