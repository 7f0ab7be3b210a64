"""What all our configuration values share: frozen, an unknown field is an error, JSON there and back."""

import json
import re
import typing
from typing import Any, Self, TypeVar

import pydantic

from allmlp.errors import BadSetting, printable, unknown_name

AnyValue = TypeVar("AnyValue", bound="Value")


class Value(pydantic.BaseModel):
    """A frozen value; two with equal fields are equal. Raises `BadSetting` where pydantic would raise its own error."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def __init__(self, **fields: Any):
        try:
            super().__init__(**fields)
        except pydantic.ValidationError as error:
            raise _one_line(type(self), error) from None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, fields: Any) -> Any:
        """pydantic would take true for 1."""
        for name, given in fields.items() if isinstance(fields, dict) else ():
            field = cls.model_fields.get(name)
            if isinstance(given, bool) and field is not None and not _takes_bool(field.annotation):
                raise ValueError(f"{name} is {str(given).lower()}, which is not what it takes; give its value")
        return fields

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The value written by `to_json`. Raises `BadSetting` for anything else."""
        try:
            return cls.model_validate_json(text)
        except pydantic.ValidationError as error:
            raise _one_line(cls, error) from None

    def to_json(self, indent: int | None = None) -> str:
        return self.model_dump_json(indent=indent)

    def with_(self, **fields: Any) -> Self:
        """A copy with some fields replaced, validated like a new value."""
        return type(self)(**{**{name: getattr(self, name) for name in type(self).model_fields}, **fields})


def with_dotted(value: AnyValue, path: str, text: str) -> AnyValue:
    """`value` with the field at a dotted `path` (`"optimizer.learning_rate"`) set from `text`.

    `text` is read as JSON where it is JSON (numbers, true, null, lists), as a string otherwise.
    Raises `UnknownName` for a path that leads nowhere and `BadSetting` for a value that is not accepted there.
    """
    name, _, rest = path.partition(".")
    fields = type(value).model_fields
    if name not in fields:
        deeper = [found for field in fields if (found := _leaf(value, field, path))]
        hint = f"there is {' and '.join(deeper)}" if deeper else ""
        raise unknown_name(f"setting of {_words(type(value))}", name, fields, hint)
    inner = getattr(value, name)
    if rest:
        if inner is None:  # an optional group that is off: setting one of its fields turns it on
            inner = next((kind() for kind in typing.get_args(fields[name].annotation) if _is_value(kind)), None)
        if not isinstance(inner, Value):
            raise BadSetting(f"setting {path!r}: {name!r} has no fields of its own (its value is {inner!r})")
        return value.with_(**{name: with_dotted(inner, rest, text)})
    return value.with_(**{name: _parse(text)})


def _leaf(value: Value, field: str, name: str) -> str | None:
    """The dotted name of `name` one level down in `field`, if that is where it is."""
    inner = getattr(value, field)
    return f"{field}.{name}" if isinstance(inner, Value) and name in type(inner).model_fields else None


def _takes_bool(kind: Any) -> bool:
    return kind in (bool, Any) or any(_takes_bool(part) for part in typing.get_args(kind))


def _is_value(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Value)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None if text == "none" else text


def _one_line(kind: type, error: pydantic.ValidationError) -> BadSetting:
    """The first mistake; before all others a field that does not exist, since a misspelt one is missing too."""
    errors = error.errors(include_url=False)
    first = next((found for found in errors if found["type"] == "extra_forbidden"), errors[0])
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        fields = kind.model_fields if len(first["loc"]) == 1 else ()
        return BadSetting(str(unknown_name(f"setting of {_words(kind)}", str(first["loc"][-1]), fields)))
    message = first["msg"].removeprefix("Value error, ")
    got = "" if first["type"] in ("missing", "value_error") else f" (got {printable(repr(first['input']), 120)})"
    return BadSetting(f"{_words(kind)}{': ' + where if where else ''}: {message}{got}")


def _words(kind: type) -> str:
    """"MixerConfig" as "mixer", "StochasticDepth" as "stochastic depth"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", kind.__name__.removesuffix("Config")).lower()
