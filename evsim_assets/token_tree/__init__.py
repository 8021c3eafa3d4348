"""Token sequences that begin alike as one tree: the engine of training and reading."""
