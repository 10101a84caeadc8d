-- What a client may do to a session. ARGV: shut, lift or '' (the gate), how long a pause lasts (ms),
-- the final event or ''. Answers the state after it: flag, epoch, the last entry's id, f, k, z, the
-- gate's turn, the gate or '', how long it still lasts (ms).
local held = redis.call('HMGET', meta, 'epoch', 'gone', 'gate')
if held[2] then return { 'DELETED' } end
if not held[1] then return { 'GONE' } end
local top = last()
if not top then return { 'LOST' } end
local flag = top.z and 'CLOSED' or 'OK'
local gate = gate_of(held[3])
local turn = text(math.max(gate.turn + 1, now()))
if ARGV[1] == 'shut' and gate.seq == '' and not top.z then
  -- What lies above a hole nobody has been sent.
  local head = walk(top, false)
  redis.call('HSET', meta, 'gate', gate_text(turn, text(head), now() + ARGV[2]))
elseif ARGV[1] == 'lift' and gate.seq ~= '' then
  redis.call('HSET', meta, 'gate', turn)
end
if ARGV[3] ~= '' and not top.z then
  local epoch = above(tonumber(held[1]), top)
  close(top, epoch, ARGV[3])
  redis.call('HSET', meta, 'epoch', text(epoch))
  top = last()
end
gate = gate_of(redis.call('HGET', meta, 'gate'))
return { flag, text(top.epoch), top.id, text(top.f), text(top.k), top.z or '', text(gate.turn), gate.seq,
  text(gate.left) }
