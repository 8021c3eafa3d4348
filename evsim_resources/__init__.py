"""What assets are given, never what they compute: compute, models, the lake and its SQL."""
