-- What a client may do to a session. ARGV: shut, lift or '' (the gate), how long a pause lasts (ms),
-- the final event or ''. Answers the state after it: flag, epoch, the last entry's id, f, k, z, gate.
local held = redis.call('HMGET', meta, 'epoch', 'gone', 'gate')
if held[2] then return { 'DELETED' } end
if not held[1] then return { 'GONE' } end
local top = last()
if not top then return { 'LOST' } end
local flag = top.z and 'CLOSED' or 'OK'
local gate, clock = held[3], now()
if gate and tonumber(string.match(gate, '%d+$')) <= clock then gate = false end
if ARGV[1] == 'shut' and not gate and not top.z then
  gate = text(top.head) .. ' ' .. text(clock + ARGV[2])
  redis.call('HSET', meta, 'gate', gate)
elseif ARGV[1] == 'lift' then
  gate = false
  redis.call('HDEL', meta, 'gate')
end
if ARGV[3] ~= '' and not top.z then
  local epoch = above(tonumber(held[1]), top)
  close(top, epoch, ARGV[3])
  redis.call('HSET', meta, 'epoch', text(epoch))
  top = last()
end
return { flag, text(top.epoch), top.id, text(top.f), text(top.k), top.z or '', gate or '' }
