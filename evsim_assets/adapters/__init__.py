"""Prompts → LoRA and QLoRA adapters, each with its losses and its learning curve."""
