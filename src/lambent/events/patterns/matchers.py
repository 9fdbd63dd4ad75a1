"""The match types: from the JSON of one condition to a closure that is asked about one value.

EventBridge user guide, "Comparison operators for use in event patterns". A value is a leaf of the event: text, number,
true, false or null. Whether a field is there at all is not a matter of its value; see `pattern.py`.
"""

from __future__ import annotations

import ipaddress
import operator
from collections.abc import Callable, Mapping
from typing import Any

from lambent.events.patterns.wildcards import compile_wildcard

Match = Callable[[Any], bool]

_LARGEST = 5e9
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_LOWER, _UPPER = (">", ">="), ("<", "<=")


class Refused(ValueError):
    """The reason, in the words of the contract where they are known."""


def compile_exact(value: Any) -> Match:
    """Numbers are equal by value; true is not 1."""
    if value is None:
        return lambda found: found is None
    if isinstance(value, bool):
        return lambda found: found is value
    if _is_number(value):
        return lambda found: _is_number(found) and found == value
    if isinstance(value, str):
        return lambda found: isinstance(found, str) and found == value
    raise Refused("Match value must be String, number, true, false, or null")


def compile_condition(condition: Mapping[str, Any]) -> Match:
    """Of one object within a field's array, `exists` excepted. Raises Refused."""
    if len(condition) != 1:
        raise Refused("Only one key allowed in match expression" if condition else "Empty objects are not allowed")
    [(name, wanted)] = condition.items()
    compiler = _MATCH_TYPES.get(name)
    if compiler is None:
        raise Refused(f"Unrecognized match type {name}")
    return compiler(wanted)


def _compile_prefix(wanted: Any) -> Match:
    if isinstance(wanted, dict):
        folded = _ignored_case("prefix", wanted)
        return lambda found: isinstance(found, str) and found.lower().startswith(folded)
    text = _text("prefix", wanted)
    return lambda found: isinstance(found, str) and found.startswith(text)


def _compile_suffix(wanted: Any) -> Match:
    if isinstance(wanted, dict):
        folded = _ignored_case("suffix", wanted)
        return lambda found: isinstance(found, str) and found.lower().endswith(folded)
    text = _text("suffix", wanted)
    return lambda found: isinstance(found, str) and found.endswith(text)


def _compile_ignore_case(wanted: Any) -> Match:
    folded = _text("equals-ignore-case", wanted).lower()
    return lambda found: isinstance(found, str) and found.lower() == folded


def _compile_wildcard(wanted: Any) -> Match:
    try:
        match = compile_wildcard(_text("wildcard", wanted))
    except Refused:
        raise
    except ValueError as exc:
        raise Refused(str(exc)) from exc
    return lambda found: isinstance(found, str) and match(found)


def _compile_cidr(wanted: Any) -> Match:
    text = _text("cidr", wanted)
    if text.count("/") != 1:
        raise Refused("Malformed CIDR, one '/' required")
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as exc:
        raise Refused(f"Malformed CIDR, {exc}") from exc

    def match(found: Any) -> bool:
        if not isinstance(found, str):
            return False
        try:
            address = ipaddress.ip_address(found)
        except ValueError:
            return False
        return address.version == network.version and address in network

    return match


def _compile_numeric(wanted: Any) -> Match:
    if not isinstance(wanted, list):
        raise Refused("Value of numeric must be an array.")
    if not wanted:
        raise Refused("Empty arrays are not allowed")
    if len(wanted) > 4:
        raise Refused("Too many terms in numeric range expression")
    terms = [_read_term(wanted[at : at + 2]) for at in range(0, len(wanted), 2)]
    if len(terms) == 2:
        (first, low), (second, high) = terms
        if first not in _LOWER:
            raise Refused(f"Too many terms in numeric range expression: '{first}' stands alone")
        if second not in _UPPER:
            raise Refused(f"Bad numeric range operator: {second}")
        if low >= high:
            raise Refused("Bottom must be less than top")
    checks = [(_COMPARE[name], bound) for name, bound in terms]
    return lambda found: _is_number(found) and all(compare(found, bound) for compare, bound in checks)


def _read_term(term: list[Any]) -> tuple[str, float]:
    name = term[0]
    if not isinstance(name, str):
        raise Refused("Invalid member in numeric match: " + str(name))
    if name not in _COMPARE:
        raise Refused(f"Unrecognized numeric range operator: {name}")
    if len(term) == 1 or not _is_number(term[1]):
        raise Refused(f"Value of {name} must be numeric")
    if abs(term[1]) > _LARGEST:
        raise Refused(f"Value must be between -5.0E9 and 5.0E9, inclusive: {term[1]}")
    return name, term[1]


def _compile_anything_but(wanted: Any) -> Match:
    if isinstance(wanted, dict):
        match = _compile_but_condition(wanted)
    else:
        values = wanted if isinstance(wanted, list) else [wanted]
        if not values:
            raise Refused("Empty arrays are not allowed")
        if not all(_is_number(value) or isinstance(value, str) for value in values):
            raise Refused("Value of anything-but must be an array or single string/number value.")
        if len({isinstance(value, str) for value in values}) > 1:
            raise Refused(
                "Inside anything but list, either all values are number or string, mixed type is not supported"
            )
        match = _any([compile_exact(value) for value in values])
    return lambda found: not match(found)


def _compile_but_condition(wanted: dict[str, Any]) -> Match:
    if len(wanted) != 1:
        raise Refused("Only one key allowed in match expression" if wanted else "Empty objects are not allowed")
    [(name, value)] = wanted.items()
    if name not in _WITHIN_ANYTHING_BUT:
        raise Refused(f"Unsupported anything-but pattern: {name}")
    values = value if isinstance(value, list) else [value]
    if not values:
        raise Refused("Empty arrays are not allowed")
    for inner in values:
        if not isinstance(inner, str):
            raise Refused(f"{name} match pattern must be a string")
        if not inner:
            raise Refused(f"Null {name} not allowed")
    return _any([_MATCH_TYPES[name](inner) for inner in values])


def _any(matches: list[Match]) -> Match:
    if len(matches) == 1:
        return matches[0]
    return lambda found: any(match(found) for match in matches)


def _ignored_case(name: str, wanted: dict[str, Any]) -> str:
    if list(wanted) != ["equals-ignore-case"]:
        raise Refused(f"Unsupported {name} pattern: {', '.join(wanted) or 'an empty object'}")
    return _text("equals-ignore-case", wanted["equals-ignore-case"]).lower()


def _text(name: str, wanted: Any) -> str:
    if not isinstance(wanted, str):
        raise Refused(f"{name} match pattern must be a string")
    return wanted


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_MATCH_TYPES: Mapping[str, Callable[[Any], Match]] = {
    "prefix": _compile_prefix,
    "suffix": _compile_suffix,
    "equals-ignore-case": _compile_ignore_case,
    "wildcard": _compile_wildcard,
    "cidr": _compile_cidr,
    "numeric": _compile_numeric,
    "anything-but": _compile_anything_but,
}
_WITHIN_ANYTHING_BUT = ("prefix", "suffix", "equals-ignore-case", "wildcard")
