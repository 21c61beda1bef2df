"""Formats that a library of the extras ``vendors`` and ``video`` decodes: microscope vendors' files and videos."""
