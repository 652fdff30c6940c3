"""The commands: parse, call core, render, choose the exit code."""
