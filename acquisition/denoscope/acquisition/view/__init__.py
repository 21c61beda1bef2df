"""The live view: the newest raw and denoised frame of a running session, side by side in napari.

The session and the window are two processes, whichever of them starts the other. They share a `Board`:
the session leaves its newest frames there and never waits; the window looks when it has time. Whatever
happens to the window, a stall or a crash, costs the recording nothing.

::

    denoscope live --view:  the session starts a window          (`LiveWindow`, `_window_process`)
    the plugin in napari:   the window's dock starts a session   (`LiveDock`, `_session_process`)
"""
