"""The shell's commands, one module each, imported only when they are asked for."""
