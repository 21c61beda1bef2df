"""The command line: the only room that imports typer or names a flag."""
