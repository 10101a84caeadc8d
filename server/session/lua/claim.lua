-- Ends a session whose producer's lease has lapsed: the new epoch and the final event in one step.
-- ARGV: owner, final event, ttl ms of the tombstone, which is also the most that a lease may have left.
local held = redis.call('HMGET', meta, 'epoch', 'lease', 'gone')
if not held[1] or held[3] then return { 'GONE' } end
local top = last()
if top and top.z and dense(top) then return { 'CLOSED' } end
local left = left_of(held[2], tonumber(ARGV[3]))
if left > 0 then return { 'HELD', text(left) } end
if not top then
  redis.call('DEL', meta)
  redis.call('HSET', meta, 'gone', '1')
  redis.call('PEXPIRE', meta, ARGV[3])
  return { 'GONE' }
end
local epoch = above(tonumber(held[1]), top)
-- Never a `done` that was stranded above a hole: the log would claim to be whole.
close(top, epoch, ARGV[2])
redis.call('HSET', meta, 'epoch', text(epoch), 'owner', ARGV[1], 'lease', '0')
return { 'OK', text(epoch) }
