"""Declared grids of completions: recorded, resumed, replayed and compared, on any target."""
