"""A viewer without a window, for the session's tests: looks at the board as `_window_process` does.

Says ``ready``, and leaves what it saw in ``seen.json`` in the run folder. In a run folder called
``stopped`` it asks the session to stop as soon as it has seen a frame.
"""

from __future__ import annotations

import json
import queue
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

from denoscope.acquisition.processes.child import speak
from denoscope.acquisition.processes.shared_memory import Slab
from denoscope.acquisition.processes.wire import Wire
from denoscope.acquisition.view.board.board import Board, Slot, Wish
from denoscope.acquisition.view.traces.tail import TraceTail
from denoscope.acquisition.view.window.past import PastFrames


def listen(wire: Wire, lines: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    while (message := wire.receive()) is not None:
        lines.put(message.words)
    lines.put(None)


def preview(board: Board) -> Any:
    """Look until there are pictures, then ask for the recording; return the status of the preview."""
    while board.get(Slot.DENOISED) is None or board.get_status() is None:
        board.beat()
        time.sleep(0.002)
    status = board.get_status()
    board.ask(Wish.RECORD)
    board.close()
    return status


def watch(slab: Slab, lines: queue.SimpleQueue[dict[str, Any] | None]) -> dict[str, Any]:
    words = lines.get()
    assert words is not None
    previewed = words["preview"] and preview(Board.follow(slab.again(), words["name"], words["nbytes"]))
    if previewed:
        words = lines.get()
        assert words is not None
    board = Board.follow(slab, words["name"], words["nbytes"])
    orders = {Slot.RAW: 0, Slot.DENOISED: 0}
    seen: dict[str, Any] = {
        "RAW": [],
        "DENOISED": [],
        "torn": 0,
        "past": [0, 0],
        "status": None,
        "opened": words,
        "preview": previewed,
    }
    asked = False
    past, moment = PastFrames(board.places, Path(words["output"])), random.Random(1)
    tail = TraceTail(Path(words["output"])) if words["regions"] else None
    while lines.empty():
        board.beat()
        for slot, order in orders.items():
            picture = board.get(slot, order)
            if picture is not None:
                orders[slot] = picture.order
                seen[slot.name].append(picture.number)
                seen["torn"] += int(picture.pixels.min() != picture.pixels.max())
        if seen["RAW"]:  # somebody moves the slider all the time
            for slot in orders:
                old = past.read(slot, moment.randrange(seen["RAW"][-1] + 1))
                if old is not None:
                    seen["past"][slot] += 1
                    seen["torn"] += int(old.pixels.min() != old.pixels.max())
        if tail is not None and tail.read():
            seen["traces"] = tail.frames
        seen["status"] = board.get_status() or seen["status"]
        if words["output"].endswith("stopped") and not asked and seen["RAW"]:
            board.ask(Wish.STOP)
            asked = True
        time.sleep(0.002)
    seen["status"] = board.get_status()
    board.close()
    return seen


def main() -> None:
    wire = speak()
    slab = Slab(int(sys.argv[1]) if len(sys.argv) > 1 else None)
    lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(wire, lines), daemon=True).start()
    wire.send({"event": "ready"})
    seen = watch(slab, lines)
    (Path(seen["opened"]["output"]) / "seen.json").write_text(json.dumps(seen), encoding="utf-8")


if __name__ == "__main__":
    main()
