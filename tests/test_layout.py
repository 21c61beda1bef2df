"""The layout keeps its promises: namespace package, import hygiene, pinned sets, README and CI agree."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("train", "export", "runtime", "acquisition")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("part", PARTS)
def test_denoscope_is_a_namespace(part: str) -> None:
    assert not (ROOT / part / "denoscope" / "__init__.py").exists()
    assert [p.name for p in (ROOT / part / "denoscope").iterdir() if p.name != "__pycache__"] == [part]
    assert (ROOT / part / "denoscope" / part / "__init__.py").is_file()
    assert (ROOT / part / "denoscope" / part / "py.typed").is_file()


def modules_of(part: str) -> list[str]:
    source = ROOT / part
    return [".".join(p.relative_to(source).with_suffix("").parts) for p in source.rglob("*.py")]


def loaded_after(statements: str) -> set[str]:
    code = f"import json, sys\n{statements}\nprint(json.dumps(sorted(sys.modules)))"
    paths = json.dumps([str(ROOT / part) for part in PARTS])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.path[:0] = {paths}\n{code}"],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("part", ["runtime", "acquisition"])
def test_no_module_imports_torch(part: str) -> None:
    names = [m.removesuffix(".__init__") for m in modules_of(part) if not m.endswith("__main__")]
    assert len(names) > 10
    assert "torch" not in loaded_after("\n".join(f"import {name}" for name in names))


def test_importing_the_runtime_loads_nothing_heavy() -> None:
    heavy = {"torch", "onnx", "onnxruntime", "openvino", "matplotlib", "pydantic", "tifffile", "ome_types"}
    assert not heavy & loaded_after("import denoscope.runtime")


def test_versions_that_belong_together_are_pinned() -> None:
    pins = dict(line.split("==") for line in PROJECT["optional-dependencies"]["micromanager"])
    interface = pins["pymmcore"].split(".")[3]
    assert pins["mm-test-adapters"].split(".")[0] == interface
    assert f"device-interface number must be {interface}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_base_install_has_no_torch() -> None:
    names = {re.split(r"[<>=\[]", line)[0] for line in PROJECT["dependencies"]}
    assert not names & {"torch", "openvino", "pycromanager", "matplotlib", "scipy", "scikit-image"}


def test_a_session_loads_no_command_line() -> None:
    loaded = loaded_after("from denoscope.acquisition import denoise_movie, fill_run, live")
    assert not loaded & {"typer", "rich", "torch", "matplotlib"}


# Strings outside the command line that may hold an option: a whole command to type, or another program's options.
WHOLE_COMMAND = re.compile(r"denoscope (?:build|denoise|doctor|live|train) |pip install |nvidia-smi --")
OTHER_PROGRAMS = {
    "acquisition/denoscope/acquisition/bench/provenance.py": {
        "--error-unmatch",
        "--porcelain",
        "--untracked-files=no",
    },
    "acquisition/denoscope/acquisition/diagnostics/gpu.py": {
        "--query-gpu=",
        "--format=csv,noheader,nounits",
    },
    "acquisition/denoscope/acquisition/session/ending/skipped.py": {
        "--fill"
    },  # of a whole command, word by word
}


def sentences(tree: ast.AST) -> Iterator[str]:
    """Return every string of a module; of an f-string the fixed parts, joined."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(p.value for p in node.values if isinstance(p, ast.Constant))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        else:
            yield from sentences(node)


@pytest.mark.parametrize("part", PARTS)
def test_only_the_command_line_names_options(part: str) -> None:
    """Messages from below speak of parameters, since Python has no options; the shell translates them."""
    for path in sorted((ROOT / part).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if "/acquisition/cli/" in name:
            continue
        allowed = OTHER_PROGRAMS.get(name, set())
        found = set()
        for text in sentences(ast.parse(path.read_text(encoding="utf-8"))):
            if re.search(r"(?<![\w-])--[a-z]", text) and not WHOLE_COMMAND.search(text):
                found.add(text)
        assert found <= allowed, f"{name} names options: {found - allowed}"
        assert allowed <= found, f"{name} is excused for what it no longer says: {allowed - found}"


def test_no_command_maps_a_movie() -> None:
    """A mapped file that is cut short, or whose network drive goes away, ends the whole program without a word."""
    found = 0
    for part in ("train", "export", "acquisition"):
        for path in (ROOT / part).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if "import" not in text or "open_movie(" not in text:
                continue
            for call in ast.walk(ast.parse(text)):
                name = getattr(call.func, "id", "") if isinstance(call, ast.Call) else ""
                opens = name == "open_any_movie" or (name == "open_movie" and "offline" not in path.parts)
                if isinstance(call, ast.Call) and opens:
                    found += 1
                    words = {k.arg: getattr(k.value, "value", None) for k in call.keywords}
                    assert words.get("mapped") is False, f"{path}:{call.lineno}"
    assert found > 4


@pytest.mark.parametrize("part", PARTS)
def test_a_room_holds_at_most_fifteen_modules(part: str) -> None:
    """Beside its `__init__`, which says what the room is for."""
    for folder in {path.parent for path in (ROOT / part / "denoscope").rglob("*.py")}:
        modules = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
        assert len(modules) <= 15, f"{folder.relative_to(ROOT)} holds {len(modules)}: {modules}"


def test_values_are_typed() -> None:
    """Values that are read again have a model or a named type; see docs/decisions/0072-typed-values.md."""
    places = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for part in PARTS
        for path in sorted((ROOT / part / "denoscope").rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if "dict[str, Any]" in line
    ]
    assert len(places) <= 32, places


def test_docstrings_begin_with_a_noun_or_a_verb() -> None:
    riddle = re.compile(r'"""(What|Whether|Where|Which)\b')
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in (*PARTS, "tests")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.lstrip().startswith('"""') and riddle.match(line.lstrip())
    ]
    assert not found


def test_the_names_that_order_the_tests_are_those_of_tests() -> None:
    tests = ROOT / "tests"
    for node in ast.parse((tests / "conftest.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id == "LONG":
                assert ast.literal_eval(node.value) <= {path.stem for path in tests.rglob("test_*.py")}
            if node.targets[0].id == "APART":
                code = "".join(path.read_text(encoding="utf-8") for path in tests.rglob("test_*.py"))
                missing = [name for name in ast.literal_eval(node.value) if f"def {name}(" not in code]
                assert missing == []
