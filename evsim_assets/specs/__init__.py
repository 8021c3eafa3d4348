"""What may stand in a survey's, a study's and a simulation's file, and how errors in them read."""
