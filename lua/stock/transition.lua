-- transition.lua: tickets move, the stock with them. The state alone decides; a clock can only hold a timer back.
--
-- keys   s t b o d w
-- args   channel, sale, generation, gateway, now (ms), then 3 a transition: ticket, verb, datum.
--        verbs: created (order id) paid (payment id) cancelled rejected failed (reason) expire drop ('')
-- reply  {status, answer …}; status as in batch.lua. An answer is {code, pending, packed ticket, note, from}: code 1 done ·
--        2 repeat · 3 wrong state · 4 wrong state, money to refund, told for the first time · 5 the same again ·
--        6 not due · or 7 no such ticket. Codes 1 and 4 leave a note: append the record, then clear it.
-- keeps  a step is a compare-and-set on the state that moves the units in the same call; a release's units are for sale
--        only when its note is cleared; `from` of an answer is the state before; nothing is due before Redis's time says so
--        too: a gateway whose clock runs ahead ends nothing early
local channel, sale, me, now = ARGV[1], ARGV[2], ARGV[4], tonumber(ARGV[5])
local why = refused(ARGV[3])
if why then return { why } end
local FROM = { paid = 'a', cancelled = 'a', expire = 'a', created = 'q', rejected = 'q', failed = 'q', drop = 'q' }
local TO = { paid = 'p', cancelled = 'c', expire = 'e', created = 'a', rejected = 'r', failed = 'f', drop = 'd' }
local OWN_REASON = { expire = 'pay_window', drop = 'order_deadline' }
local REFUNDS_MAX = 8
local m = redis.call('HMGET', S, 'live', 'ret', 'sold', 'back', 'paywin')
local live, ret, sold, back, pay_window = tonumber(m[1]), tonumber(m[2]), tonumber(m[3]), tonumber(m[4]), tonumber(m[5])
local moved, at = false, clock()
local latest = math.min(now, at)
local due = {} -- ticket -> when, or false when it is not any more

-- Which late money of a ticket a payment was, counted from its first.
local function refund(t, payment)
  for i, known in ipairs(t[REFUNDS]) do
    if known == payment then return t[REFUNDS_EVER] - #t[REFUNDS] + i end
  end
end

-- Who records a step owns the ticket from then on: its log holds the timer.
local function own(t)
  if t[OWNER] ~= me then
    t[OWNER] = me
    t[EPOCH] = t[EPOCH] + 1
  end
end

local function step(id, verb, datum)
  local packed = redis.call('HGET', T, id)
  if not packed or packed == 'x' then return { 7 } end
  local t = cmsgpack.unpack(packed)
  local status, to, reason = t[STATUS], TO[verb], OWN_REASON[verb] or datum
  local function as_it_stands(code) return { code, pending(id, t), packed } end
  local nth = verb == 'paid' and refund(t, datum)
  if nth then return { 5, math.max(pending(id, t), money_pending(id, nth)), packed } end
  if verb == 'drop' and status == 'q' and latest < t[DEADLINE] then return as_it_stands(6) end
  if verb == 'expire' and status == 'a' and latest < t[PAY_BY] then return as_it_stands(6) end
  if status ~= FROM[verb] then
    if verb == 'created' then
      return as_it_stands((status == 'a' or status == 'p') and t[ORDER_ID] == datum and 2 or 3)
    elseif verb ~= 'paid' then
      return as_it_stands(status == to and t[REASON] == reason and 2 or 3)
    elseif status == 'p' and t[PAYMENT_ID] == datum then
      return as_it_stands(2)
    end
    -- Money for a ticket that is not payable: remembered, so that it is told of once.
    if #t[REFUNDS] == REFUNDS_MAX then table.remove(t[REFUNDS], 1) end
    table.insert(t[REFUNDS], datum)
    t[REFUNDS_EVER] = t[REFUNDS_EVER] + 1
    packed = cmsgpack.pack(t)
    local name = 'm' .. id .. ':' .. t[REFUNDS_EVER] .. ':0'
    redis.call('HSET', T, id, packed)
    redis.call('ZADD', O, at, name)
    return { 4, 1, packed, name, status }
  end
  t[STATUS], t[VERSION], t[UPDATED] = to, t[VERSION] + 1, now
  own(t)
  local quantity = t[QUANTITY]
  if verb == 'created' then
    t[ORDER_ID], t[PAY_BY], t[CREATED] = datum, now + pay_window, now
    due[id] = t[PAY_BY]
  else
    due[id] = false
    live = live - quantity
    if verb == 'paid' then
      t[PAYMENT_ID] = datum
      sold = sold + quantity
    else
      t[REASON] = reason
      ret, back = ret + quantity, back + quantity
      local b = redis.call('HGET', B, t[BUYER])
      local counted, rest = string.match(b, '^(%d+)(,.*)$')
      redis.call('HSET', B, t[BUYER], math.max(0, tonumber(counted) - quantity) .. rest)
    end
  end
  packed = cmsgpack.pack(t)
  local name = note(id, t)
  redis.call('HSET', T, id, packed)
  redis.call('ZADD', O, at, name)
  moved = true
  return { 1, 1, packed, name, status }
end

local answers = {}
for i = 6, #ARGV, 3 do answers[#answers + 1] = step(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
if moved then
  redis.call('HSET', S, 'live', live, 'ret', ret, 'sold', sold, 'back', back)
  local over, then_due = {}, {}
  for id, when in pairs(due) do
    if when then
      then_due[#then_due + 1] = when
      then_due[#then_due + 1] = id
    else
      over[#over + 1] = id
    end
  end
  if #over > 0 then redis.call('ZREM', D, unpack(over)) end
  if #then_due > 0 then redis.call('ZADD', D, unpack(then_due)) end
end
return { 'ok', unpack(answers) }
