-- An heir's append. An epoch was handed to it, and a Redis that loses that may take appends of the one
-- before in between: so it writes only behind the very entry that it believes to be the last.
-- ARGV: owner, that entry's id, how many entries there are, the new entry's id, its fields.
local top = last()
if redis.call('HGET', meta, 'owner') ~= ARGV[1] then return { 'FENCED' } end
if not top or top.id ~= ARGV[2] or not dense(top) or text(top.k) ~= ARGV[3] then return { 'MOVED' } end
return redis.call('XADD', log, ARGV[4], unpack(ARGV, 5))
