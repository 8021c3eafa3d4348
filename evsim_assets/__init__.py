"""evsim: language models as stand-ins for surveyed populations. One room, one stage."""
