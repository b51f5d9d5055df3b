"""Search: spaces around a model, budgets, objectives, sweeps, samplers, the ladder of scores, one variant a layer."""
