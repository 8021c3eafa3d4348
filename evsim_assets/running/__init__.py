"""Asks Dagster what is missing or out of date, and runs that and nothing else.

Beside `assets.py`, `definitions.py` and `automation.py` this is the only room of evsim_assets that
imports Dagster: it is what a terminal has in place of the UI and the daemon.
"""
