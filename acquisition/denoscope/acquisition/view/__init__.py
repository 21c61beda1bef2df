"""The live view: the newest raw and denoised frame of a running session, side by side in napari.

The session and the window are two processes, whichever of them starts the other. They share a `Board`:
the session leaves its newest frames there and never waits; the window looks when it has time. Whatever
happens to the window, a stall or a crash, costs the recording nothing.

::

    denoscope live --view:  the session starts a window          (`LiveWindow`, `view.window.process`)
    the plugin in napari:   the window's dock starts a session   (`LiveDock`, `view.docks.session_process`)

Four rooms, each of which imports from those below it:

- `docks`: the plugin's docks, and the processes that they start
- `window`: what is seen of a session: pictures, bar, line, and the process of the window
- `traces`: the plot of a recording's traces, from its file
- `board`: memory that session and window share, and the session's end of it
"""
