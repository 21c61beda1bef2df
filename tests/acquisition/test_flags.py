"""Messages from below name parameters; the command line names its own options."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import pytest
import typer

from denoscope.acquisition import make_settings
from denoscope.acquisition.cli.app import COMMANDS, main
from denoscope.acquisition.cli.flags import flags_of, speaking_in_flags, with_flags
from denoscope.runtime import InvalidInput


def spoken(command: str, text: str) -> str:
    said: list[str] = []

    def speak(
        movie: Annotated[Path | None, typer.Argument()] = None,
        look_ahead: int | None = None,
        size: Annotated[list[str] | None, typer.Option()] = None,
        fill: Path | None = None,
        everything: Annotated[bool, typer.Option("--all")] = False,
        highest: Annotated[bool, typer.Option("--highest/--no-highest")] = True,
    ) -> None:
        said.append(with_flags(text))

    if command:
        speaking_in_flags(speak)()
        return said[0]
    return with_flags(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("raise `look_ahead` 9", "raise --look-ahead 9"),
        ("`sizes` big is not a size", "--size big is not a size"),
        ("`movie` a.tif, `everything`", "MOVIE a.tif, --all"),
        ("`run` is none", "--fill is none"),
        ("`highest`", "--highest"),
        ("`output` and `denoscope live --core demo`", "`output` and `denoscope live --core demo`"),
        ("2 channels: 0 `size`, 1 `fill`: choose", "2 channels: 0 `size`, 1 `fill`: choose"),
    ],
)
def test_parameters_become_options(text: str, expected: str) -> None:
    assert spoken("speak", text) == expected
    assert spoken("", text) == text, "outside a command nothing changes"


def test_every_command_knows_its_options() -> None:
    for name, module in COMMANDS.items():
        flags = flags_of(getattr(import_module(module), name))
        assert flags["json"] == "--json", name
    assert flags_of(import_module(COMMANDS["live"]).live)["look_ahead"] == "--look-ahead"


def test_one_mistake_in_python_and_in_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidInput, match=r"^`look_ahead` -3"):
        make_settings(core="demo", output=tmp_path, look_ahead=-3)
    with pytest.raises(SystemExit):
        main(["live", "--core", "demo", "--output", str(tmp_path / "run"), "--look-ahead", "-3"])
    assert capsys.readouterr().err.startswith("denoscope: --look-ahead -3")
