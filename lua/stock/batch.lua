-- batch.lua: clears notes and takes stock for reservations: one call for all that came while the last was under way.
--
-- keys   s t b o d w
-- args   channel, sale, generation, version of the spec, now (ms), number of notes, notes …, then 8 a reservation:
--        ticket, buyer, quantity, key hash or '', body hash, hash of the buyer, deadline (ms), packed ticket
-- reply  {status, length of the feed, epoch, available, answer …}; status 'ok', or why nothing at all was done:
--        'nosale' 'paused' 'gen' 'spec'. An answer is 1 won · 2 sold out · {3, available} not enough · {4, pending,
--        ticket …} limit reached · 5 same key, other body · {6, pending, ticket, packed} repeat · 7 bad quantity ·
--        8 not open · 9 closed · 10 the id is another's · 11 the id was resolved as absent
-- keeps  a unit is taken exactly when its ticket and its note are written; nothing is written before all is decided
local channel, sale, now = ARGV[1], ARGV[2], tonumber(ARGV[5])
local why = refused(ARGV[3])
if why then return { why } end
local m = redis.call('HMGET', S, 'v', 'av', 'live', 'ep', 'sw', 'opens', 'closes', 'limit', 'qmax', 'cr')
local notes = tonumber(ARGV[6])
local first = 7 + notes
if m[1] ~= ARGV[4] and ARGV[first] then return { 'spec' } end

-- Notes whose records are in a log by now. Only a note that still stands gives its units back, and only once.
local changed, reopened, returned = {}, false, 0
if notes > 0 then
  local plain = {}
  for i = 7, first - 1 do
    local name = ARGV[i]
    local kind = string.sub(name, 1, 1)
    if kind == 'o' then
      plain[#plain + 1] = name
      if #plain == 1000 then -- unpack has its bound
        redis.call('ZREM', O, unpack(plain))
        plain = {}
      end
    elseif redis.call('ZREM', O, name) == 1 then
      if kind == 'r' then
        returned = returned + tonumber(string.match(name, '([^:]+)$'))
      elseif kind == 's' then
        returned = returned + tonumber(string.match(name, '^s0:(%d+):'))
      end
      if kind ~= 's' then changed[#changed + 1] = string.sub(name, 2, 27) end
    end
  end
  if #plain > 0 then redis.call('ZREM', O, unpack(plain)) end
  if returned > 0 then reopened = bring_back(returned) end
end

local answers = {}
if ARGV[first] then
  if notes > 0 then m = redis.call('HMGET', S, 'v', 'av', 'live', 'ep', 'sw', 'opens', 'closes', 'limit', 'qmax', 'cr') end
  local av, taken = tonumber(m[2]), 0
  local limit, qmax, with_released = tonumber(m[8]), tonumber(m[9]), m[10] == '1'
  local window = 0
  if m[5] == 'c' then
    window = 9
  elseif m[5] == 's' then
    if m[7] ~= '' and now >= tonumber(m[7]) then
      window = 9
    elseif m[6] == '' or now < tonumber(m[6]) then
      window = 8
    end
  end

  local ids, names = {}, {}
  for i = first, #ARGV, 8 do
    local n = (i - first) / 8 + 1
    ids[n], names[n] = ARGV[i], ARGV[i + 1]
  end
  local known = redis.call('HMGET', T, unpack(ids))
  local held = redis.call('HMGET', B, unpack(names))
  local buyers = {} -- as this call leaves them
  local t_new, b_new, o_new, d_new, feed = {}, {}, {}, {}, {}
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
    local id, buyer, quantity, key, body = ids[n], names[n], tonumber(ARGV[i + 2]), ARGV[i + 3], ARGV[i + 4]
    local b = buyers[buyer] or held[n]
    if b and key ~= '' then
      -- Newest first; entries are 58 bytes after the first ';'.
      for e = #b - 57, string.find(b, ';', 1, true) + 1, -58 do
        if string.sub(b, e + 26, e + 41) == key then
          if string.sub(b, e + 42, e + 57) ~= body then return 5 end
          local other = string.sub(b, e, e + 25)
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
        local other = string.sub(entries, e, e + 25)
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
    mine[id] = ARGV[i + 7]
    local kept = key == '' and '----------------' or key
    if b then
      b = (counted + quantity) .. ',' .. (ever + quantity) .. ';' .. entries .. id .. kept .. body
    else
      b = ARGV[i + 2] .. ',' .. ARGV[i + 2] .. ';' .. id .. kept .. body
    end
    buyers[buyer] = b
    wins = wins + 1
    local k = wins + wins
    b_new[k - 1], b_new[k] = buyer, b
    t_new[k - 1], t_new[k] = id, ARGV[i + 7]
    o_new[k - 1], o_new[k] = at, 'o' .. id .. ':1:0'
    d_new[k - 1], d_new[k] = ARGV[i + 6], id
    feed[k - 1], feed[k] = id, ARGV[i + 5]
    return 1
  end

  local n = 0
  for i = first, #ARGV, 8 do
    n = n + 1
    answers[n] = reserve(n, i)
  end
  if taken > 0 then
    redis.call('HSET', T, unpack(t_new))
    redis.call('HSET', B, unpack(b_new))
    redis.call('ZADD', O, unpack(o_new))
    redis.call('ZADD', D, unpack(d_new))
    redis.call('RPUSH', W, table.concat(feed))
    redis.call('HSET', S, 'av', av, 'live', tonumber(m[3]) + taken)
    reopened = reopened or av <= 0 -- news either way
  end
end
if reopened or #changed > 0 then publish(channel, sale, changed) end
m = redis.call('HMGET', S, 'ep', 'av')
return { 'ok', redis.call('LLEN', W), tonumber(m[1]), m[2], unpack(answers) }
