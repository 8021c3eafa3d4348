"""Adapters and prompts → what the simulated participants answer."""
