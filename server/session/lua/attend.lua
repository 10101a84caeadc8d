-- How many viewers one node has. KEYS[3]: the viewers' hash. ARGV: node, count, for how long (ms),
-- ttl ms. Reading keeps a session alive.
if redis.call('HEXISTS', meta, 'epoch') == 0 then return { 'GONE' } end
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[3], ARGV[1])
else
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[2] .. ' ' .. text(now() + ARGV[3]))
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[4]) end
return { 'OK' }
