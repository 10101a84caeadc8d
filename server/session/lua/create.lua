-- A new session, unless it is there; its own owner, asking again after a lost answer, is told OK.
-- ARGV: owner, lease ms, ttl ms, spec, digest.
local held = redis.call('HMGET', meta, 'digest', 'gone', 'owner', 'epoch')
if held[2] then return { 'GONE' } end
if held[3] == ARGV[1] then return { 'OK', held[4] } end
if held[1] then return { held[1] == ARGV[5] and 'EXISTS' or 'CONFLICT' } end
local epoch = above(0, last())
redis.call('DEL', log)
redis.call('XADD', log, text(epoch) .. '-0', 'e', '1 1')
redis.call('HSET', meta, 'epoch', text(epoch), 'owner', ARGV[1], 'lease', text(now() + ARGV[2]),
  'spec', ARGV[4], 'digest', ARGV[5])
redis.call('PEXPIRE', meta, ARGV[3])
redis.call('PEXPIRE', log, ARGV[3])
return { 'OK', text(epoch) }
