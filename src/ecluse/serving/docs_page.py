"""The documentation as one HTML page: an OpenAPI document, written out. No script, no style sheet, no font from elsewhere."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --get: #0b6e99; --post: #7a4bb8; }
@media (prefers-color-scheme: dark) { :root { --get: #6cc4ee; --post: #c3a1f2; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); } h3 { margin: 1.5rem 0 .5rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; } code { overflow-wrap: break-word; }
pre { background: var(--soft); padding: .75rem 1rem; overflow-x: auto; border-radius: 6px; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0; padding: .35rem .8rem; }
details[open] { padding-bottom: .8rem; } details[open] > summary { margin-bottom: .5rem; }
summary { cursor: pointer; } summary code { font-weight: 600; margin-right: .5rem; }
.method { display: inline-block; width: 3.5rem; font-weight: 600; color: var(--get); } .POST { color: var(--post); }
.soft { opacity: .7; } table { border-collapse: collapse; width: 100%; } th:first-child { width: 9rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
tr:last-child > * { border-bottom: 0; } nav a { margin-right: 1rem; } .wide { overflow-x: auto; } td { min-width: 8rem; }
"""
_MANY = 12


def make_page(document: Mapping[str, Any], address: str, *, needs_key: bool) -> str:
    """The page of an OpenAPI document that ``make_document`` made. ``address`` is where its reader found the server."""
    info, schemas = document["info"], document["components"]["schemas"]
    parts = ("Ask", "Routes", "Shapes", "Problems")
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(info['title'])} <small class=soft>{escape(info['version'])}</small></h1>",
            f"<p>{escape(info['description'])} The document itself: <a href='/openapi.json'>/openapi.json</a>.</p>",
            "<nav>" + "".join(f'<a href="#{part}">{part}</a>' for part in parts) + "</nav>",
            '<h2 id="Ask">Ask</h2>',
            *_asking(schemas, address, needs_key),
            '<h2 id="Routes">Routes</h2>',
            *_routes(document["paths"]),
            *_headers(document["paths"]),
            '<h2 id="Shapes">Shapes</h2>',
            *(_shape(name, shape) for name, shape in schemas.items()),
            '<h2 id="Problems">Problems</h2>',
            *_problems(document["x-problems"]),
            "</body></html>",
        ]
    )


def _asking(schemas: Mapping[str, Any], address: str, needs_key: bool) -> Iterable[str]:
    names = [name.removesuffix(".Request") for name in schemas if name.endswith(".Request")]
    if not names:
        yield "<p>No version serves yet: promote one, and ask again.</p>"
    headers = ["-H 'Authorization: Bearer …'"] * needs_key + ["-H 'Content-Type: application/json'"]
    for name in names:
        path = "/predict" if len(names) == 1 else f"/models/{name}/predict"
        for example in schemas[f"{name}.Request"].get("examples", ()):
            body = shlex.quote(json.dumps(example, ensure_ascii=False))
            lines = [f"curl {address}{path}", *headers, f"-d {body}"]
            yield "<pre>" + escape(" \\\n  ".join(lines)) + "</pre>"
    if names:
        shown = " or ".join(_link(f"{name}.Request") for name in names)
        yield f"<p>What may stand in it: {shown}. What comes back: {_link('Prediction')}, or a {_link('Problem')}.</p>"
    yield "<p>An API key is asked for.</p>" if needs_key else "<p>No API key is asked for here.</p>"


def _routes(paths: Mapping[str, Any]) -> Iterable[str]:
    each = [(path, method, one) for path, methods in paths.items() for method, one in methods.items()]
    for group in dict.fromkeys(one["tags"][0] for *_, one in each):
        yield f"<h3>{escape(group)}</h3>"
        yield from (_route(path, method.upper(), one) for path, method, one in each if one["tags"][0] == group)


def _route(path: str, method: str, operation: Mapping[str, Any]) -> str:
    permission = operation["x-permission"]
    rows = [("Who", "anybody" if permission == "open" else f"a key with the scope <code>{escape(permission)}</code>")]
    rows += [
        (f"<code>{{{escape(each['name'])}}}</code>", _type(each["schema"]))
        for each in operation["parameters"]
        if each["in"] == "path"
    ]
    if body := operation.get("requestBody"):
        rows.append(("Takes", _contents(body["content"])))
    rows += [(status, _contents(one["content"])) for status, one in operation["responses"].items() if "content" in one]
    rows.append(("Else", _link("Problem")))
    return (
        f'<details><summary><span class="method {method}">{method}</span><code>{escape(path)}</code> '
        f"<span class=soft>{_prose(operation['summary'])}</span></summary>{_table(rows)}</details>"
    )


