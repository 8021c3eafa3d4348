"""What `workspace.yaml` loads: the definitions of the project in the current folder."""

from evsim_assets.definitions import build_definitions

defs = build_definitions()
