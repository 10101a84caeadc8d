"""Fuzzing: what comes from outside, mutated, into every parser and into a real server.

python -m tests.fuzz [--minutes 60] [--only sse_parser,live] [--seed 1]
python -m tests.fuzz --again TARGET FILE

A target is a function of bytes that raises when something is wrong (`targets.py`); `live` is a real
server with a real Valkey (`live.py`). Inputs are made by atheris, which goes where there is new code, or
by dice where it cannot be had. What is found is kept in `.fuzz/findings`, what leads to new code in
`.fuzz/corpus`.
"""
