-- reapply.lua: brings records of a gateway's log into a paused sale: unconditionally, in any order, any number of times.
--
-- keys   s t b o d w r x a m
-- args   lineage of the recovery, gateway, then records, each a msgpack array:
--        {'S', version, switch, spec, stock, opens, closes, limit, qmax, cr, deadline, paywin, item} a sale
--        {'R', restock id, units}
--        {'O', ticket, hash of the buyer, packed ticket's fields} an order
--        {'T', ticket, version, status, at, buyer, quantity, claim epoch, order id, pay by, payment id, reason} a transition
--        {'F', ticket, payment id} late money
-- reply  'ok', or 'over' when this recovery has ended or another has begun
-- keeps  the newest version of a ticket wins, of equals the highest claim epoch; available may go below zero
local lineage, me = ARGV[1], ARGV[2]
local m = redis.call('HMGET', S, 'paused', 'rec', 'v', 'res', 'live', 'sold', 'back', 'ret')
if not m[1] or m[1] == '' or m[2] ~= lineage then return 'over' end
local version, res, live, sold, back = tonumber(m[3]), tonumber(m[4]), tonumber(m[5]), tonumber(m[6]), tonumber(m[7])
local feed = {}

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

-- Stores a ticket and what follows from its change: units, the buyer's allowance, what is due.
local function store(id, before, t, entry)
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
  if not before then ever = ever + t[QUANTITY] end
  redis.call('HSET', B, t[BUYER], math.max(0, counted) .. ',' .. ever .. ';' .. entries .. (entry or ''))
  redis.call('HSET', T, id, cmsgpack.pack(t))
  if t[STATUS] == 'q' then
    redis.call('ZADD', D, t[DEADLINE], id)
  elseif t[STATUS] == 'a' then
    redis.call('ZADD', D, t[PAY_BY], id)
  else
    redis.call('ZREM', D, id)
  end
end

local function load(id)
  local packed = redis.call('HGET', T, id)
  if packed and packed ~= 'x' then return cmsgpack.unpack(packed), cmsgpack.unpack(packed) end
end

local function order(r)
  local id, o = r[2], r[4]
  local before, t = load(id)
  if not t then
    t = o
  elseif t[WON] == 0 then
    -- Its transitions came first: the order's part is filled in.
    for _, field in ipairs({ WON, DEADLINE, KEY, BODY, ITEM, ATTRIBUTES, PAY_WINDOW }) do t[field] = o[field] end
    if t[VERSION] == 0 then t[STATUS], t[VERSION], t[UPDATED], t[OWNER], t[EPOCH] = 'q', 1, o[UPDATED], o[OWNER], o[EPOCH] end
  else
    if t[VERSION] == 1 and o[EPOCH] > t[EPOCH] then
      redis.call('ZREM', O, note(id, t))
      t[OWNER], t[EPOCH] = o[OWNER], o[EPOCH]
      redis.call('HSET', T, id, cmsgpack.pack(t))
    end
    return
  end
  feed[#feed + 1] = id .. r[3]
  store(id, before, t, id .. (o[KEY] == '' and '----------------' or o[KEY]) .. o[BODY])
end

local function transition(r)
  local id, v, status, at = r[2], r[3], r[4], r[5]
  local before, t = load(id)
  if not t then t = blank(r[6], r[7]) end
  if v == t[VERSION] and r[8] > t[EPOCH] then
    redis.call('ZREM', O, note(id, t))
    t[OWNER], t[EPOCH] = me, r[8]
  elseif v > t[VERSION] then
    t[STATUS], t[VERSION], t[UPDATED], t[OWNER], t[EPOCH] = status, v, at, me, r[8]
  elseif not (status == 'a' and t[CREATED] == 0) then
    return
  end
  if status == 'a' then t[ORDER_ID], t[PAY_BY], t[CREATED] = r[9], r[10], at end
  if status == 'p' then t[PAYMENT_ID] = r[11] end
  if RELEASED[status] then t[REASON] = r[12] end
  store(id, before, t)
end

local function late_money(r)
  local before, t = load(r[2])
  if not t then return end -- its order is in the same log or in another: the money is told of by the log itself
  for _, known in ipairs(t[REFUNDS]) do
    if known == r[3] then return end
  end
  if #t[REFUNDS] == 8 then table.remove(t[REFUNDS], 1) end
  table.insert(t[REFUNDS], r[3])
  t[REFUNDS_EVER] = t[REFUNDS_EVER] + 1
  store(r[2], before, t)
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
    if redis.call('HSETNX', R, r[2], r[3]) == 1 then res = res + r[3] end
  elseif kind == 'S' and r[2] > version then
    version = r[2]
    redis.call('HSET', S, 'v', r[2], 'sw', r[3], 'spec', r[4], 'ini', r[5], 'opens', r[6], 'closes', r[7], 'limit', r[8],
      'qmax', r[9], 'cr', r[10], 'deadline', r[11], 'paywin', r[12], 'item', r[13])
  end
end
if #feed > 0 then redis.call('RPUSH', W, table.concat(feed)) end
local ini = tonumber(redis.call('HGET', S, 'ini'))
redis.call('HSET', S, 'res', res, 'live', live, 'sold', sold, 'back', back, 'av', ini + res - live - sold - tonumber(m[8]))
return 'ok'