def _headers(paths: Mapping[str, Any]) -> Iterable[str]:
    """The headers every route takes."""
    operation = next(one for methods in paths.values() for one in methods.values())
    yield "<h3>Headers of any request</h3>"
    named = [each for each in operation["parameters"] if each["in"] == "header"]
    yield _table([(f"<code>{escape(each['name'])}</code>", _prose(each["description"])) for each in named])


def _contents(contents: Mapping[str, Any]) -> str:
    return "<br>".join(
        f"{_type(content['schema'])} <span class=soft>{escape(kind)}</span>" for kind, content in contents.items()
    )


def _shape(name: str, shape: Mapping[str, Any]) -> str:
    forms = shape.get("oneOf", [shape])
    if all("properties" in form for form in forms):
        inside = "<p class=soft>or</p>".join(_table(list(_fields(form))) for form in forms)
    else:
        inside = f"<p>{_type(shape)}</p>"
    return f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{inside}</details>'


def _fields(shape: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, str]]:
    """Each field with what may stand in it; those of an object inside it under its name."""
    for name, one in shape["properties"].items():
        said = [] if name in shape.get("required", ()) else ["may be left out"]
        said += [one["description"]] if "description" in one else []
        soft = f" <span class=soft>– {_prose('; '.join(said))}</span>" if said else ""
        yield f"<code>{escape(before + name)}</code>", _type(one) + soft
        if "properties" in one:
            yield from _fields(one, f"{before}{name}.")


def _type(shape: Mapping[str, Any]) -> str:
    """What a value is, in a few words."""
    if "$ref" in shape:
        return _link(shape["$ref"].rpartition("/")[2])
    for word in ("anyOf", "oneOf"):
        if word in shape:
            return " or ".join(dict.fromkeys(map(_type, shape[word])))
    if "const" in shape:
        return f"<code>{escape(json.dumps(shape['const']))}</code>"
    if "enum" in shape:
        shown = [f"<code>{escape(json.dumps(each, ensure_ascii=False))}</code>" for each in shape["enum"][:_MANY]]
        return ", ".join(shown) + (f" and {len(shape['enum']) - _MANY} more" if len(shape["enum"]) > _MANY else "")
    kinds = shape.get("type", "anything")
    words = [_word(kind, shape) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
    return " or ".join(words) + escape(_bounds(shape))


def _word(kind: str, shape: Mapping[str, Any]) -> str:
    if kind == "array":
        return f"list of {_type(shape['items'])}" if "items" in shape else "list"
    if kind == "string":
        return {"date-time": "instant", "date": "date"}.get(shape.get("format", ""), "text")
    if kind == "object" and "properties" in shape:
        names = ", ".join(f"<code>{escape(name)}</code>" for name in shape["properties"])
        return f"object of {names}"
    return {"integer": "whole number", "boolean": "true or false"}.get(kind, kind)


def _bounds(shape: Mapping[str, Any]) -> str:
    said = []
    for low, high, unit in (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " of them"),
    ):
        if low in shape and high in shape:
            said.append(f"{_plain(shape[low])} to {_plain(shape[high])}{unit}")
        elif low in shape or high in shape:
            said.append(
                f"at least {_plain(shape[low])}{unit}" if low in shape else f"at most {_plain(shape[high])}{unit}"
            )
    return f", {', '.join(said)}" if said else ""


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)


def _prose(text: str) -> str:
    """Text with its `words of code` as such."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _link(name: str) -> str:
    return f'<a href="#{escape(name)}"><code>{escape(name)}</code></a>'


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    cells = ("<tr>" + f"<th>{row[0]}" + "".join(f"<td>{cell}" for cell in row[1:]) for row in rows)
    return f"<table>{''.join(cells)}</table>"


def _problems(problems: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    yield "<div class=wide><table><tr><th>Code<th>Status<th>Meaning<th>Cure"
    for each in problems:
        cells = (
            f"<code>{escape(each['code'])}</code>",
            str(each["status"]),
            _prose(each["title"]),
            _prose(each["cure"]),
        )
        yield "<tr>" + "".join(f"<td>{cell}" for cell in cells)
    yield "</table></div>"
