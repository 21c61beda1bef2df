"""Starts a session as the dock does, says when its board is there, and waits to be killed."""

from __future__ import annotations

import json
import sys
import time

from denoscope.acquisition.view.docks.child_session import ChildSession

if __name__ == "__main__":
    session = ChildSession(json.loads(sys.argv[1]))
    while (event := session.poll()) is None:
        time.sleep(0.01)
    print(event["event"], flush=True)
    time.sleep(600)
