"""Looking at architectures: what a terminal, a page or a script shows of a graph."""
