-- How many viewers one node has. KEYS[3]: the viewers' hash. ARGV: node, count, for how long (ms),
-- ttl ms. Reading keeps a session alive; a count of 0 stays, and shows that somebody has watched.
if redis.call('HEXISTS', meta, 'epoch') == 0 then return { 'GONE' } end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2] .. ' ' .. text(now() + ARGV[3]))
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[4]) end
return { 'OK' }
