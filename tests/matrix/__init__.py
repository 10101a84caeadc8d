"""Every client that people already have, as it comes from its registry, against two nodes."""
