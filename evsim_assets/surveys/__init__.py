"""From raw waves to clean answers and splits of participants."""
