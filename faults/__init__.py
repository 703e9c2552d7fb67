"""The fault matrix: what is broken for each scenario, and by which verdict it has to be known."""
