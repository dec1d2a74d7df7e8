"""The composition root: opens connections and channels, nests the nurseries, owns start and stop."""
