"""Docstrings of public functions: what goes in, what comes out, what is refused; and their examples run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from denoscope import runtime
from denoscope.runtime.backends import registry

PARTS = ("runtime", "train", "export", "acquisition")
BUNDLES_AND_EXTRAS = ("live", "train", "gpu")
EXAMPLES = sorted(name for name in runtime.__all__ if inspect.isfunction(getattr(runtime, name)))


def public_functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for part in PARTS:
        module = importlib.import_module(f"denoscope.{part}")
        for name in module.__all__:
            if inspect.isfunction(getattr(module, name)):
                yield f"{part}.{name}", getattr(module, name)


def lacking(function: Callable[..., Any]) -> list[str]:
    """Return what a function's docstring leaves out."""
    words = inspect.getdoc(function) or ""
    signature = inspect.signature(function)
    sections = set(re.findall(r"^(\w+)\n-{3,}$", words, re.MULTILINE))
    wanted = {"Parameters"} if signature.parameters else set()
    if signature.return_annotation not in (None, "None"):
        wanted.add("Returns")
    if re.search(r"^\s+raise \w+\(", inspect.getsource(function), re.MULTILINE):
        wanted.add("Raises")
    described = words.split("Parameters\n", 1)[-1]
    unsaid = [name for name in signature.parameters if not re.search(rf"\b{name}\b", described)]
    return sorted(wanted - sections) + unsaid


def test_every_public_function_says_what_it_takes_returns_and_refuses() -> None:
    missing = {name: lacking(function) for name, function in public_functions()}
    assert {name: what for name, what in missing.items() if what} == {}


@pytest.mark.parametrize("part", PARTS)
def test_the_map_of_a_part_names_all_that_is_public_and_nothing_else(part: str) -> None:
    module = importlib.import_module(f"denoscope.{part}")
    words = inspect.getdoc(module) or ""
    named = {name.split(".")[0] for name in re.findall(r"(?<!`)`([A-Za-z][\w.]*)`(?!`)", words)}
    wanted = {name for name in module.__all__ if not inspect.ismodule(getattr(module, name))}
    assert wanted - named == set()
    assert {name for name in named - wanted if name not in ("denoscope", *BUNDLES_AND_EXTRAS)} == set()


@pytest.mark.parametrize(
    "room", ["runtime", "runtime.movies", "train", "export", "acquisition", "acquisition.results"]
)
def test_public_names_are_imported_late_and_no_module_has_one(room: str) -> None:
    """Importing a module sets it as an attribute of its room, in place of a function of the same name."""
    module = importlib.import_module(f"denoscope.{room}")
    modules = {each.name for each in pkgutil.iter_modules(module.__path__)}
    clash = sorted(modules & set(module.__all__))
    assert [name for name in clash if not inspect.ismodule(getattr(module, name))] == []
    late = {name for names in module._MODULES.values() for name in names}
    assert not modules & late
    assert late | modules >= set(module.__all__) >= late
    assert dir(module) == sorted(module.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Denoiser'"):
        module.Denoiser  # noqa: B018


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    function = getattr(runtime, name)
    names = {each: getattr(runtime, each) for each in EXAMPLES} | {"Path": Path}
    (found,) = doctest.DocTestFinder(recurse=False).find(function, name, module=False, globs=names)
    assert found.examples, f"{name} shows no example"
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(found, out=said.append).failed == 0, "".join(said)


@pytest.mark.parametrize(("part", "least"), [("train", 10), ("export", 4)])
def test_examples_of_a_part_run(part: str, least: int) -> None:
    shown = 0
    for name, function in public_functions():
        if name.startswith(part):
            module = importlib.import_module(function.__module__)
            (found,) = doctest.DocTestFinder(recurse=False).find(function, name, module=module)
            said: list[str] = []
            assert doctest.DocTestRunner().run(found, out=said.append).failed == 0, "".join(said)
            shown += bool(found.examples)
    assert shown >= least
