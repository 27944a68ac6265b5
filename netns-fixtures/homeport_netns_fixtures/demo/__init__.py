"""The demonstration behind `make demo`: real guests and a real container on Networks of `examples/`, told as it goes.

`__main__` checks the machine, runs the steps and cleans up; `story` and `vlans` are the steps; `narrator` prints.
"""
