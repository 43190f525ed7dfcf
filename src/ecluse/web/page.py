"""The documentation of the control API as one page: an OpenAPI document, written out. No script, nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; } pre { overflow-x: auto; padding: .5rem 0; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; }
td { vertical-align: top; padding: .3rem .8rem .3rem 0; border-top: 1px solid var(--line); }
"""


def make_page(document: Mapping[str, Any]) -> str:
    """The page of a document; :func:`~ecluse.web.control.make_control` makes one."""
    info = document["info"]
    shapes = document.get("components", {}).get("schemas", {})
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(info['title'])}</h1><p>{escape(info['description'])}</p>",
            "<p>The document itself: <a href='/openapi.json'>/openapi.json</a>.</p>",
            "<h2>Routes</h2><table><tr><th>route</th><th>scope</th><th></th></tr>",
            *_routes(document["paths"]),
            "</table><h2>Shapes</h2>",
            *(
                f"<h3>{escape(name)}</h3><pre>{escape(json.dumps(shape, indent=2))}</pre>"
                for name, shape in shapes.items()
            ),
            "</body></html>",
        ]
    )


def _routes(paths: Mapping[str, Any]) -> Iterable[str]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            said = escape(operation.get("description", operation.get("summary", "")))
            asked = escape(operation.get("x-permission", ""))
            yield f"<tr><td><code>{method.upper()} {escape(path)}</code></td><td>{asked}</td><td>{said}</td></tr>"
