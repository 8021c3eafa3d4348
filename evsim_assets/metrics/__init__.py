"""Agreement of simulated answers with human ones, and what it is to be held against."""
