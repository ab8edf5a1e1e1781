-- reapply.lua: brings records of a gateway's log into a paused sale: unconditionally, in any order, any number of times.
--
-- keys   s t b o d w r x a m
-- args   recovery (pause.lua), gateway, then records, each a msgpack array:
--        {'S', version, switch, spec, stock, opens, closes, limit, qmax, cr, deadline, paywin, item, born, over} a sale; over: when it
--        was put to rest, or 0
--        {'R', restock id, units}
--        {'O', ticket, hash of the buyer, packed ticket's fields} an order
--        {'T', ticket, version, status, at, buyer, quantity, claim epoch, order id, pay by, payment id, reason, hash of the
--        buyer} a transition
--        {'F', ticket, payment id} late money; it waits in s, as 'f' and the ticket, until the ticket is known
-- reply  'ok', or 'over' when this recovery has ended or another has begun
-- keeps  the newest version of a ticket wins, of equals the highest claim epoch, then what holds its units; available may go
--        below zero; a note whose record turns up is cleared; a ticket of which only a transition is known can be found
--        and is its buyer's like every other: the log with its order may never come. Of a sale at rest, logs may lack
--        whatever was before: what they still have of that is passed over, for a ticket without its last step is no ticket
local recovery, me = ARGV[1], ARGV[2]
local m = redis.call('HMGET', S, 'paused', 'rec', 'v', 'res', 'live', 'sold', 'back', 'ret', 'born', 'over')
if not m[1] or m[1] == '' or m[2] ~= recovery then return 'over' end
local version, res, live, sold, back = tonumber(m[3]), tonumber(m[4]), tonumber(m[5]), tonumber(m[6]), tonumber(m[7])
local ret, born = tonumber(m[8]), tonumber(m[9])
local over = tonumber(m[10] or 0)
local feed = {}
local REFUNDS_MAX = 8
-- Which of two steps to the same version is kept when a lost server took the one and its successor the other.
local HOLDS = { p = 2, a = 1 }

local function blank(buyer, quantity)
  return { 'q', 0, quantity, buyer, 0, 0, 0, '', '', me, 0, '', '', 0, '', 0, '', '', 0, {}, 0 }
end

local function effect(t)
  if not t or t[VERSION] == 0 then return 0, 0, 0 end
  local q = t[QUANTITY]
  if LIVE[t[STATUS]] then return q, 0, 0 end
  if t[STATUS] == 'p' then return 0, q, 0 end
  return 0, 0, q
end

-- An entry of a buyer's tickets, by key and body of the order; without one, no key matches it.
local NONE = string.rep('-', 16)
local function entry(id, key, body)
  return id .. (key == '' and NONE or key) .. (body == '' and NONE or body)
end

-- The entries with that of a ticket put in the place of the one it had.
local function replaced(entries, new)
  for e = 1, #entries, 58 do
    if string.sub(entries, e, e + 25) == string.sub(new, 1, 26) then
      return string.sub(entries, 1, e - 1) .. new .. string.sub(entries, e + 58)
    end
  end
  return entries .. new
end

-- Stores a ticket and what follows from its change: units, the buyer's allowance and entries, what is due. A ticket that was
-- not there is a win in the feed.
local function store(id, before, t, hash)
  local l0, s0, r0 = effect(before)
  local l1, s1, r1 = effect(t)
  live, sold, back = live + l1 - l0, sold + s1 - s0, back + r1 - r0
  local b = redis.call('HGET', B, t[BUYER])
  local counted, ever, entries = 0, 0, ''
  if b then
    local c, e, rest = string.match(b, '^(%d+),(%d+);(.*)$')
    counted, ever, entries = tonumber(c), tonumber(e), rest
  end
  counted = counted + l1 + s1 - l0 - s0
  if not before then
    ever = ever + t[QUANTITY]
    entries = entries .. entry(id, t[KEY], t[BODY])
    feed[#feed + 1] = id .. hash
  elseif before[BODY] ~= t[BODY] then
    entries = replaced(entries, entry(id, t[KEY], t[BODY]))
  end
  redis.call('HSET', B, t[BUYER], math.max(0, counted) .. ',' .. ever .. ';' .. entries)
  redis.call('HSET', T, id, cmsgpack.pack(t))
  if t[STATUS] == 'q' then
    redis.call('ZADD', D, t[DEADLINE], id)
  elseif t[STATUS] == 'a' then
    redis.call('ZADD', D, t[PAY_BY], id)
  else
    redis.call('ZREM', D, id)
  end
end

-- Twice: to compare with, and to change. A tombstone gives way: a log knows better.
local function load(id)
  local packed = redis.call('HGET', T, id)
  if packed == 'x' then
    redis.call('ZREM', X, id)
  elseif packed then
    return cmsgpack.unpack(packed), cmsgpack.unpack(packed)
  end
end

-- The ticket's newest record is in a log, as it turns out; or it is not the newest any more.
local function clear_note(id, t)
  if redis.call('ZREM', O, note(id, t)) == 1 and RELEASED[t[STATUS]] then ret = ret - t[QUANTITY] end
end

local function remember(t, payment)
  for _, known in ipairs(t[REFUNDS]) do
    if known == payment then return end
  end
  if #t[REFUNDS] == REFUNDS_MAX then table.remove(t[REFUNDS], 1) end
  table.insert(t[REFUNDS], payment)
  t[REFUNDS_EVER] = t[REFUNDS_EVER] + 1
end

-- Money that came before its ticket.
local function early_money(id, t)
  local packed = redis.call('HGET', S, 'f' .. id)
  if not packed then return end
  for _, payment in ipairs(cmsgpack.unpack(packed)) do remember(t, payment) end
  redis.call('HDEL', S, 'f' .. id)
end

local function order(r)
  local id, o = r[2], r[4]
  if over > 0 and o[WON] <= over then return end
  local before, t = load(id)
  if not t then
    t = o
    early_money(id, t)
  elseif t[BODY] == '' then
    -- Its transitions came first: the order's part is filled in.
    for _, field in ipairs({ WON, DEADLINE, KEY, BODY, ITEM, ATTRIBUTES, PAY_WINDOW }) do t[field] = o[field] end
  else
    if t[VERSION] == 1 and (o[EPOCH] > t[EPOCH] or o[EPOCH] == t[EPOCH] and o[OWNER] == t[OWNER]) then
      clear_note(id, t)
      t[OWNER], t[EPOCH] = o[OWNER], o[EPOCH]
      redis.call('HSET', T, id, cmsgpack.pack(t))
    end
    return
  end
  store(id, before, t, r[3])
end

local function transition(r)
  local id, v, status, at, epoch = r[2], r[3], r[4], r[5], r[8]
  if over > 0 and at <= over then return end
  local before, t = load(id)
  if not t then
    t = blank(r[6], r[7])
    t[WON], t[DEADLINE] = at, at -- not later than
    early_money(id, t)
  end
  local newer = v > t[VERSION]
  if v == t[VERSION] then
    local same = status == t[STATUS]
    newer = epoch > t[EPOCH] or epoch == t[EPOCH] and not same and (HOLDS[status] or 0) > (HOLDS[t[STATUS]] or 0)
    if newer or same and epoch == t[EPOCH] and t[OWNER] == me then clear_note(id, t) end
  end
  if newer then
    t[STATUS], t[VERSION], t[UPDATED], t[OWNER], t[EPOCH] = status, v, at, me, epoch
    if status == 'p' then t[PAYMENT_ID] = r[11] end
    if RELEASED[status] then t[REASON] = r[12] end
  end
  -- What `created` brought belongs to every later version as well.
  if status == 'a' and (newer or v < t[VERSION] and t[PAY_BY] == 0) then
    t[ORDER_ID], t[PAY_BY], t[CREATED] = r[9], r[10], at
  elseif not newer then
    return
  end
  store(id, before, t, r[13])
end

local function late_money(r)
  local id = r[2]
  local packed = redis.call('HGET', T, id)
  if packed and packed ~= 'x' then
    local t = cmsgpack.unpack(packed)
    remember(t, r[3])
    redis.call('HSET', T, id, cmsgpack.pack(t))
    return
  end
  local early = redis.call('HGET', S, 'f' .. id)
  local waiting = blank('', 0)
  waiting[REFUNDS] = early and cmsgpack.unpack(early) or {}
  remember(waiting, r[3])
  redis.call('HSET', S, 'f' .. id, cmsgpack.pack(waiting[REFUNDS]))
end

-- The sale was put to rest: what other logs brought in of the time before goes again.
local function rest(at)
  over = at
  redis.call('HSET', S, 'over', string.format('%.0f', at))
  local old, cursor = {}, '0'
  repeat
    local page = redis.call('HSCAN', T, cursor, 'COUNT', 1000)
    cursor = page[1]
    for i = 1, #page[2], 2 do
      local t = page[2][i + 1] ~= 'x' and cmsgpack.unpack(page[2][i + 1])
      if t and math.max(t[WON], t[UPDATED]) <= at then old[page[2][i]] = t end
    end
  until cursor == '0'
  for id, t in pairs(old) do
    local l, s, r = effect(t)
    live, sold, back = live - l, sold - s, back - r
    if redis.call('ZREM', O, note(id, t)) == 1 and RELEASED[t[STATUS]] then ret = ret - t[QUANTITY] end
    redis.call('HDEL', T, id)
    redis.call('ZREM', D, id)
  end
end

for i = 3, #ARGV do
  local r = cmsgpack.unpack(ARGV[i])
  local kind = r[1]
  if kind == 'O' then
    order(r)
  elseif kind == 'T' then
    transition(r)
  elseif kind == 'F' then
    late_money(r)
  elseif kind == 'R' then
    if redis.call('HSETNX', R, r[2], r[3]) == 1 then
      res = res + r[3]
    elseif redis.call('ZREM', O, 's0:' .. redis.call('HGET', R, r[2]) .. ':' .. r[2]) == 1 then
      ret = ret - r[3]
    end
  elseif kind == 'S' and (born == 0 or r[14] < born or r[14] == born and r[2] > version) then
    -- Made twice, because Redis had lost it: the first counts, whose winners are in the logs.
    version, born = r[2], r[14]
    redis.call('HSET', S, 'v', r[2], 'born', r[14], 'sw', r[3], 'spec', r[4], 'ini', r[5], 'opens', r[6], 'closes', r[7],
      'limit', r[8], 'qmax', r[9], 'cr', r[10], 'deadline', r[11], 'paywin', r[12], 'item', r[13])
    if r[15] > over then rest(r[15]) end
  end
end
if #feed > 0 then redis.call('RPUSH', W, table.concat(feed)) end
local ini = tonumber(redis.call('HGET', S, 'ini'))
redis.call('HSET', S, 'res', res, 'live', live, 'sold', sold, 'back', back, 'ret', ret,
  'av', ini + res - live - sold - ret)
return 'ok'
