"""The package's own sources as parsed trees, for the architecture tests."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Source:
    """One module of the package: its dotted name, its text and its tree."""

    module: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The folder (or top-level module) under `ecluse` that holds it; empty for the package itself."""
        return self.module.partition(".")[2].partition(".")[0]

    def imports(self) -> Iterator[str]:
        """Every module named by an import statement, wherever it stands: top level, function or type checking."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield "." * node.level + (node.module or "")
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                yield from (str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant))


@cache
def package_sources() -> tuple[Source, ...]:
    """All modules under src/ecluse, templates excepted: those are data, imported by nobody."""
    package = ROOT / "src" / "ecluse"
    found = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        if parts[:2] == ("ecluse", "templates"):
            continue
        text = path.read_text(encoding="utf-8")
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Source(module, path, text, ast.parse(text, filename=str(path))))
    return tuple(found)
