"""Does in a real napari what a user does: runs the script of the page, fills in the dock, starts, watches, leaves.

Words: the page, the movie, the bundle, the run folder, the regions, the file for the picture.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import napari
from view_layout import check_layout, until


def main() -> None:
    page, movie, bundle, output, regions, picture = sys.argv[1:]
    script, *_ = re.findall(r"```python\n(.*?)```", Path(page).read_text(encoding="utf-8"), flags=re.DOTALL)
    napari.run = lambda: None
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(script, names)
    viewer, dock = names["viewer"], names["dock"]
    dock.core.setCurrentText(f"replay:{movie}")
    dock.bundle.setCurrentText(bundle)
    dock.output.setText(output)
    dock.fps.setValue(4)
    dock.regions.setText(regions)
    dock.std.setChecked(True)
    dock.start.click()
    until(lambda: dock.session is None)
    assert dock.display.bar.line.text().startswith("finished"), dock.words.text()
    # However slow the computer is to draw, the last frames are on the screen now, and stay.
    assert dock.display.traces.frames == 40
    check_layout(dock)
    check_layout(dock.display.traces.parentWidget())
    viewer.screenshot(picture, canvas_only=False, flash=False)
    seen = viewer.screenshot(canvas_only=True, flash=False)[..., 0]
    middle = seen.shape[1] // 2
    for half in (seen[:, :middle], seen[:, middle:]):
        assert (half > 64).mean() > 0.1, "a picture is blank"
    viewer.close()


if __name__ == "__main__":
    main()
