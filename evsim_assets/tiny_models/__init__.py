"""The tiny models of data/models: their text, their tokenizer, their pre-training."""
