-- Hands a session whose producer's lease has lapsed to an heir, who goes on under a new epoch: behind
-- what there is, or from nothing. Asked again by the same heir it answers OK.
-- ARGV: owner, lease ms, ttl ms, the last entry's id as the heir has read it ('' to begin anew), how many
-- heirs a session may have, the most that a lease may have left (ms). What was appended since it read, its
-- upstream would not go on from: MOVED.
local held = redis.call('HMGET', meta, 'epoch', 'lease', 'gone', 'owner', 'heirs', 'gate')
if not held[1] or held[3] then return { 'GONE' } end
local top = last()
if not top then return { 'LOST' } end
if top.z and dense(top) then return { 'CLOSED' } end
if held[4] == ARGV[1] then return { 'OK', held[1] } end
local left = left_of(held[2], tonumber(ARGV[6]))
if left > 0 then return { 'HELD', text(left) } end
local heirs = tonumber(held[5] or 0) + 1
if heirs > tonumber(ARGV[5]) then return { 'SPENT' } end
local epoch = above(tonumber(held[1]), top)
local head, count, id = 0, 0, ''
if ARGV[4] == '' then
  redis.call('DEL', log)
  local gate = gate_of(held[6])
  if gate.seq ~= '' then
    -- What comes anew is held, too.
    redis.call('HSET', meta, 'gate', gate_text(text(math.max(gate.turn + 1, now())), '0', now() + gate.left))
  end
else
  head, count, id = walk(top, false)
  if id ~= ARGV[4] then return { 'MOVED' } end
  walk(top, true)
end
redis.call('XADD', log, text(epoch) .. '-0', 'e', text(head + 1) .. ' ' .. text(count + 1))
redis.call('HSET', meta, 'epoch', text(epoch), 'owner', ARGV[1], 'lease', text(now() + ARGV[2]),
  'heirs', text(heirs))
redis.call('HDEL', meta, 'report')
redis.call('PEXPIRE', meta, ARGV[3])
redis.call('PEXPIRE', log, ARGV[3])
return { 'OK', text(epoch) }
