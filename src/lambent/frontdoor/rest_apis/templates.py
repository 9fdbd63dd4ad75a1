"""Mapping templates: what of Velocity (VTL) API Gateway documents, read once and rendered within limits.

    #set($x = ...) #if(...) #elseif(...) #else #end #foreach($x in ...) #end #return, ## and #* *# comments
    $x ${x} $!x $!{x} with .member, [index] and .method(...)

Templates are a tenant's text that runs within the node: they see values and a fixed table of methods, nothing of
Python, and a rendering that takes more than so many steps or bytes ends. Source: API Gateway developer guide, "Mapping
template transformations" and "Variables for data transformations"; Apache Velocity, "VTL reference".
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

MOST_STEPS, MOST_BYTES = 100_000, 10_485_760
_DEEPEST = 50

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_REFERENCE = re.compile(r"\$(!?)(\{?)([A-Za-z][A-Za-z0-9_-]*)")
_DIRECTIVE = re.compile(r"#\{?(set|if|elseif|else|end|foreach|return|stop|break)\b\}?")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_SPACE = re.compile(r"\s*")
_OPERATORS = (
    ("||", "or"),
    ("&&", "and"),
    ("==", "eq", "!=", "ne"),
    ("<=", "le", ">=", "ge", "<", "lt", ">", "gt"),
    ("+", "-"),
    ("*", "/", "%"),
)
"""By binding, the loosest first."""


class BadTemplate(Exception):
    """It cannot be read; the message says where."""


class Overrun(Exception):
    """It ran for too long or wrote too much."""


Methods = Mapping[str, Callable[..., Any]]


class Tool(NamedTuple):
    """A thing like `$input`: members and methods by their names, and nothing else."""

    methods: Methods
    members: Mapping[str, Any] = {}


Node = tuple[Any, ...]
"""(kind, ...): what the parser makes."""


@lru_cache(maxsize=512)
def parse(text: str) -> list[Node]:
    """Raises BadTemplate."""
    parser = _Parser(text)
    nodes, ended_by = parser.read_block(())
    if ended_by:
        raise parser.error(f"#{ended_by} without its #if or #foreach")
    return nodes


def render(text: str, variables: Mapping[str, Any]) -> str:
    """Raises BadTemplate, Overrun."""
    try:
        return _Renderer(variables).render(parse(text))
    except RecursionError as exc:
        raise Overrun("the template is nested too deeply") from exc


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def error(self, what: str) -> BadTemplate:
        return BadTemplate(f"line {self._text.count(chr(10), 0, self._at) + 1}: {what}")

    def read_block(self, ends: tuple[str, ...]) -> tuple[list[Node], str]:
        """Nodes up to one of the directives in `ends`, or to the end of the text."""
        nodes: list[Node] = []
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self.error("it is nested too deeply")
        while self._at < len(self._text):
            begin = self._find_next()
            if begin > self._at:
                nodes.append(("text", self._text[self._at : begin]))
                self._at = begin
            if self._at >= len(self._text):
                break
            ended_by = self._read_special(nodes, ends)
            if ended_by:
                self._depth -= 1
                return nodes, ended_by
        self._depth -= 1
        if ends:
            raise self.error("#end is missing")
        return nodes, ""

    def _find_next(self) -> int:
        found = [at for mark in "$#\\" if (at := self._text.find(mark, self._at)) >= 0]
        return min(found, default=len(self._text))

    def _read_special(self, nodes: list[Node], ends: tuple[str, ...]) -> str:
        text = self._text
        if text[self._at] == "\\":
            # Before a dollar or a hash it makes them text.
            kept = 1 if text[self._at + 1 : self._at + 2] in ("$", "#") else 0
            nodes.append(("text", text[self._at + kept : self._at + 1 + kept]))
            self._at += 1 + kept
            return ""
        if text.startswith("##", self._at):
            line_end = text.find("\n", self._at)
            self._at = len(text) if line_end < 0 else line_end + 1
            return ""
        if text.startswith("#*", self._at):
            comment_end = text.find("*#", self._at)
            if comment_end < 0:
                raise self.error("the comment has no end")
            self._at = comment_end + 2
            return ""
        if text[self._at] == "$":
            nodes.append(self._read_reference() or self._take_text(1))
            return ""
        directive = _DIRECTIVE.match(text, self._at)
        if directive is None:
            nodes.append(self._take_text(1))
            return ""
        name = directive[1]
        if name in ("elseif", "else", "end"):
            if name not in ends:
                raise self.error(f"#{name} without its #if or #foreach")
            self._at = directive.end()
            return name
        self._at = directive.end()
        nodes.append(self._read_directive(name))
        return ""

    def _read_directive(self, name: str) -> Node:
        if name in ("return", "stop", "break"):
            return (name,)
        if name == "set":
            self._expect("(")
            target = self._read_reference()
            if target is None:
                raise self.error("#set needs a variable, like #set($x = 1)")
            self._expect("=")
            value = self._read_expression()
            self._expect(")")
            self._skip_line_end()
            return ("set", target, value)
        if name == "foreach":
            self._expect("(")
            item = self._read_reference()
            self._skip_space()
            if item is None or not self._text.startswith("in", self._at):
                raise self.error("#foreach must be like #foreach($item in $items)")
            self._at += 2
            items = self._read_expression()
            self._expect(")")
            body, _ = self.read_block(("end",))
            return ("foreach", item[1], items, body)
        return self._read_if()

    def _read_if(self) -> Node:
        branches: list[tuple[Node, list[Node]]] = []
        otherwise: list[Node] = []
        while True:
            self._expect("(")
            condition = self._read_expression()
            self._expect(")")
            body, ended_by = self.read_block(("elseif", "else", "end"))
            branches.append((condition, body))
            if ended_by == "else":
                otherwise, _ = self.read_block(("end",))
            if ended_by != "elseif":
                return ("if", branches, otherwise)

    def _read_reference(self) -> Node | None:
        """("reference", name, steps, quiet, as it stands in the text); None for a dollar that begins none."""
        self._skip_space() if self._text[self._at : self._at + 1].isspace() else None
        begin = self._at
        matched = _REFERENCE.match(self._text, begin)
        if matched is None:
            return None
        self._at = matched.end()
        steps = self._read_steps()
        if matched[2]:
            if not self._text.startswith("}", self._at):
                raise self.error(f"'{matched[0]}' has no closing brace")
            self._at += 1
        return ("reference", matched[3], steps, bool(matched[1]), self._text[begin : self._at])

    def _read_steps(self) -> list[Node]:
        steps: list[Node] = []
        while True:
            mark = self._text[self._at : self._at + 1]
            name = _NAME.match(self._text, self._at + 1) if mark == "." else None
            if name is not None:
                self._at = name.end()
                if self._text.startswith("(", self._at):
                    self._at += 1
                    steps.append(("call", name[0], self._read_list(")")))
                else:
                    steps.append(("member", name[0]))
            elif mark == "[":
                self._at += 1
                steps.append(("index", self._read_expression()))
                self._expect("]")
            else:
                return steps

    def _read_list(self, end: str) -> list[Node]:
        items: list[Node] = []
        self._skip_space()
        while not self._text.startswith(end, self._at):
            items.append(self._read_expression())
            self._skip_space()
            if self._text.startswith(",", self._at):
                self._at += 1
                self._skip_space()
            elif not self._text.startswith(end, self._at):
                raise self.error(f"'{end}' is missing")
        self._at += len(end)
        return items

    def _read_expression(self, level: int = 0) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST * 8:
            raise self.error("it is nested too deeply")
        try:
            if level == len(_OPERATORS):
                return self._read_operand()
            left = self._read_expression(level + 1)
            while operator := self._take_operator(_OPERATORS[level]):
                left = ("binary", operator, left, self._read_expression(level + 1))
            return left
        finally:
            self._depth -= 1

    def _take_operator(self, operators: tuple[str, ...]) -> str:
        self._skip_space()
        for operator in operators:
            if self._text.startswith(operator, self._at):
                after = self._at + len(operator)
                if operator.isalpha() and _NAME.match(self._text, after):
                    continue
                self._at = after
                return operator
        return ""

    def _read_operand(self) -> Node:
        self._skip_space()
        text, at = self._text, self._at
        mark = text[at : at + 1]
        if mark == "!":
            self._at += 1
            return ("not", self._read_operand())
        if mark == "(":
            self._at += 1
            inner = self._read_expression()
            self._expect(")")
            return inner
        if mark in ("'", '"'):
            return self._read_text(mark)
        if mark == "[":
            self._at += 1
            return self._read_array()
        if mark == "{":
            self._at += 1
            return self._read_map()
        if mark == "$" and (reference := self._read_reference()) is not None:
            return reference
        number = _NUMBER.match(text, at)
        if number is not None:
            self._at = number.end()
            return ("value", float(number[0]) if "." in number[0] else int(number[0]))
        for word, value in (("true", True), ("false", False), ("null", None), ("not ", ...)):
            if text.startswith(word, at):
                self._at += len(word)
                return ("not", self._read_operand()) if value is ... else ("value", value)
        raise self.error(f"a value is missing before '{text[at : at + 10]}'")

    def _read_text(self, mark: str) -> Node:
        """In double quotes references are filled in; a doubled quote is one."""
        end = self._at + 1
        while True:
            end = self._text.find(mark, end)
            if end < 0:
                raise self.error(f"the text in {mark} has no end")
            if not self._text.startswith(mark * 2, end):
                break
            end += 2
        inner = self._text[self._at + 1 : end].replace(mark * 2, mark)
        self._at = end + 1
        return ("value", inner) if mark == "'" else ("filled", parse(inner))

    def _read_array(self) -> Node:
        begin = self._at
        self._skip_space()
        if not self._text.startswith("]", self._at):
            first = self._read_expression()
            self._skip_space()
            if self._text.startswith("..", self._at):
                self._at += 2
                last = self._read_expression()
                self._expect("]")
                return ("range", first, last)
        self._at = begin
        return ("array", self._read_list("]"))

    def _read_map(self) -> Node:
        pairs: list[tuple[Node, Node]] = []
        self._skip_space()
        while not self._text.startswith("}", self._at):
            key = self._read_expression()
            self._expect(":")
            pairs.append((key, self._read_expression()))
            self._skip_space()
            if self._text.startswith(",", self._at):
                self._at += 1
                self._skip_space()
        self._at += 1
        return ("map", pairs)

    def _take_text(self, length: int) -> Node:
        self._at += length
        return ("text", self._text[self._at - length : self._at])

    def _expect(self, mark: str) -> None:
        self._skip_space()
        if not self._text.startswith(mark, self._at):
            raise self.error(f"'{mark}' is missing before '{self._text[self._at : self._at + 10]}'")
        self._at += len(mark)

    def _skip_space(self) -> None:
        matched = _SPACE.match(self._text, self._at)
        assert matched is not None
        self._at = matched.end()

    def _skip_line_end(self) -> None:
        """The line of a #set is none of the output."""
        for end in ("\r\n", "\n"):
            if self._text.startswith(end, self._at):
                self._at += len(end)
                return


