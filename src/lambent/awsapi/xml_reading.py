"""XML of strangers as a tree, without what XML can do to its reader: no DTD, no entities of its own, bounded depth."""

from __future__ import annotations

import dataclasses
from typing import NoReturn
from xml.parsers import expat

from lambent.model.errors import CallerError

MOST_LEVELS = 32
MOST_ELEMENTS = 100_000


@dataclasses.dataclass(slots=True)
class Element:
    """Names and attributes without their namespaces."""

    name: str
    attributes: dict[str, str]
    children: list[Element] = dataclasses.field(default_factory=list)
    text: str = ""

    def all(self, name: str) -> list[Element]:
        return [child for child in self.children if child.name == name]


def read_xml(body: bytes) -> Element:
    """The root. Raises CallerError `MalformedXML`."""
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.take_text
    parser.StartDoctypeDeclHandler = _refuse_declaration
    parser.EntityDeclHandler = _refuse_declaration
    try:
        parser.Parse(body, True)
    except expat.ExpatError as exc:
        raise malformed(str(exc)) from exc
    assert reader.root is not None
    return reader.root


class _Reader:
    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._count = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) >= MOST_LEVELS or self._count > MOST_ELEMENTS:
            raise malformed("there is too much of it")
        element = Element(_local(name), {_local(key): value for key, value in attributes.items()})
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def end(self, _name: str) -> None:
        self._open.pop()

    def take_text(self, text: str) -> None:
        self._open[-1].text += text


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _refuse_declaration(*_args: object) -> NoReturn:
    raise malformed("it declares a document type")


def malformed(reason: str) -> CallerError:
    return CallerError(
        "MalformedXML",
        f"The XML you provided was not well-formed or did not validate against our published schema: {reason}",
    )
