-- Puts back the gate's latest turn, which a node was told of and Redis has lost.
-- ARGV: turn, the gate ('' if that turn lifted it), how long it still lasts (ms).
local held = redis.call('HMGET', meta, 'epoch', 'gone', 'gate')
if held[2] or not held[1] then return { 'GONE' } end
if gate_of(held[3]).turn >= tonumber(ARGV[1]) then return { 'CLOSED' } end
redis.call('HSET', meta, 'gate', gate_text(ARGV[1], ARGV[2], now() + ARGV[3]))
return { 'OK' }
