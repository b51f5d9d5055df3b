"""Search files, runs of them, and what people look at: `archc search` and `archc best` over `archc.search`."""
