"""A service as botocore's model describes it: operations, shapes, errors.

The model files come with the installed botocore package and are read as data; botocore itself is never imported here
(its session alone would take 170 ms and 20 MB).
"""

from __future__ import annotations

import dataclasses
import gzip
import importlib.util
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from lambent.model.errors import OperatorError

Json = dict[str, Any]


class Shape:
    """One shape together with the traits of the place where it is used."""

    __slots__ = ("_model", "definition", "name", "traits")

    def __init__(self, model: ServiceModel, name: str, traits: Json) -> None:
        self._model = model
        self.name = name
        self.definition: Json = model.shapes[name]
        self.traits = traits

    @property
    def kind(self) -> str:
        """structure, list, map, string, integer, long, boolean, double, float, timestamp or blob."""
        return str(self.definition["type"])

    def trait(self, name: str) -> Any:
        """A trait of the place, else of the shape."""
        return self.traits.get(name, self.definition.get(name))

    @property
    def members(self) -> dict[str, Shape]:
        return self._model.members_of(self.name)

    @property
    def required(self) -> list[str]:
        return list(self.definition.get("required", ()))

    @property
    def payload(self) -> str | None:
        return self.definition.get("payload")

    @property
    def item(self) -> Shape:
        """What a list holds."""
        return self._model.used(self.definition["member"])

    @property
    def value(self) -> Shape:
        """What a map holds."""
        return self._model.used(self.definition["value"])

    @property
    def key(self) -> Shape:
        return self._model.used(self.definition["key"])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OperationModel:
    name: str
    method: str
    uri: str
    status: int
    input: Shape | None
    output: Shape | None
    deprecated: bool = False


class ServiceModel:
    """Raises KeyError for a definition that is not a service model."""

    def __init__(self, definition: Json) -> None:
        self.metadata: Json = definition["metadata"]
        self.shapes: dict[str, Json] = definition["shapes"]
        self._members: dict[str, dict[str, Shape]] = {}
        self.operations = {name: self._operation(name, fields) for name, fields in definition["operations"].items()}

    def used(self, reference: Json) -> Shape:
        return Shape(self, reference["shape"], reference)

    def members_of(self, name: str) -> dict[str, Shape]:
        members = self._members.get(name)
        if members is None:
            declared = self.shapes[name].get("members", {})
            members = self._members[name] = {key: self.used(reference) for key, reference in declared.items()}
        return members

    def error_shape(self, code: str) -> Shape | None:
        return self._errors.get(code)

    @cached_property
    def _errors(self) -> dict[str, Shape]:
        errors = {}
        for name, definition in self.shapes.items():
            if definition.get("exception"):
                errors[name] = errors[definition.get("error", {}).get("code", name)] = Shape(self, name, {})
        return errors

    def _operation(self, name: str, fields: Json) -> OperationModel:
        http = fields.get("http", {})
        return OperationModel(
            name=name,
            method=http.get("method", "POST"),
            uri=http.get("requestUri", "/"),
            status=http.get("responseCode", 200),
            input=self.used(fields["input"]) if "input" in fields else None,
            output=self.used(fields["output"]) if "output" in fields else None,
            deprecated=bool(fields.get("deprecated")),
        )


def load_model(service: str, version: str | None = None) -> ServiceModel:
    """The model of a service by botocore's name for it; the newest version if none is named.

    Raises OperatorError when botocore's data files are not there.
    """
    spec = importlib.util.find_spec("botocore")
    if spec is None or spec.origin is None:
        raise OperatorError("botocore is not installed; its service models are needed: pip install botocore")
    folder = Path(spec.origin).parent / "data" / service
    versions = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    if not versions:
        raise OperatorError(f"botocore has no service model of {service}; reinstall it: pip install -U botocore")
    file = folder / (version or versions[-1])
    try:
        return ServiceModel(_without_documentation(_read(file)))
    except (OSError, EOFError, zlib.error, msgspec.MsgspecError, KeyError) as exc:
        raise OperatorError(
            f"botocore's model of {service} in {file} is missing or damaged; reinstall it: pip install -U botocore"
        ) from exc


def _read(folder: Path) -> Json:
    plain = folder / "service-2.json"
    packed = plain.with_name("service-2.json.gz")
    raw = plain.read_bytes() if plain.exists() else gzip.decompress(packed.read_bytes())
    return msgspec.json.decode(raw, type=dict[str, Any])


def _without_documentation(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: _without_documentation(value)
            for key, value in node.items()
            if not (key == "documentation" and isinstance(value, str))
        }
    if isinstance(node, list):
        return [_without_documentation(value) for value in node]
    return node
