"""A token-stream server: one upstream token stream, one log in Redis, SSE and WebSocket."""
