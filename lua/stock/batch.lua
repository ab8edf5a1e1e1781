-- batch.lua: clears notes and takes stock for reservations: one call for all that came while the last was under way.
--
-- keys   s t b o d w
-- args   channel, sale, generation, version of the spec, now (ms), number of orders' notes, notes …, number of other notes,
--        notes …, number of reservations, their tickets …, their buyers …, then 5 each: quantity, entry of the buyer's
--        tickets (see b in common.lua), win (see w), deadline (ms), packed ticket. In this order the calls below take them
--        as they came: what is copied here is copied for every single order.
-- reply  {status, length of the feed, epoch, available, answer …}; status 'ok', or why nothing at all was done:
--        'nosale' 'paused' 'gen' 'spec'. An answer is 1 won · 2 sold out · {3, available} not enough · {4, pending,
--        ticket …} limit reached · 5 same key, other body · {6, pending, ticket, packed} repeat · 7 bad quantity ·
--        8 not open · 9 closed · 10 the id is another's · 11 the id was resolved as absent
-- keeps  a unit is taken exactly when its ticket and its note are written; nothing is written before all is decided
local channel, sale, now = ARGV[1], ARGV[2], tonumber(ARGV[5])
local why = refused(ARGV[3])
if why then return { why } end
local ARGV, sub = ARGV, string.sub -- a global is looked up each time
local m = redis.call('HMGET', S, 'v', 'av', 'live', 'ep', 'sw', 'opens', 'closes', 'limit', 'qmax', 'cr')
local orders_end = 6 + tonumber(ARGV[6])
local notes_end = orders_end + 1 + tonumber(ARGV[orders_end + 1])
local count = tonumber(ARGV[notes_end + 1])
if m[1] ~= ARGV[4] and count > 0 then return { 'spec' } end

-- Notes whose records are in a log by now. Only a note that still stands gives its units back, and only once.
for i = 7, orders_end, 1000 do -- unpack has its bound
  redis.call('ZREM', O, unpack(ARGV, i, math.min(i + 999, orders_end)))
