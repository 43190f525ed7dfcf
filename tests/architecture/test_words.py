"""House rules about the sources themselves: sizes, docstrings, facades, nothing left undone."""

import ast
import re
from collections.abc import Iterator

from tests.architecture.sources import Source, package_sources

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
LEFT_UNDONE = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")


def _functions(source: Source) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _is_inner_init(source: Source) -> bool:
    return source.path.name == "__init__.py" and source.module != "ecluse"


def test_the_package_never_imports_its_own_facade() -> None:
    # `from ecluse import Entity` inside would load the facade, and hide which module is meant from the layers.
    strays = [source.module for source in package_sources() if "ecluse" in source.imports()]
    assert not strays


def test_inner_packages_are_empty() -> None:
    assert not [s.module for s in package_sources() if _is_inner_init(s) and s.text.strip()]


def test_files_are_short() -> None:
    lengths = {source.module: len(source.text.splitlines()) for source in package_sources()}
    assert not {module: lines for module, lines in lengths.items() if lines > MAX_FILE_LINES}


def test_functions_are_short() -> None:
    lengths = {
        f"{source.module}:{function.name}": (function.end_lineno or function.lineno) - function.lineno + 1
        for source in package_sources()
        for function in _functions(source)
    }
    assert not {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES}


def test_every_module_says_what_it_is_for() -> None:
    assert not [s.module for s in package_sources() if not _is_inner_init(s) and not ast.get_docstring(s.tree)]


def test_nothing_is_left_undone() -> None:
    found = [
        f"{source.path.name}:{number}: {line.strip()}"
        for source in package_sources()
        for number, line in enumerate(source.text.splitlines(), start=1)
        if LEFT_UNDONE.search(line)
    ]
    assert not found
