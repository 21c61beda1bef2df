"""Measure how tidy the project is, as a table that two versions of it can be compared in.

    python benchmarks/house.py [TREE]... [--json FILE]

Each TREE is a checkout (default: this one). Numbers are counted from the text and syntax of the sources; nothing is
imported and nothing is run.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from _provenance import write_results

PARTS = ("train", "export", "runtime", "acquisition")
Row = tuple[str, str]


def sources(tree: Path) -> dict[str, tuple[str, ast.Module]]:
    """Return dotted name, part and syntax of each module of the four parts."""
    found = {}
    for part in PARTS:
        for path in sorted((tree / part / "denoscope").rglob("*.py")):
            name = ".".join(path.relative_to(tree / part).with_suffix("").parts).removesuffix(".__init__")
            found[name] = (part, ast.parse(path.read_text(encoding="utf-8")))
    return found


def imports(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield module and name of each absolute import of this project."""
    for node in ast.walk(module):
        if (
            isinstance(node, ast.ImportFrom)
            and not node.level
            and (node.module or "").startswith("denoscope.")
        ):
            for alias in node.names:
                yield str(node.module), alias.name


def is_private(module: str, name: str) -> bool:
    """Return whether a module or name of an import begins with an underscore."""
    return name.startswith("_") or any(part.startswith("_") for part in module.split("."))


def attributes_of(node: ast.ClassDef) -> int:
    """Return how many attributes a class gives its objects."""
    names = {
        target.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Assign | ast.AnnAssign | ast.AugAssign)
        for target in ast.walk(each)
        if isinstance(target, ast.Attribute)
        and isinstance(target.ctx, ast.Store)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
    }
    fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
    return len(names) + len(fields)


def largest(items: list[tuple[int, str]], count: int = 5) -> str:
    """Return the largest of some sizes with their names, as text."""
    return ", ".join(f"{name} {size}" for size, name in sorted(items, reverse=True)[:count])


def rows(tree: Path) -> Iterator[Row]:
    """Yield the rows of the table: what is counted, and the count."""
    modules = sources(tree)
    trees = [module for _, module in modules.values()]
    folders = Counter(
        str(path.parent.relative_to(tree))
        for part in PARTS
        for path in (tree / part / "denoscope").rglob("*.py")
    )
    yield (
        "modules in the largest folders",
        largest([(n, folder.split("denoscope/")[-1]) for folder, n in folders.items()]),
    )
    crossing = sum(
        is_private(target, name)
        for part, module in modules.values()
        for target, name in imports(module)
        if target.split(".")[1] != part
    )
    yield "private names imported across parts", str(crossing)
    text = "\n".join(ast.unparse(module) for module in trees)
    yield "`dict[str, Any]`", str(text.count("dict[str, Any]"))
    classes = [
        (attributes_of(node), node.name)
        for module in trees
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef)
        and not any(
            "BaseModel" in ast.unparse(base) or "Protocol" in ast.unparse(base) for base in node.bases
        )
    ]
    yield "attributes of the five largest classes", largest(classes)
    functions = [
        ((node.end_lineno or 0) - (node.body[0].end_lineno or 0), node.name)
        for module in trees
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef)
    ]
    yield "lines of the longest functions, without docstring", largest(functions)
    private = sum(
        is_private(target, name)
        for path in (tree / "tests").rglob("*.py")
        for target, name in imports(ast.parse(path.read_text(encoding="utf-8")))
    )
    yield "private names imported by tests", str(private)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = [
        ast.get_docstring(node) or ""
        for module in trees
        for node in ast.walk(module)
        if isinstance(node, documented)
    ]
    yield (
        "docstrings that begin with What, Whether or Where",
        str(sum(bool(re.match(r"(What|Whether|Where)\b", each)) for each in docstrings)),
    )
    pages = [*(tree / "docs").rglob("*.md"), *tree.glob("*.md")]
    long = sum(len(line) > 120 for page in pages for line in page.read_text(encoding="utf-8").splitlines())
    yield "lines of Markdown over 120 characters", str(long)
    readme = (tree / "README.md").read_text(encoding="utf-8")
    yield "README: lines, words", f"{len(readme.splitlines())}, {len(readme.split())}"
    tests = sum(
        len(re.findall(r"^\s*(?:async )?def test_", path.read_text(encoding="utf-8"), re.M))
        for path in (tree / "tests").rglob("*.py")
    )
    yield "test functions", str(tests)


def main() -> None:
    """Print the table, one column a tree."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("trees", nargs="*", type=Path, default=[Path(__file__).parents[1]])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    tables: list[dict[str, str]] = [dict(rows(tree)) for tree in arguments.trees]
    print("| what | " + " | ".join(str(tree.resolve().name) for tree in arguments.trees) + " |")
    print("|---" * (1 + len(tables)) + "|")
    for what in tables[0]:
        print(f"| {what} | " + " | ".join(table[what] for table in tables) + " |")
    if arguments.json:
        names = [tree.resolve().name for tree in arguments.trees]
        write_results(
            arguments.json, [{"tree": name, **table} for name, table in zip(names, tables, strict=True)]
        )


if __name__ == "__main__":
    main()
