"""Asks Dagster what is missing or out of date, and runs that and nothing else.

Beside the stages' `assets.py`, `definitions.py`, `automation.py` and `planning` this is the only room of
evsim_assets that imports Dagster: it is what a terminal has in place of the UI and the daemon.
"""
