"""Cameras that Micro-Manager drives: in this process, or in a running Micro-Manager over its Java server."""
