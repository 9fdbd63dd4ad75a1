"""Mapping templates: what they render, and what they must never reach."""

from __future__ import annotations

from typing import Any

import pytest

from lambent.frontdoor.rest_apis.templates import BadTemplate, Overrun, Tool, parse, render

VARIABLES: dict[str, Any] = {
    "name": "Ann",
    "n": 7,
    "yes": True,
    "items": [{"id": 1}, {"id": 2}],
    "map": {"a-b": "c", "x": None},
    "tool": Tool(methods={"join": lambda *parts: "+".join(map(str, parts))}, members={"kind": "hammer"}),
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain # text $ and 5$", "plain # text $ and 5$"),
        ("$name ${name}s $!name $!{name}", "Ann Anns Ann Ann"),
        ("$none $!none ${none} $!{none}|", "$none  ${none} |"),
        (r"\$name \#if", "$name #if"),
        ("$name.length() $name.toUpperCase().substring(1, 3)", "3 NN"),
        ("$map.get('a-b') $map['a-b'] $map.containsKey('x')", "c c true"),
        ("$items[1].id $items.get(0).id $items.size()", "2 1 2"),
        ("$tool.join(1, 'a', $n) $tool.kind", "1+a+7 hammer"),
        ("#set($x = 1 + 2 * 3)$x", "7"),
        ("#set($x = -7 / 2)$x", "-3"),
        ("#set($x = 'a' + 1)$x", "a1"),
        ('#set($x = "<$name>")$x', "<Ann>"),
        ("#set($x = {'k': [1, 2..3]})$x", None),
        ("#set($x = {'k': [1..3]})$x.k.size()", "3"),
        ("#set($x = {})#set($x.y = 1)$x.y", "1"),
        ("#if($n > 5 && !$none)a#elseif($n == 7)b#{else}c#end", "a"),
        ("#if($n < 5 || $none)a#elseif($n == 7)b#{else}c#end", "b"),
        ('#if($name == "Bob")a#{else}c#end', "c"),
        ("#foreach($i in $items)$foreach.count:$i.id#if($foreach.hasNext),#end#end", "1:1,2:2"),
        ("#foreach($i in [1..9])#if($i == 3)#break#end$i#end", "12"),
        ("#foreach($e in $map.entrySet())$e.key;#end", "a-b;x;"),
        ("a## gone\nb #* gone\n too *#c", "ab c"),
        ("a#return b", "a"),
        ("$name.replaceAll('\\.', 'x')", "Ann"),
    ],
)
def test_templates_render_as_velocity_does(template: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(BadTemplate):
            parse(template)
    else:
        assert render(template, VARIABLES) == expected


@pytest.mark.parametrize(
    "template",
    [
        "$name.__class__",
        "$name.__class__.__mro__",
        "$tool.methods",
        "$tool.__init__.__globals__",
        "$tool.join.__globals__",
        "$map.__class__",
        "$map.pop('x')",
        "$name.format('x')",
        "$items.__len__()",
        "$n.real",
    ],
)
def test_nothing_of_python_is_reached(template: str) -> None:
    rendered = render(template, VARIABLES)
    assert rendered == template or rendered.partition(".__")[2] == template.partition(".__")[2]


@pytest.mark.parametrize(
    "template",
    [
        "#foreach($i in [1..1000])#foreach($j in [1..1000])x#end#end",
        "#set($a = 'xxxxxxxxxx')#foreach($i in [1..60])#set($a = $a + $a)#end",
        "#set($a = [1])#foreach($i in [1..60])#set($a = [$a, $a])#end$a",
        "#set($a = [1])#set($none = $a.add($a))$a",
        "#set($a = {})#set($a.b = $a)$a",
        "#set($a = 99999999)#foreach($i in [1..60])#set($a = $a * $a)#end",
        "#foreach($i in [1..999999999])x#end",
        "#set($a = 'aaaaaaaaaa')#foreach($i in [1..40])#set($a = $a.replace('a', 'aa'))#end",
    ],
)
def test_a_template_that_would_not_end_is_ended(template: str) -> None:
    with pytest.raises(Overrun):
        render(template, {})


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("#if(true)", "line 1: #end is missing"),
        ("\n#end", "line 2: #end without its #if or #foreach"),
        ("#set(1 = 2)", "#set needs a variable"),
        ("#foreach($x of $y)#end", "#foreach must be like"),
        ("#if($x ==)#end", "a value is missing"),
        ("${name", "has no closing brace"),
        ("#set($x = 'a)", "has no end"),
        ("#* x", "the comment has no end"),
        ("#if(" + "(" * 5_000, "nested too deeply"),
        ("#if(true)" * 200, "nested too deeply"),
    ],
)
def test_a_template_that_cannot_be_read_says_where(template: str, reason: str) -> None:
    with pytest.raises(BadTemplate, match=reason):
        parse(template)
