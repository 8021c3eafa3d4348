"""From a raw file that nobody has described to a codebook for a person to correct."""
