r"""Measure how tidy the project is, as a table that two versions of it can be compared in.

    python benchmarks/house.py [TREE]... [--pytest S [S]...] [--ci S [S]...] [--wheel] [--speed] [--json FILE]

Each TREE is a checkout, or a commit of this repository; default: this checkout. Numbers are counted from the text and
syntax of the sources. `--pytest` and `--ci` give the seconds that the default tests and `.ci/run` took, one number a
tree, `-` where it is not known. `--wheel` builds a wheel of each tree. `--speed` measures the time to import and the
time of a push and of the hop to the denoiser's process, trees in turns, the best of `--repeat`; other programs on the
computer disturb it. The whole table, on a computer at rest:

    python benchmarks/house.py 94bd784 . --pytest 1934 388 --ci 1693 1230 --wheel --speed \
        --json benchmarks/results/house.json
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

from _provenance import write_results
from before_after import measure

ROOT = Path(__file__).resolve().parents[1]
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
        (lines_of(node), node.name)
        for module in trees
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef)
    ]
    yield "lines of the longest functions, without docstring", largest(functions)
    yield "functions over 60 lines", str(sum(size > 60 for size, _ in functions))
    tests = [ast.parse(path.read_text(encoding="utf-8")) for path in (tree / "tests").rglob("*.py")]
    private = sum(is_private(target, name) for module in tests for target, name in imports(module))
    yield "private names imported by tests", str(private)
    yield (
        "docstrings that begin with What, Whether or Where: parts, tests",
        f"{riddles(trees)}, {riddles(tests)}",
    )
    pages = [*(tree / "docs").rglob("*.md"), *tree.glob("*.md")]
    long = sum(len(line) > 120 for page in pages for line in page.read_text(encoding="utf-8").splitlines())
    yield "lines of Markdown over 120 characters", str(long)
    readme = (tree / "README.md").read_text(encoding="utf-8")
    yield "README: lines, words", f"{len(readme.splitlines())}, {len(readme.split())}"
    yield "test functions", str(sum(_tests_in(module) for module in tests))


def lines_of(node: ast.FunctionDef) -> int:
    """Return the lines of a function's body, without its docstring."""
    first = node.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    start = first.end_lineno if documented else first.lineno - 1
    return (node.end_lineno or 0) - (start or 0)


def riddles(modules: Sequence[ast.Module]) -> int:
    """Return how many docstrings begin with What, Whether or Where."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return sum(
        bool(re.match(r"(What|Whether|Where)\b", ast.get_docstring(node) or ""))
        for module in modules
        for node in ast.walk(module)
        if isinstance(node, documented)
    )


def _tests_in(module: ast.Module) -> int:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return sum(isinstance(node, functions) and node.name.startswith("test_") for node in ast.walk(module))


IMPORTS = {
    "seconds to import Stream": "from denoscope.runtime import Bundle, Stream",
    "seconds to import live": "from denoscope.acquisition import live",
}
OVERHEAD = {
    "push_p50_ms": "ms of a push, 512 x 512, a network that does almost nothing",
    "hop_p50_ms": "ms to the denoiser's process and back, 512 x 512",
}


def import_seconds(tree: Path, statement: str) -> float:
    """Return the seconds that a fresh interpreter takes for an import, its own start left out.

    Modules are compiled as in an installed version, in a folder beside the tree's; the first call compiles them.
    """
    code = f"import time; s = time.perf_counter(); {statement}; print(time.perf_counter() - s)"
    paths = os.pathsep.join(str(tree / part) for part in PARTS)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "PYTHONPATH": paths,
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "denoscope-house"),
        },
    )
    return float(done.stdout)


def speeds(trees: Sequence[Path], repeat: int) -> Iterator[tuple[str, list[str]]]:
    """Yield import times and the overhead of a frame of each tree, measured in turns, the best of each."""

    def best(what: Callable[[Path], dict[str, float]]) -> list[dict[str, float]]:
        found: list[dict[str, float]] = [{} for _ in trees]
        for _ in range(repeat):
            for tree, known in zip(trees, found, strict=True):
                try:
                    for name, value in what(tree).items():
                        known[name] = min(value, known.get(name, value))
                except (RuntimeError, subprocess.SubprocessError):  # an older version has no such thing
                    continue
        return found

    def shown(found: list[dict[str, float]], name: str) -> list[str]:
        return [f"{each[name]:.3f}" if name in each else "-" for each in found]

    for title, statement in IMPORTS.items():
        yield (
            title,
            shown(best(lambda tree, code=statement: {"s": import_seconds(tree, code)}), "s"),  # type: ignore[misc]
        )
    for what in ("push", "hop"):
        found = best(lambda tree, name=what: measure(tree, name, None))  # type: ignore[misc]
        yield OVERHEAD[f"{what}_p50_ms"], shown(found, f"{what}_p50_ms")


def wheel_size(tree: Path) -> str:
    """Return the megabytes of the wheel that is built of a tree."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, str(tree)],
            check=True,
            capture_output=True,
        )
        (wheel,) = Path(folder).glob("*.whl")
        return f"{wheel.stat().st_size / 1e6:.2f}"


def checkout(name: str, stack: ExitStack) -> Path:
    """Return the folder of a tree; the files of a commit are unpacked until `stack` closes."""
    if Path(name).is_dir():
        return Path(name).resolve()
    archive = subprocess.run(["git", "-C", ROOT, "archive", name], check=True, capture_output=True).stdout
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / name
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


def name_of(tree: Path) -> str:
    """Return the commit of a checkout, else the name of the folder."""
    words = ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    return commit if commit and (tree / ".git").exists() else tree.name


def main() -> None:
    """Print the table, one column a tree."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trees", nargs="*", default=[str(ROOT)])
    parser.add_argument("--pytest", nargs="+", help="Seconds of the default tests, one a tree.")
    parser.add_argument("--ci", nargs="+", help="Seconds of .ci/run, one a tree.")
    parser.add_argument("--wheel", action="store_true", help="Build a wheel of each tree.")
    parser.add_argument("--speed", action="store_true", help="Measure imports and the overhead of a frame.")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        trees = [checkout(name, stack) for name in arguments.trees]
        tables = [dict(rows(tree)) for tree in trees]
        given = {"seconds of the default tests": arguments.pytest, "seconds of .ci/run": arguments.ci}
        more = {title: values for title, values in given.items() if values}
        if arguments.wheel:
            more["MB of the wheel"] = [wheel_size(tree) for tree in trees]
        if arguments.speed:
            more |= dict(speeds(trees, arguments.repeat))
        for title, values in more.items():
            for table, value in zip(tables, values, strict=True):
                table[title] = value
        names = [name_of(tree) for tree in trees]
    print("| what | " + " | ".join(names) + " |")
    print("|---" * (1 + len(tables)) + "|")
    for what in tables[-1]:
        print(f"| {what} | " + " | ".join(table[what] for table in tables) + " |")
    if arguments.json:
        write_results(
            arguments.json, [{"tree": name, **table} for name, table in zip(names, tables, strict=True)]
        )


if __name__ == "__main__":
    main()
