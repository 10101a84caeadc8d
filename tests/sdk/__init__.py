"""Other people's clients, as they come from their registries."""
