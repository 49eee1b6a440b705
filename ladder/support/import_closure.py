"""The modules of Ladder that a module imports, found from the source without importing them."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = "ladder"
ROOT = Path(__file__).parents[1]


def import_closure(*roots: str) -> dict[str, Path]:
    """``roots`` and every module of Ladder that they import, directly or indirectly: name -> file.

    Imports within functions count, those only for type checkers do not. The package of an imported
    module counts too, since its ``__init__`` runs first.
    """
    found: dict[str, Path] = {}
    queue = list(roots)
    while queue:
        name = queue.pop()
        if name in found:
            continue
        path = module_file(name)
        if path is None:
            raise ValueError(f"no module '{name}'")
        found[name] = path
        queue += [*_imports(path), *_parents(name)]
    return dict(sorted(found.items()))


def closure_digest(*roots: str) -> str:
    """Hash of the files of ``import_closure`` by module name; paths on disk do not matter."""
    digest = hashlib.sha256()
    for name, path in import_closure(*roots).items():
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


@cache
def module_file(name: str) -> Path | None:
    """The file of a module of Ladder; None for any other name."""
    package, *rest = name.split(".")
    if package != PACKAGE:
        return None
    place = ROOT.joinpath(*rest)
    files = (place / "__init__.py", place.with_suffix(".py") if rest else place)
    return next((file for file in files if file.is_file()), None)


def _parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts)))


@cache
def _imports(path: Path) -> tuple[str, ...]:
    return tuple(_found_imports(ast.parse(path.read_text(encoding="utf-8"))))


def _found_imports(tree: ast.Module) -> Iterator[str]:
    for node in _running(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if module_file(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module and module_file(node.module):
            yield node.module
            # A name imported from a package may be one of its modules.
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name for name in names if module_file(name))


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Every node except those under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield from (other, *_running(other))
        else:
            yield from (child, *_running(child))
