"""Models that are no language models: SVR, CatBoost and random answers."""
