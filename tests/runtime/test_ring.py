"""The ring against a plain list that remembers everything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from denoscope.runtime.stream.ring import Ring

WINDOWS = [(window, ahead) for window in (3, 5, 7) for ahead in range(window // 2 + 1)]


@pytest.mark.parametrize(("window", "ahead"), WINDOWS)
@given(present=st.lists(st.booleans(), max_size=40))
def test_every_window_is_a_rotation_of_the_slots(window: int, ahead: int, present: list[bool]) -> None:
    half = window // 2
    ring: Ring[int] = Ring(window, ahead)
    slots: list[int | None] = [None] * ring.size
    absorbed: list[int] = []
    for position, there in enumerate(present):
        slots[ring.slot] = position
        step = ring.enter(position if there else None)
        centre = position - ahead

        def exists(i: int, newest: int = position) -> bool:
            return 0 <= i <= newest and present[i]

        assert step.centre == (centre if exists(centre) else None)
        wanted = range(centre - half, centre + half + 1)
        assert [bool(ring.presence >> i & 1) for i in range(window)] == [exists(i) for i in wanted]
        for place, i in enumerate(wanted):
            if exists(i):
                assert slots[(step.rotation + place) % ring.size] == i
        if step.leaving:
            absorbed.append(slots[step.rotation])  # type: ignore[arg-type]
        assert absorbed == [i for i in range(max(0, centre - half + 1)) if present[i]]
        assert ring.waiting == sum(present[max(0, centre + 1) : position + 1])
    ring.clear()
    assert ring.waiting == ring.presence == 0
    assert ring.slot == 0
