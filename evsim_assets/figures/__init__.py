"""The look that all figures share; what a figure says belongs to the room whose result it shows."""