end
local changed, reopened, returned = {}, false, 0
for i = orders_end + 2, notes_end do
  local name = ARGV[i]
  if redis.call('ZREM', O, name) == 1 then
    local kind = sub(name, 1, 1)
    if kind == 'r' then
      returned = returned + tonumber(string.match(name, '([^:]+)$'))
    elseif kind == 's' then
      returned = returned + tonumber(string.match(name, '^s0:(%d+):'))
    end
    if kind ~= 's' then changed[#changed + 1] = sub(name, 2, 27) end
  end
end
if returned > 0 then reopened = bring_back(returned) end

local answers = {}
if count > 0 then
  if returned > 0 then m = redis.call('HMGET', S, 'v', 'av', 'live', 'ep', 'sw', 'opens', 'closes', 'limit', 'qmax', 'cr') end
  local av, taken = tonumber(m[2]), 0
  local limit, qmax, with_released = tonumber(m[8]), tonumber(m[9]), m[10] == '1'
  local window = 0
  if m[5] == 'c' or m[7] ~= '' and now >= tonumber(m[7]) then
    window = 9
  elseif m[5] == 's' and (m[6] == '' or now < tonumber(m[6])) then
    window = 8
  end

  local ids, names, first = notes_end + 1, notes_end + 1 + count, notes_end + 2 + 2 * count
  local known = redis.call('HMGET', T, unpack(ARGV, ids + 1, ids + count))
  local held = redis.call('HMGET', B, unpack(ARGV, names + 1, names + count))
  local buyers = {} -- as this call leaves them
  -- Made in the size that they may come to: growing would cost as much again. What stands in them first is overwritten.
  local function room(values) return { unpack(ARGV, first, first + values - 1) } end
  local t_new, b_new, o_new, d_new, feed = room(2 * count), room(2 * count), room(2 * count), room(2 * count), {}
  local mine = {} -- packed tickets of this call
  local wins = 0
  local at = string.format('%.0f', clock()) -- text: a number would be formatted again for each win

  local function told(id)
    local packed = mine[id]
    if packed then return packed, 1 end
    packed = redis.call('HGET', T, id)
    return packed, pending(id, cmsgpack.unpack(packed))
  end

  local function reserve(n, i)
    local id, buyer, quantity, entry = ARGV[ids + n], ARGV[names + n], tonumber(ARGV[i]), ARGV[i + 1]
    local b = buyers[buyer] or held[n]
    if b and sub(entry, 27, 27) ~= '-' then
      local key, body = sub(entry, 27, 42), sub(entry, 43)
      -- Newest first; entries are 58 bytes after the first ';'.
      for e = #b - 57, string.find(b, ';', 1, true) + 1, -58 do
        if sub(b, e + 26, e + 41) == key then
          if sub(b, e + 42, e + 57) ~= body then return 5 end
          local other = sub(b, e, e + 25)
          local packed, open = told(other)
          return { 6, open, other, packed }
        end
      end
    end
    if quantity == 0 or quantity > qmax then return 7 end
    if window > 0 then return window end
    local counted, ever, entries = 0, 0, ''
    if b then
      local c, e, rest = string.match(b, '^(%d+),(%d+);(.*)$')
      counted, ever, entries = tonumber(c), tonumber(e), rest
    end
    if (with_released and ever or counted) + quantity > limit then
      local answer, open, units = { 4, 0 }, 0, 0
      for e = #entries - 57, 1, -58 do
        if units == (with_released and ever or counted) or #answer == 102 then break end
        local other = sub(entries, e, e + 25)
        local packed, waits = told(other)
        local t = cmsgpack.unpack(packed)
        if with_released or not RELEASED[t[STATUS]] then
          answer[#answer + 1] = other
          units = units + t[QUANTITY]
          if waits == 1 then open = 1 end
        end
      end
      answer[2] = open
      return answer
    end
    if av <= 0 then return 2 end
    if av < quantity then return { 3, av } end
    local before = mine[id] or known[n]
    if before == 'x' then return 11 end
    if before then
      local t = cmsgpack.unpack(before)
      if t[BUYER] ~= buyer then return 10 end
      return { 6, mine[id] and 1 or pending(id, t), id, before }
    end
    av = av - quantity
    taken = taken + quantity
    mine[id] = ARGV[i + 4]
    if b then
      b = (counted + quantity) .. ',' .. (ever + quantity) .. ';' .. entries .. entry
    else
      b = ARGV[i] .. ',' .. ARGV[i] .. ';' .. entry
    end
    buyers[buyer] = b
    wins = wins + 1
    local k = wins + wins
    b_new[k - 1], b_new[k] = buyer, b
    t_new[k - 1], t_new[k] = id, ARGV[i + 4]
    o_new[k - 1], o_new[k] = at, 'o' .. id .. ':1:0'
    d_new[k - 1], d_new[k] = ARGV[i + 3], id
    feed[wins] = ARGV[i + 2]
    return 1
  end

  for n = 1, count do answers[n] = reserve(n, first + 5 * (n - 1)) end
  if taken > 0 then
    local last = 2 * wins
    redis.call('HSET', T, unpack(t_new, 1, last))
    redis.call('HSET', B, unpack(b_new, 1, last))
    redis.call('ZADD', O, 'inf', STAYS, unpack(o_new, 1, last))
    redis.call('ZADD', D, unpack(d_new, 1, last))
    redis.call('RPUSH', W, table.concat(feed))
    redis.call('HSET', S, 'av', av, 'live', tonumber(m[3]) + taken)
    reopened = reopened or av <= 0 -- news either way
  end
end
if reopened or #changed > 0 then publish(channel, sale, changed) end
m = redis.call('HMGET', S, 'ep', 'av')
return { 'ok', redis.call('LLEN', W), tonumber(m[1]), m[2], unpack(answers) }