class _Ended(Exception):
    """#return or #stop."""


class _Broken(Exception):
    """#break."""


class _Renderer:
    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._variables = dict(variables)
        self._steps = self._bytes = 0
        self._pieces: list[str] = []

    def render(self, nodes: list[Node]) -> str:
        with contextlib.suppress(_Ended, _Broken):
            self._run(nodes)
        return "".join(self._pieces)

    def _run(self, nodes: list[Node]) -> None:
        for node in nodes:
            self._count()
            kind = node[0]
            if kind == "text":
                self._write(node[1])
            elif kind == "reference":
                self._write(self._show(node))
            elif kind == "set":
                self._set(node[1], self._evaluate(node[2]))
            elif kind == "if":
                self._run(next((body for condition, body in node[1] if _is_true(self._evaluate(condition))), node[2]))
            elif kind == "foreach":
                self._repeat(node[1], node[2], node[3])
            elif kind == "break":
                raise _Broken
            else:
                raise _Ended

    def _repeat(self, name: str, source: Node, body: list[Node]) -> None:
        value = self._evaluate(source)
        items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        kept = {each: self._variables.get(each) for each in (name, "foreach", "velocityCount")}
        for number, item in enumerate(items):
            has_next = number + 1 < len(items)
            loop = {
                "index": number,
                "count": number + 1,
                "hasNext": has_next,
                "first": not number,
                "last": not has_next,
            }
            self._variables |= {name: item, "foreach": loop, "velocityCount": number + 1}
            try:
                self._run(body)
            except _Broken:
                break
        self._variables |= kept

    def _set(self, target: Node, value: Any) -> None:
        _, name, steps, _, _ = target
        if not steps:
            self._variables[name] = value
            return
        holder = self._follow(self._variables.get(name), steps[:-1])
        last = steps[-1]
        key = last[1] if last[0] == "member" else self._evaluate(last[1]) if last[0] == "index" else None
        if isinstance(holder, dict):
            holder[show_value(key)] = value
        if isinstance(holder, list) and isinstance(key, int) and 0 <= key < len(holder):
            holder[key] = value
        self._weigh(holder)

    def _show(self, node: Node) -> str:
        value = self._evaluate(node)
        if value is None:
            # What is not there stands as it was written, unless it is asked for quietly.
            return "" if node[3] else str(node[4])
        return show_value(value)

    def _evaluate(self, node: Node) -> Any:
        self._count()
        kind = node[0]
        if kind == "value":
            return node[1]
        if kind == "reference":
            return self._follow(self._variables.get(node[1]), node[2])
        if kind == "filled":
            return self._fill(node[1])
        if kind == "not":
            return not _is_true(self._evaluate(node[1]))
        if kind == "array":
            return self._weigh([self._evaluate(item) for item in node[1]])
        if kind == "map":
            return self._weigh({show_value(self._evaluate(key)): self._evaluate(value) for key, value in node[1]})
        if kind == "range":
            return self._make_range(self._evaluate(node[1]), self._evaluate(node[2]))
        return self._combine(node)

    def _fill(self, nodes: list[Node]) -> str:
        kept, self._pieces = self._pieces, []
        try:
            self._run(nodes)
            return "".join(self._pieces)
        finally:
            self._pieces = kept

    def _make_range(self, first: Any, last: Any) -> list[int]:
        if not isinstance(first, int) or not isinstance(last, int):
            return []
        self._steps += abs(last - first)
        self._count()
        return list(range(first, last + 1)) if first <= last else list(range(first, last - 1, -1))

    def _combine(self, node: Node) -> Any:
        _, operator, left_node, right_node = node
        left = self._evaluate(left_node)
        if operator in ("||", "or"):
            return _is_true(left) or _is_true(self._evaluate(right_node))
        if operator in ("&&", "and"):
            return _is_true(left) and _is_true(self._evaluate(right_node))
        right = self._evaluate(right_node)
        if operator in ("==", "eq"):
            return _equal(left, right)
        if operator in ("!=", "ne"):
            return not _equal(left, right)
        if operator == "+" and (isinstance(left, str) or isinstance(right, str)):
            joined = show_value(left) + show_value(right)
            self._grow(len(joined))
            return joined
        return _calculate(operator, left, right)

    def _follow(self, value: Any, steps: list[Node]) -> Any:
        for step in steps:
            self._count()
            if value is None:
                return None
            if step[0] == "call":
                given = [self._evaluate(argument) for argument in step[2]]
                value = self._call(value, step[1], given)
            elif step[0] == "member":
                value = _member(value, step[1])
            else:
                value = _item(value, self._evaluate(step[1]))
        return value

    def _call(self, value: Any, name: str, given: list[Any]) -> Any:
        methods = value.methods if isinstance(value, Tool) else _METHODS.get(type(value), {})
        method = methods.get(name)
        if method is None:
            return None
        try:
            result = method(*given) if isinstance(value, Tool) else method(value, *given)
        except (TypeError, ValueError, IndexError, AttributeError, KeyError, RecursionError):
            return None
        if isinstance(result, str | list):
            self._grow(len(result))
        if given and isinstance(value, list | dict):
            self._weigh(value)
        return result

    def _weigh(self, value: Any) -> Any:
        """Each thing within counts, as often as it is within: what holds itself many times over is not shown."""
        waiting = [value]
        while waiting:
            self._count()
            inner = waiting.pop()
            if isinstance(inner, list | dict):
                waiting += inner.values() if isinstance(inner, dict) else inner
        return value

    def _write(self, text: str) -> None:
        self._grow(len(text))
        self._pieces.append(text)

    def _grow(self, size: int) -> None:
        self._bytes += size
        if self._bytes > MOST_BYTES:
            raise Overrun("the template makes more than 10 MB")

    def _count(self) -> None:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise Overrun(f"the template takes more than {MOST_STEPS} steps")


