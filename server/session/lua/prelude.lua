-- What every script begins with: Redis' clock, and the log as its last entry shows it.
-- An entry's id is <epoch>-<last seq> (a marker's is <epoch>-0); its fields: e, '<first seq> <ordinal>' and
-- then a line an event; z, the final event. A log has lost nothing iff it is as long as the last ordinal.
local meta, log = KEYS[1], KEYS[2]

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function text(number)
  return string.format('%.0f', number)
end

-- How much of a lease is left, ms. Nobody's is `most` long: then the clock has gone back, as after a failover to a
-- machine with another, and it shall not hold for so long; its owner, if there is one, renews it before it ends.
local function left_of(lease, most)
  local left = tonumber(lease) - now()
  if left <= most then return left end
  redis.call('HSET', meta, 'lease', text(now() + most))
  return most
end

local function entry(row)
  if not row then return nil end
  local found = { id = row[1] }
  for i = 1, #row[2], 2 do found[row[2][i]] = row[2][i + 1] end
  local epoch, seq = string.match(row[1], '^(%d+)-(%d+)$')
  found.epoch, found.seq = tonumber(epoch), tonumber(seq)
  local first, ordinal = string.match(found.e, '^(%d+) (%d+)')
  found.f, found.k = tonumber(first), tonumber(ordinal)
  found.head = found.seq == 0 and found.f - 1 or found.seq
  return found
end

local function last()
  return entry(redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1])
end

local function dense(top)
  return redis.call('XLEN', log) == top.k
end

-- The gate is '<turn>' or, while it is shut, '<turn> <seq> <until, ms>'. Each pause and each resume is a
-- turn, above all before it, so that one that Redis lost is known by those who were told.
local function gate_of(value)
  local turn, seq, till = string.match(value or '0', '^(%d+) ?(%d*) ?(%d*)$')
  local shut = seq ~= '' and tonumber(till) > now()
  return { turn = tonumber(turn), seq = shut and seq or '', left = shut and tonumber(till) - now() or 0 }
end

local function gate_text(turn, seq, till)
  return seq == '' and turn or turn .. ' ' .. seq .. ' ' .. text(till)
end

-- Walks the log; returns the dense prefix's head, number of entries and last id, and removes what lies beyond.
local function walk(top, remove)
  if dense(top) then return top.head, top.k, top.id end
  local head, count, id, from, broken, ended = 0, 0, '', '-', false, false
  while true do
    local page = redis.call('XRANGE', log, from, '+', 'COUNT', 100)
    if #page == 0 then return head, count, id end
    for _, row in ipairs(page) do
      local found = entry(row)
      broken = broken or ended or found.f ~= head + 1 or found.k ~= count + 1
      if broken and not remove then return head, count, id end
      if broken then
        redis.call('XDEL', log, found.id)
      else
        head, count, id, ended = found.head, count + 1, found.id, found.z
      end
      from = '(' .. found.id
    end
  end
end

-- Closes the log with its final event, under an epoch that nobody has had.
local function close(top, epoch, final)
  local head, count = walk(top, true)
  local id = text(epoch) .. '-' .. text(head + 1)
  redis.call('XADD', log, id, 'e', text(head + 1) .. ' ' .. text(count + 1), 'z', final)
  return id
end

local function above(epoch, top)
  return math.max(epoch + 1, (top and top.epoch or 0) + 1, now())
end
