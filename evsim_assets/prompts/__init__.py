"""From answers to chat prompts, and from chat prompts to tokens."""
