-- The owner's sign of life. KEYS[3]: the viewers' hash.
-- ARGV: owner, lease ms (0 releases), ttl ms, report ('' for none).
local held = redis.call('HMGET', meta, 'epoch', 'owner', 'gone', 'gate', 'lease', 'heirs')
if held[3] then return { 'DELETED' } end
if not held[1] then return { 'GONE' } end
if held[2] ~= ARGV[1] then return { 'FENCED', held[1] } end
local clock = now()
if tonumber(ARGV[2]) == 0 and ARGV[4] == '' and held[5] ~= '0' then
  -- Handed over in good order: the next heir is none of a death.
  redis.call('HSET', meta, 'heirs', text(tonumber(held[6] or 0) - 1))
end
local top = last()
local leaves = tonumber(ARGV[2]) == 0 and ARGV[4] ~= ''
local whole = top and dense(top) and (top.z or not leaves)
-- Who has ended leaves no log that has lost something: it keeps its lease, and mends that first.
if whole or not leaves then
  redis.call('HSET', meta, 'lease', text(tonumber(ARGV[2]) > 0 and clock + ARGV[2] or 0))
end
if ARGV[4] ~= '' then redis.call('HSET', meta, 'report', ARGV[4]) end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[3]) end
local viewers = 0
for _, line in ipairs(redis.call('HVALS', KEYS[3])) do
  local count, till = string.match(line, '^(%d+) (%d+)$')
  if tonumber(till) > clock then viewers = viewers + tonumber(count) end
end
return { 'OK', held[1], top and top.id or '', text(redis.call('XLEN', log)), text(viewers),
  text(redis.call('HLEN', KEYS[3])), text(clock),
  whole and '1' or '0' }
