"""The benchmark: the same work for this server and for its peers, in one interleaved run."""
