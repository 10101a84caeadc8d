#!/bin/sh
# Ask, lose the connection, go on where it was; with nothing but curl. Start a server with `make run`, then:
#   sh examples/curl.sh [URL]
set -eu
url=${1:-http://127.0.0.1:8080}

# The whole answer as plain text; curl fails if it breaks off.
curl -fsSN "$url/v1/sessions?stream=text" -d '{"prompt":"Tell me about streams","tokens":20,"rate":50}'
echo

# Start a session, and read its events until the connection is gone after a while.
sid=$(curl -fsS "$url/v1/sessions" -d '{"prompt":"Tell me about streams","tokens":60,"rate":50}' |
  sed 's/.*"id":"\([^"]*\)".*/\1/')
seen=$(curl -fsSN --max-time 0.5 "$url/v1/sessions/$sid/events" || true)

# Come back with the id of the last event that came whole.
last=$(printf '%s\n' "$seen" | grep '^id: ' | sed '$d' | tail -n 1 | cut -d ' ' -f 2)
curl -fsSN -H "Last-Event-ID: $last" "$url/v1/sessions/$sid/events"

# What has ended can be aborted, too: it says how it ended.
curl -fsS -X POST "$url/v1/sessions/$sid/abort"
echo
