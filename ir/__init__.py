"""The graph IR: dims, Selections, ops, graph, text form, verification, cost, WeightMaps and the interpreter."""
