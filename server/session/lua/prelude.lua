-- What every script begins with: Redis' clock, and the log as its last entry shows it.
-- An entry's id is <epoch>-<last seq> (a marker's is <epoch>-0); fields: f(irst seq), k (ordinal),
-- e(vents), z (the final event). A log has lost nothing iff it is as long as its last entry's ordinal.
local meta, log = KEYS[1], KEYS[2]

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function text(number)
  return string.format('%.0f', number)
end

local function entry(row)
  if not row then return nil end
  local found = { id = row[1] }
  for i = 1, #row[2], 2 do found[row[2][i]] = row[2][i + 1] end
  local epoch, seq = string.match(row[1], '^(%d+)-(%d+)$')
  found.epoch, found.seq = tonumber(epoch), tonumber(seq)
  found.f, found.k = tonumber(found.f), tonumber(found.k)
  found.head = found.seq == 0 and found.f - 1 or found.seq
  return found
end

local function last()
  return entry(redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1])
end

local function dense(top)
  return redis.call('XLEN', log) == top.k
end

-- Removes what lies beyond the first hole; returns the dense prefix's head and number of entries.
local function cut(top)
  if dense(top) then return top.head, top.k end
  local head, count, from, broken, ended = 0, 0, '-', false, false
  while true do
    local page = redis.call('XRANGE', log, from, '+', 'COUNT', 100)
    if #page == 0 then return head, count end
    for _, row in ipairs(page) do
      local found = entry(row)
      broken = broken or ended or found.f ~= head + 1 or found.k ~= count + 1
      if broken then
        redis.call('XDEL', log, found.id)
      else
        head, count, ended = found.head, count + 1, found.z
      end
      from = '(' .. found.id
    end
  end
end

-- Closes the log with its final event, under an epoch that nobody has had.
local function close(top, epoch, final)
  local head, count = cut(top)
  local id = text(epoch) .. '-' .. text(head + 1)
  redis.call('XADD', log, id, 'f', text(head + 1), 'k', text(count + 1), 'z', final)
  return id
end

local function above(epoch, top)
  return math.max(epoch + 1, (top and top.epoch or 0) + 1, now())
end
