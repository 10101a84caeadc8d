-- Deletes a session, and leaves a tombstone so that its producer does not restore it, not even one
-- that Redis has lost just now.
-- KEYS[3]: the viewers' hash. ARGV: the tombstone's ttl (ms).
redis.call('DEL', meta, log, KEYS[3])
redis.call('HSET', meta, 'gone', '1')
redis.call('PEXPIRE', meta, ARGV[1])
return { 'OK' }
