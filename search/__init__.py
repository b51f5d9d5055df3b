"""Search: spaces, budgets, objectives and samplers over architectures. Empty until the search issue fills it."""
