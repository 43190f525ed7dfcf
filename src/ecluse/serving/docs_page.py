"""The documentation as one HTML page: an OpenAPI document, written out. No script, no style sheet, no font from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --key: #0b6e99; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { background: var(--soft); padding: .75rem 1rem; overflow-x: auto; border-radius: 6px; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; } summary code { font-weight: 600; }
.method { display: inline-block; min-width: 3rem; color: var(--key); font-weight: 600; }
.soft { opacity: .7; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); }
"""


def make_page(document: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document that ``make_document`` made."""
    info = document["info"]
    schemas = document["components"]["schemas"]
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(info['title'])} <small class=soft>{escape(info['version'])}</small></h1>",
            f"<p>{escape(info['description'])} The document itself: <a href='/openapi.json'>/openapi.json</a>.</p>",
            "<h2>Routes</h2>",
            *_routes(document["paths"]),
            "<h2>Shapes</h2>",
            *(_shape(name, shape) for name, shape in schemas.items()),
            "<h2>Problems</h2>",
            *_problems(document["x-problems"]),
            "</body></html>",
        ]
    )


def _routes(paths: Mapping[str, Any]) -> Iterable[str]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            permission = operation["x-permission"]
            allowed = "anybody" if permission == "open" else f"permission <code>{escape(permission)}</code>"
            rows = [f"<tr><th>Who<td>{allowed}"]
            if body := operation.get("requestBody"):
                rows.append(f"<tr><th>Takes<td>{_contents(body['content'])}")
            for status, answer in operation["responses"].items():
                if "content" in answer:
                    rows.append(f"<tr><th>{escape(status)}<td>{_contents(answer['content'])}")
            yield (
                f"<details><summary><span class=method>{method.upper()}</span><code>{escape(path)}</code> "
                f"<span class=soft>{escape(operation['summary'])}</span></summary><table>{''.join(rows)}</table></details>"
            )


def _contents(contents: Mapping[str, Any]) -> str:
    return "<br>".join(
        f"{_link(content['schema'])} <span class=soft>{escape(kind)}</span>" for kind, content in contents.items()
    )


def _link(schema: Mapping[str, Any]) -> str:
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    return f'<a href="#{escape(name)}"><code>{escape(name)}</code></a>' if name else "<code>text</code>"


def _shape(name: str, shape: Mapping[str, Any]) -> str:
    text = escape(json.dumps(shape, indent=2, ensure_ascii=False))
    return f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary><pre>{text}</pre></details>'


def _problems(problems: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    yield "<table><tr><th>Code<th>Status<th>Meaning<th>Cure"
    for each in problems:
        cells = (
            f"<code>{escape(each['code'])}</code>",
            str(each["status"]),
            escape(each["title"]),
            escape(each["cure"]),
        )
        yield "<tr>" + "".join(f"<td>{cell}" for cell in cells)
    yield "</table>"
