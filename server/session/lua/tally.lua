-- ARGV: a session, its bytes. Field '' of the hash is the sum of the others.
local old = redis.call('HGET', KEYS[1], ARGV[1]) or 0
local sum = (redis.call('HGET', KEYS[1], '') or 0) + ARGV[2] - old
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], '', string.format('%.0f', sum))
