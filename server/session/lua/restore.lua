-- Rewrites a log that Redis lost, or that has a hole, from its producer's memory: the same ids, the
-- same bytes. ARGV: owner, epoch, lease ms, ttl ms, spec, digest, the gate's turn, the gate or '', how
-- long it still lasts (ms), the last entry's id,
-- the deadline (Redis' clock: a call that arrives after the lease may meet a loss that hides who took
-- over), then each entry: how many arguments, id and fields. Without entries only the hash is written
-- anew, and with it the lease: a log may have to wait for its turn.
local held = redis.call('HMGET', meta, 'epoch', 'owner', 'gone')
local clock = now()
if clock >= tonumber(ARGV[11]) then return { 'LATE' } end
if held[3] then return { 'DELETED' } end
if held[1] and held[2] ~= ARGV[1] then return { 'FENCED', held[1] } end
if held[1] and tonumber(held[1]) > tonumber(ARGV[2]) then return { 'MOVED', held[1] } end
local top = last()
if top and top.epoch > tonumber(ARGV[2]) then return { 'MOVED', text(top.epoch) } end
if top and top.z and top.id ~= ARGV[10] then return { 'MOVED', text(top.epoch) } end
-- One that arrives a second time must not remove what was acknowledged since.
local seq = tonumber(string.match(ARGV[10], '%d+$'))
if held[1] and top and top.epoch == tonumber(ARGV[2]) and top.seq >= seq and dense(top) then
  return { 'OK', text(clock) }
end
if #ARGV > 11 then redis.call('DEL', log) end
local at = 12
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  redis.call('XADD', log, unpack(ARGV, at + 1, at + count))
  at = at + count + 1
end
redis.call('HSET', meta, 'epoch', ARGV[2], 'owner', ARGV[1], 'lease', text(clock + ARGV[3]),
  'spec', ARGV[5], 'digest', ARGV[6])
if tonumber(ARGV[7]) > gate_of(redis.call('HGET', meta, 'gate')).turn then
  redis.call('HSET', meta, 'gate', gate_text(ARGV[7], ARGV[8], now() + ARGV[9]))
end
redis.call('PEXPIRE', meta, ARGV[4])
redis.call('PEXPIRE', log, ARGV[4])
return { 'OK', text(clock) }
