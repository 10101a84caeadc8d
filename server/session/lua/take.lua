-- A session takes the newest place of its conversation, if that is still held by whom the caller saw.
-- KEYS[1]: the row, sid by start (ms). ARGV: sid, whom the caller saw ('' nobody, '*' whoever), ttl ms,
-- how many are kept. Answers its start, who was the newest before it, and since when (ms);
-- told once, it answers the same again.
local row = KEYS[1]
local held = redis.call('ZREVRANGE', row, 0, 1, 'WITHSCORES')
local clock = now()
local function since(place)
  return held[place] and text(clock - tonumber(held[place])) or '0'
end
if held[1] == ARGV[1] then return { 'OK', held[2], held[3] or '', since(4) } end
if ARGV[2] ~= '*' and (held[1] or '') ~= ARGV[2] then return { 'HELD', '0', held[1] or '', since(2) } end
local start = text(math.max(clock, held[2] and tonumber(held[2]) + 1 or 0))
redis.call('ZADD', row, start, ARGV[1])
redis.call('ZREMRANGEBYRANK', row, 0, -1 - tonumber(ARGV[4]))
redis.call('PEXPIRE', row, ARGV[3])
return { 'OK', start, held[1] or '', since(2) }