def show_value(value: Any) -> str:
    """As Velocity writes it: maps and lists in Java's way, which is what templates of that kind rely on."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={show_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(show_value(item) for item in value) + "]"
    if isinstance(value, Tool):
        return ""
    return str(value)


def _is_true(value: Any) -> bool:
    return value is not None and value is not False


def _equal(left: Any, right: Any) -> bool:
    numbers = (int, float)
    if isinstance(left, numbers) and isinstance(right, numbers):
        return left == right
    if type(left) is not type(right) and left is not None and right is not None:
        return show_value(left) == show_value(right)
    return bool(left == right)


def _calculate(operator: str, left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        comparable = operator in _COMPARISONS
    else:
        comparable = isinstance(left, int | float) and isinstance(right, int | float)
    if not comparable or (operator in ("/", "%") and right == 0):
        return None
    if operator in ("/", "%") and isinstance(left, int) and isinstance(right, int):
        # Towards zero, as Java divides.
        quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
        return quotient if operator == "/" else left - quotient * right
    result = _CALCULATIONS[operator](left, right)
    if isinstance(result, int) and not isinstance(result, bool) and abs(result) > 2**63:
        raise Overrun("a number has more than 64 bits")
    return result


_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": lambda a, b: a < b,
    "lt": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "gt": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    "le": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "ge": lambda a, b: a >= b,
}
_CALCULATIONS: dict[str, Callable[[Any, Any], Any]] = {
    **_COMPARISONS,
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "%": lambda a, b: a % b,
}


def _member(value: Any, name: str) -> Any:
    if isinstance(value, Tool):
        return value.members.get(name)
    if isinstance(value, dict):
        return value.get(name)
    return None


def _item(value: Any, key: Any) -> Any:
    if isinstance(value, list) and isinstance(key, int):
        return value[key] if -len(value) <= key < len(value) else None
    if isinstance(value, dict):
        return value.get(show_value(key))
    return None


def _text_methods() -> Iterator[tuple[str, Callable[..., Any]]]:
    yield "length", len
    yield "isEmpty", lambda text: not text
    yield "toLowerCase", str.lower
    yield "toUpperCase", str.upper
    yield "trim", str.strip
    yield "contains", lambda text, part: show_value(part) in text
    yield "startsWith", lambda text, part: text.startswith(show_value(part))
    yield "endsWith", lambda text, part: text.endswith(show_value(part))
    yield "indexOf", lambda text, part: text.find(show_value(part))
    yield "lastIndexOf", lambda text, part: text.rfind(show_value(part))
    yield "replace", lambda text, old, new: _replace(text, show_value(old), show_value(new))
    # Their patterns are regular expressions in Java; here they are taken as they are written.
    yield "replaceAll", lambda text, old, new: _replace(text, _unquote(show_value(old)), show_value(new))
    yield "split", lambda text, by: text.split(_unquote(show_value(by))) if by else list(text)
    yield "substring", lambda text, begin, end=None: text[begin:end] if 0 <= begin <= len(text) else None
    yield "concat", lambda text, other: text + show_value(other)
    yield "equals", lambda text, other: text == other
    yield "equalsIgnoreCase", lambda text, other: text.lower() == show_value(other).lower()
    yield "toString", str
    yield "charAt", lambda text, at: text[at]


def _replace(text: str, old: str, new: str) -> str:
    if not old or text.count(old) * len(new) > MOST_BYTES:
        return text
    return text.replace(old, new)


def _unquote(pattern: str) -> str:
    return re.sub(r"\\(.)", r"\1", pattern)


def _put(members: dict[str, Any], key: Any, value: Any) -> Any:
    before = members.get(show_value(key))
    members[show_value(key)] = value
    return before


def _append(items: list[Any], value: Any) -> bool:
    items.append(value)
    return True


_METHODS: dict[type, Methods] = {
    str: dict(_text_methods()),
    list: {
        "size": len,
        "isEmpty": lambda items: not items,
        "get": lambda items, at: items[at] if at >= 0 else None,
        "contains": lambda items, value: value in items,
        "add": _append,
        "indexOf": lambda items, value: items.index(value) if value in items else -1,
    },
    dict: {
        "size": len,
        "isEmpty": lambda members: not members,
        "get": lambda members, key: members.get(show_value(key)),
        "containsKey": lambda members, key: show_value(key) in members,
        "keySet": list,
        "values": lambda members: list(members.values()),
        "entrySet": lambda members: [{"key": key, "value": value} for key, value in members.items()],
        "put": _put,
    },
}


def to_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
